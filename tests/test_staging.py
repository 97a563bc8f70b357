"""Nodes without the data folder get the driver's samples, once each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import write_pickle
from hosts import Host, why_no_hosts
from processes import TINY, without_times
from ray_hosts import ray_hosts

from pipeline.storage.run_folder import RunFolder
from snn.data.images import load_images
from snn.data.samples import open_samples

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())]

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [*TINY, "--data.dataset", "cifar10", "--network.time-steps", "2"]


def write_cifar10(root: Path) -> None:
    """Files of CIFAR-10's form with few, random images."""
    rng = np.random.default_rng(0)
    for name, number in [*((f"data_batch_{i}", 40) for i in range(1, 6)), ("test_batch", 60)]:
        data = rng.integers(0, 256, (number, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(number)]
        write_pickle(root / "cifar-10-batches-py" / name, data=data, labels=labels)


def hide(root: Path, host: Host) -> None:
    """Makes a folder look empty on a host."""
    (host.folder / "empty").mkdir()
    host.run(["mount", "--bind", str(host.folder / "empty"), str(root)])


def staged(host: Host) -> Path:
    return host.folder / "home" / ".cache" / "autosnn" / "staged"


def test_hosts_without_the_data_folder_get_each_sample_once(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", {name: RunFolder(tmp_path / name) for name in ("cluster", "alone")}
    write_cifar10(root)
    command = ["run", "demo", *SETTINGS, "--data.root", str(root), "--run-dir"]
    launch = [sys.executable, "launch.py", *command, runs["alone"].location]
    subprocess.run(launch, cwd=ROOT, check=True, capture_output=True)
    splits = {split: load_images("cifar10", split, root=root) for split in ("train", "test")}
    with ray_hosts(1, 1, variables={"AUTOSNN_LOG": "info"}) as cluster:
        for worker in cluster.workers:
            hide(root, worker)
        torn = staged(cluster.workers[0]) / f"{splits['train'].fingerprint}.arrow"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(splits["train"].file.read_bytes()[:-1000])
        driver = cluster.start_driver([*command, runs["cluster"].location], tmp_path / "out")
        assert driver.wait(timeout=300) == 0, (tmp_path / "out").read_text()
        for worker in cluster.workers:
            assert {path.stem for path in staged(worker).glob("*.arrow")} == {
                data.fingerprint for data in splits.values()
            }
            for data in splits.values():
                copy = open_samples(staged(worker) / f"{data.fingerprint}.arrow")
                assert np.array_equal(copy.samples, data.samples)
            logs = [path.read_text(errors="replace") for path in (worker.folder / "t").rglob("worker-*.err")]
            for split in splits:
                assert sum(log.count(f"fetching {split} samples") for log in logs) == 1
    assert without_times(runs["cluster"].read_evaluations()) == without_times(
        runs["alone"].read_evaluations()
    )
    assert runs["cluster"].read_retrained(0).test == runs["alone"].read_retrained(0).test
