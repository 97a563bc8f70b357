"""The wheel holds the whole product: installed apart from the checkout, it shows its help and evaluates."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config.named import named_config
from pipeline.data import load_data
from pipeline.networks import make_network
from pipeline.storage.records import Cost, SupernetResult
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("snn", "pipeline", "cluster")
TO_COPY = {".md", ".yaml", ".sh", ""}  # suffixes of the files in cluster/ that people copy from the checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    files = ["pyproject.toml", "README.md", "LICENSE", "launch.py", *SOURCES]
    copy.mkdir()
    subprocess.run(["cp", "-r", *files, str(copy)], cwd=ROOT, check=True)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    (built,) = folder.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--no-input", *arguments], check=True)


def test_wheel_holds_every_module_and_every_file_that_they_read(wheel: Path) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for source in SOURCES
        for path in (ROOT / source).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".png"}
        if not (path.parent.name == "cluster" and path.suffix in TO_COPY)
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] in SOURCES}
    assert held == expected
    assert {"snn/py.typed", "pipeline/py.typed", "snn/kernels/event_driven.c"} <= held


def test_installed_apart_it_shows_its_help_and_evaluates(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--no-deps", "--target", str(installed), str(wheel))
    run = make_run(tmp_path / "run")

    def launch(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(installed)}
        command = [sys.executable, "-P", "-m", "launch", *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "--search.algorithm" in launch("demo", "--help")
    assert "#SBATCH" in launch("cluster", "render", "slurm", "demo")
    assert "SynOps" in launch("evaluate", str(run.path), "--architecture", "autosnn")
    launch("report", str(run.path))
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "<style>" in page and "Plotly" in page and "Accuracy against spikes" in page


def make_run(path: Path) -> RunFolder:
    """A run folder with a tiny super-network of random weights."""
    config = named_config("demo")
    config = replace(
        config,
        data=replace(config.data, max_train_samples=60, max_test_samples=20),
        network=replace(config.network, channels=2),
    )
    run = RunFolder(path)
    run.write_config(config)
    data = load_data(config)
    with torch.no_grad():
        weights = make_network(config.network, data).state_dict()
    sha256 = run.write_supernet_weights(weights)
    run.write_supernet(SupernetResult("random", sha256, 1000.0, len(data.supernet_train()), 12, 0, Cost()))
    return run
