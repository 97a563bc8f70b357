"""Data-parallel training through Ray Train: survives lost workers, goes on with another number of them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from disturbed import ROOT, tiny_config
from processes import kill_family, wait_until
from two_nodes import small_cluster

from pipeline.config.training import TrainingConfig
from pipeline.run import open_run
from pipeline.storage.run_folder import RunFolder

NUM_EPOCHS = 8
LONG = 2000  # epochs that nobody waits for


class Training:
    """Stage 1 of a run in a process of its own."""

    def __init__(self, path: Path, *workers: int, epochs: int = NUM_EPOCHS) -> None:
        config = tiny_config()
        self.run = RunFolder(path)
        self.log = path.with_suffix(".log")
        supernet = dataclasses.replace(config.supernet, epochs=epochs, batch_size=20, checkpoint_every=2)
        training = TrainingConfig(workers=workers)
        open_run(
            self.run,
            dataclasses.replace(config, training_threads=1, supernet=supernet, training=training),
        )
        self.driver: subprocess.Popen[str] | None = None

    def start(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "launch.py", "train-supernet", str(self.run.path), *arguments]
        with self.log.open("a") as log:
            self.driver = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log, text=True
            )

    def wait_for_checkpoint(self, *, other_than: bytes | None = None) -> bytes:
        """A state that was kept."""
        wait_until(lambda: self.run.read_checkpoint(None) not in (None, other_than), what="a checkpoint")
        state = self.run.read_checkpoint(None)
        assert state is not None
        return state

    def finish(self) -> None:
        assert self.driver is not None
        assert self.driver.wait(150) == 0, self.said()

    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> None:
        if self.driver is not None:
            kill_family(self.driver)

    def ranks(self) -> list[psutil.Process]:
        """The processes of the ranks."""
        assert self.driver is not None
        family = psutil.Process(self.driver.pid).children(recursive=True)
        return [p for p in family if "RayTrainWorker" in " ".join(p.cmdline())]

    def history(self) -> list[dict[str, Any]]:
        """What was measured in each epoch, but for times."""
        epochs = self.run.read_supernet().history
        return [vars(dataclasses.replace(epoch, seconds=0.0)) for epoch in epochs]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    training = Training(tmp_path / "run", 2)
    yield training
    training.stop()


@pytest.mark.slow
def test_killed_rank_changes_nothing(training: Training, tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole", 2)
    whole.start()
    whole.finish()
    training.start()
    training.wait_for_checkpoint()
    training.ranks()[0].kill()
    training.finish()
    assert "super-network with 2 workers, from its last epoch on" in training.said()
    assert training.history() == whole.history()
    assert training.run.read_supernet().weights_sha256 == whole.run.read_supernet().weights_sha256
    assert len(training.history()) == NUM_EPOCHS and training.history()[-1]["spikes"] > 0


@pytest.mark.slow
def test_goes_on_with_another_number_of_workers(training: Training) -> None:
    training.start()
    training.wait_for_checkpoint()
    training.stop()
    training.start("--training.workers", "1")
    training.finish()
    assert len(training.history()) == NUM_EPOCHS
    assert "super-network with 2 workers" in training.said()


@pytest.mark.long
def test_goes_on_without_a_lost_node(tmp_path: Path) -> None:
    training = Training(tmp_path / "run", 1, 2)
    with small_cluster() as (cluster, address, _second, ours):
        training.start("--ray.address", address, **ours)
        try:
            training.wait_for_checkpoint()
            cluster.stdin.write("remove\n")
            cluster.stdin.flush()
            training.finish()
        finally:
            training.stop()
    said = training.said()
    assert said.index("super-network with 2 workers") < said.index(
        "super-network with 1 worker, from its last"
    )
    assert len(training.history()) == NUM_EPOCHS


@pytest.mark.long
def test_takes_a_node_that_joins(tmp_path: Path) -> None:
    """Ray Train looks for room for more workers once a minute."""
    training = Training(tmp_path / "run", 1, 2, epochs=LONG)
    with small_cluster() as (cluster, address, _second, ours):
        cluster.stdin.write("remove\n")
        cluster.stdin.flush()
        training.start("--ray.address", address, **ours)
        try:
            training.wait_for_checkpoint()
            assert "super-network with 1 worker" in training.said()
            cluster.stdin.write("add\n")
            cluster.stdin.flush()
            wait_until(lambda: "with 2 workers, from its last" in training.said(), seconds=150)
            state = training.wait_for_checkpoint()
            training.wait_for_checkpoint(other_than=state)
        finally:
            training.stop()
