"""A finished super-network can be taken over by another run, if it is the one that run would train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.ray.session import Resources
from pipeline.run import open_run, run_all
from pipeline.storage.names import SUPERNET, SUPERNET_WEIGHTS
from pipeline.storage.records import Cost, EpochRecord, SupernetResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.job import Trained
from pipeline.training.outcome import Outcome
from pipeline.training.supernet import reuse_supernet, train_supernet
from snn.training.trainer import TrainingDiverged

CONFIG = named_config("demo")


@pytest.fixture
def trained(tmp_path: Path) -> RunFolder:
    """A run of CONFIG that has finished stage 1."""
    run = RunFolder(tmp_path / "trained")
    open_run(run, CONFIG)
    sha256 = run.write_supernet_weights({"w": torch.arange(5.0)})
    run.write_supernet(SupernetResult("trained", sha256, 4000.0, 10, 5, 5, Cost()))
    return run


def with_search(config: Config) -> Config:
    """The same super-network, searched and retrained otherwise and elsewhere."""
    search = replace(config.search, algorithm="random", max_evaluations=7)
    return replace(config, search=search, threads_per_worker=2, ray=replace(config.ray, num_workers=3))


def test_weights_and_reference_are_taken_over_for_another_search(trained: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "other")
    reuse_supernet(run, load_data(with_search(CONFIG)), trained)
    assert torch.equal(run.read_supernet_weights()["w"], torch.arange(5.0))
    before, now = trained.read_supernet(), run.read_supernet()
    assert str(trained.path) in now.source
    assert replace(now, source=before.source) == before


@pytest.mark.parametrize(
    ("setting", "config"),
    [
        ("seed", replace(CONFIG, seed=5)),
        ("network.channels", replace(CONFIG, network=replace(CONFIG.network, channels=12))),
        ("supernet.epochs", replace(CONFIG, supernet=replace(CONFIG.supernet, epochs=99))),
        ("data.train_fraction", replace(CONFIG, data=replace(CONFIG.data, train_fraction=0.7))),
    ],
)
def test_another_training_is_refused_and_leaves_nothing(
    setting: str, config: Config, trained: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"(?s){setting}: .* asked for.*--reuse-supernet"):
        run_all(RunFolder(tmp_path / "other"), config, trained)
    assert not (tmp_path / "other").exists()


def test_other_data_of_the_same_name_are_refused(trained: RunFolder, tmp_path: Path) -> None:
    environment = trained.read_environment()
    split = replace(environment.data["D_train"], fingerprint="0" * 64)
    trained.write_environment(replace(environment, data={**environment.data, "D_train": split}))
    with pytest.raises(ValueError, match="hash of the data"):
        reuse_supernet(RunFolder(tmp_path / "other"), load_data(CONFIG), trained)


def test_damaged_and_missing_weights_are_named(trained: RunFolder, tmp_path: Path) -> None:
    (trained.path / SUPERNET_WEIGHTS).write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="SHA-256"):
        reuse_supernet(RunFolder(tmp_path / "other"), load_data(CONFIG), trained)
    (trained.path / SUPERNET).unlink()
    with pytest.raises(FileNotFoundError, match="train-supernet"):
        reuse_supernet(RunFolder(tmp_path / "other"), load_data(CONFIG), trained)


def test_silent_supernet_is_refused_with_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reference of 0 would end the search, in a folder whose threshold cannot be changed any more."""
    history = (EpochRecord(epoch=1, loss=0.1, train_accuracy=0.1, spikes=0.0, seconds=1.0),)
    silent = Trained(Outcome({}, 1), history, 5, 10, 5, Cost())

    def train(_run: RunFolder, plans: list, on_trained, **_options) -> None:
        on_trained(plans[0], silent)

    monkeypatch.setattr("pipeline.training.supernet.run_trainings", train)
    resources = Resources(1, 0.0, 2, 0, cpus_per_node=2, gpus_per_node=0.0)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match=r"fires no spikes.*network\.v_threshold \(1\)"):
        train_supernet(run, CONFIG, resources)
    assert not run.has_supernet()
