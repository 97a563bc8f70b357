"""Scores without a super-network: short trainings and what initial weights tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toys import make_active_network, make_network

from pipeline.config.named import named_config
from pipeline.config.tree import Config, DataConfig
from pipeline.data import load_data
from pipeline.search import short_training
from pipeline.search.engine import choose_search_engine
from pipeline.search.short_training import ShortTraining, train_shortly, untrained_reference
from snn.engines.engine import EngineSpec
from snn.fitness import Evaluation
from snn.search_space import Architecture
from snn.training.at_initialisation import measure_at_initialisation
from snn.training.trainer import TrainingDiverged

ARCHITECTURE = Architecture(("SRB_k3", "skip_connect", "SCB_k3", "SRB_k5", "SCB_k5"))
CPU = torch.device("cpu")


def make_config(**search) -> Config:
    demo = named_config("demo")
    return replace(
        demo,
        data=DataConfig(dataset="digits", flip=False, max_train_samples=120, max_test_samples=20),
        network=replace(demo.network, channels=4),
        search=replace(demo.search, scoring="short_training", training_samples=192, **search),
    )


def engine_of(config: Config) -> EngineSpec:
    return choose_search_engine(config, "cpu", load_data(config))


@pytest.mark.parametrize("statistics", ["stored", "recalibrated"])
def test_measuring_at_rungs_does_not_disturb_the_training(statistics: str) -> None:
    """Over more than one epoch (100 samples of D_train), a training with rungs ends as one without."""
    config = make_config(rungs=4, reduction_factor=2.0, statistics=statistics)
    data = load_data(config)
    with_rungs = list(train_shortly(engine_of(config), config, data, ARCHITECTURE, CPU))
    assert len(with_rungs) == 4 and len(data.supernet_train()) == 100
    for rungs in (1, 2):
        last = replace(config, search=replace(config.search, rungs=rungs))
        assert list(train_shortly(engine_of(last), last, data, ARCHITECTURE, CPU))[-1] == with_rungs[-1]
    assert with_rungs[0] != with_rungs[-1]


def test_training_that_fails_is_an_answer_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_):
        yield Evaluation(0.2, 100.0, 0.1, 24)
        raise TrainingDiverged("The loss became NaN.")

    monkeypatch.setattr(short_training, "train_shortly", diverges)
    config = make_config(rungs=3)
    scorer = ShortTraining(engine_of(config), "cpu").load(config, load_data(config))
    [([first], over), ([last], ended)] = list(scorer.score([(7, ARCHITECTURE)], None, None))
    assert not over and [rung.accuracy for rung in first.rungs] == [0.2]
    assert ended and last.candidate_id == 7 and last.error == "TrainingDiverged: The loss became NaN."


def test_reference_is_the_same_again_and_near_what_networks_fire() -> None:
    config = make_config(rungs=1)
    data = load_data(config)
    reference = untrained_reference(config, data)
    assert reference == untrained_reference(config, data) == float(f"{reference:.2g}")
    [evaluation] = train_shortly(engine_of(config), config, data, ARCHITECTURE, CPU)
    assert 0.2 < evaluation.spikes / reference < 5
    silent = replace(config, network=replace(config.network, v_threshold=1e6))
    with pytest.raises(ValueError, match=r"network\.v_threshold"):
        untrained_reference(silent, data)


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (3, 6, 3, 16, 16)], ids=["images", "frames"])
def test_kernel_of_spike_patterns_tells_samples_apart(shape: tuple[int, ...]) -> None:
    network = make_active_network()
    path = Architecture(("SRB_k3",) * 5)
    different = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    alike = different.clone()
    alike[..., 3, :, :, :] = alike[..., 0, :, :, :]
    told, not_told = (
        measure_at_initialisation(network, path, x).hamming_distance for x in (different, alike)
    )
    assert told > not_told + 1


def test_operations_are_those_of_the_dense_layers() -> None:
    """The stem has 3 * 3 * 3 weights a channel on 16 x 16 positions; a skip adds none."""
    network, inputs = make_network(), torch.rand(4, 3, 16, 16)
    skips = measure_at_initialisation(network, Architecture(("skip_connect",) * 5), inputs)
    one_block = Architecture(("SCB_k3", *("skip_connect",) * 4))
    more = measure_at_initialisation(network, one_block, inputs)
    channels = network.stem.conv.out_channels
    positions = 16 * 16
    assert skips.operations >= channels * 27 * positions
    assert more.operations - skips.operations == 2 * channels * channels * 9 * positions
    assert more.spikes > skips.spikes
