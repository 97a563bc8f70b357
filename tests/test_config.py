"""Settings: every named config is sound, every bad value has its error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.named import CONFIGS, named_config
from pipeline.config.search import SearchConfig
from pipeline.config.tree import (
    Config,
    DataConfig,
    NetworkConfig,
    RayConfig,
    RetrainConfig,
    SupernetConfig,
    config_from_json,
    list_differences,
)


@pytest.mark.parametrize("name", CONFIGS)
def test_named_config_survives_json(name: str) -> None:
    config = named_config(name)
    assert config.name == name
    assert config_from_json(json.loads(json.dumps(config.to_json()))) == config


def test_paper_settings_are_the_defaults() -> None:
    config = named_config("cifar10")
    assert (config.supernet.epochs, config.supernet.batch_size, config.supernet.learning_rate) == (
        600,
        96,
        1e-3,
    )
    search = config.search
    assert (search.population_size, search.num_parents, search.num_mutants) == (20, 10, 10)
    assert (search.max_evaluations, search.mutation_probability, search.spike_exponent) == (400, 0.2, -0.08)
    assert (config.network.time_steps, config.data.train_fraction) == (8, 0.8)
    assert len(config.network.search_space()) == 3125


def test_settings_added_later_change_no_identity_at_their_neutral_value() -> None:
    config = named_config("cifar10")
    identity = config.identity()
    assert not {"network.moments", "supernet.shared_kernels"} & set(identity)
    other = replace(config, supernet=replace(config.supernet, shared_kernels=True))
    assert other.identity() == identity | {"supernet.shared_kernels": True}
    for there, asked, line in (
        (config, other, "  supernet.shared_kernels: unset there, True asked for"),
        (other, config, "  supernet.shared_kernels: True there, unset asked for"),
    ):
        assert list_differences(there.identity(), asked.identity()) == line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: named_config("cifar11"), r"Unknown config 'cifar11'; choose from: demo, cifar10"),
        (lambda: NetworkConfig(time_steps=0), r"network\.time_steps must be at least 1, got 0"),
        (lambda: NetworkConfig(blocks=("SRB_k9",)), r"Unknown block 'SRB_k9'; choose from"),
        (lambda: NetworkConfig(init_tau=1.0), r"network\.init_tau must be above 1, got 1\.0"),
        (lambda: NetworkConfig(v_threshold=0), r"network\.v_threshold must be at least 1\.17549e-38, got 0"),
        (lambda: SearchConfig(population_size=1), r"search\.population_size must be at least 2, got 1"),
        (lambda: SearchConfig(num_parents=21), r"search\.num_parents must not exceed .*\(20\), got 21"),
        (lambda: SearchConfig(num_mutants=21), r"search\.num_mutants must not exceed .*\(20\), got 21"),
        (
            lambda: SearchConfig(mutation_probability=0),
            r"search\.mutation_probability must be above 0, got 0",
        ),
        (
            lambda: DataConfig(dataset="cifar11"),
            r"data\.dataset must be one of digits, cifar10, .*, got 'cifar11'\. Did you mean 'cifar10'\?",
        ),
        (
            lambda: config_from_json({"data": {"dataset": "cifar11"}}),
            r"data\.dataset must be one of digits, cifar10, .*, got 'cifar11'",
        ),
        (lambda: DataConfig(train_fraction=1.0), r"data\.train_fraction must be at most 0\.999999, got 1\.0"),
        (lambda: DataConfig(max_train_samples=0), r"data\.max_train_samples must be at least 2, got 0"),
        (lambda: SupernetConfig(epochs=0), r"supernet\.epochs must be at least 1, got 0"),
        (
            lambda: SupernetConfig(learning_rate=0),
            r"supernet\.learning_rate must be at least 1\.17549e-38, got 0",
        ),
        (lambda: RetrainConfig(val_fraction=0), r"retrain\.val_fraction must be at least 1e-06, got 0"),
        (lambda: RetrainConfig(architectures=()), r"need at least one entry each"),
        (lambda: RayConfig(num_workers=0), r"ray\.num_workers must be at least 1, got 0"),
        (lambda: RayConfig(gpus_per_worker=1.5), r"ray\.gpus_per_worker must be a whole number .*got 1\.5"),
        (lambda: RayConfig(gpus_per_worker=1e-5), r"ray\.gpus_per_worker must .*at least 0\.0001, got 1e-05"),
        (lambda: DataConfig(window_ms=1e-4), r"data\.window_ms must be at least 0\.001 ms, or 0"),
        (lambda: SupernetConfig(batch_size=1), r"supernet\.batch_size must be at least 2, got 1"),
        (lambda: RetrainConfig(batch_size=1), r"retrain\.batch_size must be at least 2, got 1"),
        (lambda: NetworkConfig(blocks=("SCB_k3",) * 2), r"network\.blocks must be different from each other"),
        (lambda: SearchConfig(max_spikes=-5), r"search\.max_spikes must be above 0, got -5"),
        (lambda: SearchConfig(max_spikes=0.0), r"search\.max_spikes must be above 0, got 0\.0"),
        (
            lambda: Config(retrain=RetrainConfig(architectures=("all-SRB_k3", "-".join(["SRB_k3"] * 5)))),
            r"retrain\.architectures must be different from each other.*'all-SRB_k3', 'SRB_k3-SRB_k3",
        ),
        (
            lambda: Config(retrain=RetrainConfig(architectures=("SRB_k3",))),
            "has 1 blocks; this backbone has 5",
        ),
        (lambda: config_from_json({"serach": {}}), "serach is unknown"),
        (lambda: config_from_json({"search": {"lambda": 1}}), r"search\.lambda is unknown"),
        (lambda: DataConfig(downsample=0), r"data\.downsample must be at least 1, got 0"),
        (lambda: DataConfig(max_count=256), r"data\.max_count must be at most 255, got 256"),
        (
            lambda: config_from_json({"supernet": {"epochs": "5"}}),
            r"supernet\.epochs must be a whole number, got '5'",
        ),
        (
            lambda: config_from_json({"supernet": {"epochs": 5.5}}),
            r"supernet\.epochs must be a whole number, got 5\.5",
        ),
        (lambda: config_from_json({"data": {"flip": 1}}), r"data\.flip must be true or false, got 1"),
        (
            lambda: config_from_json({"data": {"sensor_size": [1, "2"]}}),
            r"data\.sensor_size\[1\] must be a whole",
        ),
        (
            lambda: config_from_json({"search": {"engine": "gpu"}}),
            r"search\.engine must be one of auto, event_driven",
        ),
        (lambda: config_from_json({"search": 1}), r"search must be an object, got 1"),
        (
            lambda: config_from_json({"training": {"workers": [3, 2]}}),
            r"training\.workers must be one number of workers, or the least and the most, got 3 2",
        ),
        (
            lambda: config_from_json({"training": {"retrain_workers": [1, 97]}}),
            r"training\.retrain_workers must be at most retrain\.batch_size \(96\), .*; got 97",
        ),
        (
            lambda: config_from_json({"supernet": {"epochs": 0}}),
            r"supernet\.epochs must be at least 1, got 0",
        ),
    ],
)
def test_bad_value_is_named_with_what_was_expected(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_lambda_above_zero_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="REWARDS spikes"):
        SearchConfig(spike_exponent=0.1)


def test_identity_leaves_out_where_things_run_and_lie() -> None:
    config = named_config("demo")
    moved = replace(
        config,
        ray=RayConfig(address="auto", num_workers=64),
        data=replace(config.data, root=Path("elsewhere"), download=True),
    )
    assert moved.identity() == config.identity()
    assert replace(config, seed=1).identity() != config.identity()


def test_exhaustive_search_of_a_large_space_is_refused_at_the_door_and_may_be_allowed() -> None:
    network, search = NetworkConfig(backbone="SNN_3"), SearchConfig(algorithm="exhaustive")
    with pytest.raises(ValueError, match=r"390,625 arch.*488,280 block evaluations.*125 times.*evolution"):
        Config(network=network, search=search)
    retrain = RetrainConfig(architectures=("best",))
    Config(network=network, search=replace(search, max_evaluations=390_625), retrain=retrain)
    Config(search=search)


def test_exhaustive_search_by_short_trainings_is_refused_unless_its_length_is_named() -> None:
    search = SearchConfig(algorithm="exhaustive", scoring="short_training", max_evaluations=100)
    with pytest.raises(ValueError, match=r"trains all 3,125 .*--search.scoring supernet"):
        Config(search=search)
    Config(search=replace(search, max_evaluations=3125))


def test_rungs_end_with_the_whole_training() -> None:
    search = SearchConfig(scoring="short_training", rungs=3, reduction_factor=4.0)
    assert search.rung_samples(8000) == [500, 2000, 8000]
    assert replace(search, training_samples=160).rung_samples(8000) == [10, 40, 160]
    assert replace(search, training_samples=3).rung_samples(8000) == [1, 1, 3]


def test_racing_that_would_do_nothing_is_told() -> None:
    with pytest.warns(UserWarning, match="racing is ignored"):
        SearchConfig(algorithm="nsga2", racing=True)
    with pytest.warns(UserWarning, match="racing is ignored"):
        SearchConfig(scoring="short_training", racing=True)
