"""Whole runs in an object store: killed and resumed elsewhere, two drivers, a wrong secret, an outage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hosts import Network, network, why_no_hosts
from objectstore import BUCKET, Store, object_store
from processes import TINY, kill_family, stop_workers, wait_until, without_times

import snn
from pipeline.storage.files import Files, read_bytes
from pipeline.storage.names import EVALUATION_PARTS, SUPERNET_WEIGHTS
from pipeline.storage.run_folder import RunFolder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def lab() -> Iterator[Network | None]:
    if why_no_hosts():
        yield None
    else:
        with network() as made:
            yield made


@pytest.fixture(scope="module")
def store(lab: Network | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with object_store(tmp_path_factory.mktemp("store"), lab.address if lab else "127.0.0.1") as made:
        yield made


@pytest.fixture
def elsewhere(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a user whose cache is empty; the test itself reads the store with it."""
    environment = {**store.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]


def run_tiny(*arguments: object) -> list[str]:
    return command("run", "demo", *TINY, "--ray.num-workers", 2, *arguments)


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run in a local folder."""
    run = RunFolder(tmp_path_factory.mktemp("whole") / "demo")
    subprocess.run(run_tiny("--run-dir", run), check=True, capture_output=True)
    return run


def names(files: Files) -> list[str]:
    """Names of a run's files, without what tells drivers and the writers of curves apart."""
    return sorted({name.partition("events.out")[0] for name in files.list("") if name != "driver.json"})


def assert_same(run: RunFolder, whole: RunFolder) -> None:
    """All that the runs measured is the same, and neither has files that the other lacks."""
    assert names(run.files) == names(whole.files)
    assert read_bytes(run.files, SUPERNET_WEIGHTS) == read_bytes(whole.files, SUPERNET_WEIGHTS)
    assert without_times(run.read_evaluations()) == without_times(whole.read_evaluations())
    assert run.retrained_weights(0) == whole.retrained_weights(0)
    assert run.read_best().best.architecture == whole.read_best().best.architecture


def test_store_may_be_away_while_a_run_trains_and_searches(
    store: Store, elsewhere: dict[str, str], whole: RunFolder, tmp_path: Path
) -> None:
    run = RunFolder(f"s3://{BUCKET}/away/demo")
    driver = start(run_tiny("--storage", f"s3://{BUCKET}/away"), tmp_path)
    try:
        wait_until(lambda: run.files.exists("supernet_checkpoint.pt") or run.has_supernet())
        store.away(20)
        wait_until(lambda: run.files.list(EVALUATION_PARTS) or run.has_best())
        store.away(20)
        output, errors = driver.communicate(timeout=200)
    finally:
        kill_family(driver)
    assert driver.returncode == 0, output + errors
    assert "Traceback" not in errors
    assert_same(run, whole)
    assert not list((tmp_path / "cache" / "autosnn" / "unwritten").rglob("*.*"))


def test_killed_run_resumes_on_another_host_with_nothing_but_its_uri(
    store: Store, elsewhere: dict[str, str], whole: RunFolder, tmp_path: Path, lab: Network | None
) -> None:
    location = f"s3://{BUCKET}/killed/demo"
    run = RunFolder(location)
    driver = start(run_tiny("--run-dir", location), tmp_path)
    try:
        wait_until(lambda: len(run.files.list(EVALUATION_PARTS)) >= 3)
        stop_workers(driver)  # or it might have finished before the second one asks
        second = subprocess.run(
            command("search", location), cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert second.returncode == 2 and f"'{location}' is driven by process {driver.pid}" in second.stderr
    finally:
        kill_family(driver)
    kept = {row.architecture for row in run.read_evaluations()}
    if lab is None:
        subprocess.run(run_tiny("--run-dir", location), cwd=tmp_path, check=True, capture_output=True)
    else:
        host = lab.host("other")
        own = {"XDG_CACHE_HOME": str(host.folder / "cache")}
        said = host.run(run_tiny("--run-dir", location), {**store.environment, **own}).stdout
        assert "1/3 super-network: already finished" in said
        host.run(command("report", location), {**store.environment, **own})
    assert kept and kept <= {row.architecture for row in run.read_evaluations()}
    assert_same(run, whole)
    pictures = list(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8))
    spikes = [snn.load(f"{it}/retrained/0").predict(pictures).spikes for it in (location, whole)]
    assert spikes[0].any() and (spikes[0] == spikes[1]).all()
    secret = store.environment["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [name for name in run.files.list("") if secret in read_bytes(run.files, name)]


def test_wrong_secret_is_said_before_any_work(elsewhere: dict[str, str], tmp_path: Path) -> None:
    wrong = {**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}
    done = subprocess.run(
        run_tiny("--storage", f"s3://{BUCKET}/wrong"), cwd=tmp_path, env=wrong, capture_output=True, text=True
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(
        f"error: 's3://{BUCKET}/wrong/demo/driver.json' is refused by the store: check"
    )
