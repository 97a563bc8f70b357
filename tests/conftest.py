"""Small networks and the reference data that several tests share."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pipeline.storage.names import CONFIG, SUPERNET, SUPERNET_WEIGHTS
from pipeline.storage.run_folder import RunFolder

if TYPE_CHECKING:  # it needs torch
    from disturbed import Search

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure() -> None:
    """Before torch is loaded: threads of several processes that wait for each other starve all of them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with real clusters get a second try, listed as RERUN: busy machines exceed Ray's time-outs."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def ray_s_variables_are_restored() -> Iterator[None]:
    """What a test in this process sets for Ray must not reach the clusters of later tests."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    yield
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def shared() -> Path:
    """Folder of real data and reference files beside the project; tests skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data: the folder '{SHARED.name}' beside the project is absent")
    return SHARED


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A small search that is undisturbed."""
    from disturbed import NUM_EVALUATIONS, Search, tiny_config, write_supernet

    folder = tmp_path_factory.mktemp("whole")
    search = Search(RunFolder(folder / "run"), folder / "faults")
    write_supernet(search.run, tiny_config())
    search.finish()
    table = search.table()
    assert len(table) == NUM_EVALUATIONS and not any(row["error"] for row in table)
    assert len({row["spikes"] for row in table}) > NUM_EVALUATIONS // 2
    assert len({row["accuracy"] for row in table}) > 3
    return search


@pytest.fixture
def disturbed(whole: Search, tmp_path: Path) -> Iterator[Search]:
    """The same search before its start."""
    from disturbed import Search

    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in (CONFIG, SUPERNET, SUPERNET_WEIGHTS):
        shutil.copy(whole.run.path / name, run.path)
    search = Search(run, tmp_path / "faults")
    yield search
    for process in search.processes():  # a test that failed half-way
        with contextlib.suppress(psutil.Error):
            process.kill()
