"""What a run is said to take beforehand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.config.budget import BudgetConfig
from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.config.training import TrainingConfig
from pipeline.data import load_data
from pipeline.dry_run import Speeds, dry_run, estimate_bytes, estimate_stages
from pipeline.networks import make_network
from pipeline.storage.run_folder import RunFolder

DEMO = named_config("demo")
CONFIG = dataclasses.replace(DEMO, ray=dataclasses.replace(DEMO.ray, num_workers=4))
SPEEDS = Speeds(supernet=100.0, child=50.0, evaluation=1000.0)


def seconds(config=CONFIG, speeds=SPEEDS) -> dict[str, float]:
    return {stage.name: stage.seconds for stage in estimate_stages(config, load_data(config), speeds)}


def test_super_network_takes_its_samples_times_its_paths() -> None:
    num_train = len(load_data(CONFIG).supernet_train())
    assert seconds()["super-network"] == pytest.approx(15 * num_train / 100)
    fair = dataclasses.replace(CONFIG, supernet=dataclasses.replace(CONFIG.supernet, path_sampling="fair"))
    assert seconds(fair)["super-network"] == pytest.approx(5 * 15 * num_train / 100)
    together = dataclasses.replace(CONFIG, training=TrainingConfig(workers=(1, 3)))
    assert seconds(together)["super-network"] == pytest.approx(5 * num_train / 100)


def test_search_shares_its_candidates_out() -> None:
    num_val = len(load_data(CONFIG).search_val())
    assert seconds()["search"] == pytest.approx(60 * num_val / 1000 / 4)


def test_short_trainings_are_dropped_at_rungs() -> None:
    search = SearchConfig(
        scoring="short_training",
        statistics="stored",
        training_samples=400,
        rungs=2,
        reduction_factor=4.0,
        max_evaluations=64,
    )
    config = dataclasses.replace(CONFIG, search=search)
    num_val = len(load_data(config).search_val())
    trained = 64 * 100 + 16 * 300
    assert seconds(config)["search"] == pytest.approx((trained / 50 + 80 * num_val / 1000) / 4)
    assert "super-network" not in seconds(config)


def test_networks_of_stage_3_are_trained_as_many_at_once_as_fit() -> None:
    three = dataclasses.replace(CONFIG.retrain, architectures=("best",), seeds=(0, 1, 2, 3, 4))
    one = dataclasses.replace(CONFIG.retrain, architectures=("best",), seeds=(0,))
    of_five = seconds(dataclasses.replace(CONFIG, retrain=three))["retraining"]
    of_one = seconds(dataclasses.replace(CONFIG, retrain=one))["retraining"]
    assert of_five == pytest.approx(2 * of_one)


def test_disk_holds_what_a_run_writes() -> None:
    data = load_data(CONFIG)
    network = make_network(CONFIG.network, data)
    needed, prepared = estimate_bytes(CONFIG, data, network)
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    assert needed > 4 * weights
    assert prepared == data.train.samples.nbytes + data.test.samples.nbytes


def test_says_hours_dollars_and_disk_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.dry_run.measure_speeds", lambda *_: SPEEDS)
    budget = BudgetConfig(max_hours=0.01, max_dollars=0.01, prices=("node=3.0",))
    dry_run(RunFolder(tmp_path / "run"), dataclasses.replace(CONFIG, budget=budget))
    said = capsys.readouterr().out
    for text in ("super-network", "search", "retraining", "dollars", "GB free", "max-hours 0.01"):
        assert text in said
    assert not list(tmp_path.iterdir())


def test_measures_speeds_of_the_run_s_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.dry_run._SECONDS_OF_A_MEASUREMENT", 0.2)
    small = dataclasses.replace(CONFIG.data, max_train_samples=60)  # one batch an epoch
    dry_run(RunFolder(tmp_path / "run"), dataclasses.replace(CONFIG, data=small, training_threads=1))
    assert "Measured on this machine" in capsys.readouterr().out
