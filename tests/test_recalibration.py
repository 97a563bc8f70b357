"""Recalibrated statistics depend on the architecture alone, however many are evaluated together."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn
from toys import make_active_network, make_batch, require_kernels

from snn.engines.dense import MeasuringDenseNetwork
from snn.engines.event_statistics import MeasuringEventDrivenNetwork
from snn.engines.event_weights import fold
from snn.engines.recalibration import RecalibratedNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork
from snn.search_space import AUTOSNN_BLOCKS, Architecture, SearchSpace

require_kernels()


def recalibrated(
    network: SpikingNetwork, calibration: torch.Tensor, engine: str = "event_driven"
) -> RecalibratedNetwork:
    if engine == "dense":
        return RecalibratedNetwork(MeasuringDenseNetwork(network), calibration)
    arrays = fold(network, norms_apart=True)
    return RecalibratedNetwork(MeasuringEventDrivenNetwork(network, arrays), calibration)


both_engines = pytest.mark.parametrize("engine", ["event_driven", "dense"])


def recalibrated_by_torch(network: SpikingNetwork, architecture: Architecture, calibration: torch.Tensor):
    """The network after a pass in training mode whose statistics replace the stored ones."""
    changed = copy.deepcopy(network).train()
    changed.stem.eval()
    for module in changed.modules():
        if isinstance(module, nn.BatchNorm2d) and module is not changed.stem.norm:
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        changed(calibration, architecture)
    return changed.eval()


@both_engines
@pytest.mark.parametrize("backbone", ["AutoSNN", "SNN_3"])
def test_statistics_equal_those_of_a_training_pass_on_the_calibration_samples(
    backbone: str, engine: str
) -> None:
    network = make_active_network(backbone)
    calibration, (inputs, labels) = make_batch(network, 40)[0], make_batch(network, 12)
    space = SearchSpace(len(network.backbone.layers))
    for architecture in [space.sample(random.Random(i)) for i in range(4)]:
        result = evaluate_architectures(
            recalibrated(network, calibration, engine), [architecture], [(inputs, labels)]
        )[0]
        expected = evaluate_architectures(
            recalibrated_by_torch(network, architecture, calibration), [architecture], [(inputs, labels)]
        )[0]
        stored = evaluate_architectures(network, [architecture], [(inputs, labels)])[0]
        assert result.spikes == pytest.approx(expected.spikes, rel=0.01)
        assert abs(result.spikes - stored.spikes) > 3 * abs(result.spikes - expected.spikes)


def test_results_do_not_depend_on_sharing_batches_or_threads() -> None:
    network = make_active_network()
    calibration, (inputs, labels) = make_batch(network, 30)[0], make_batch(network, 21)
    architectures = [SearchSpace(5).sample(random.Random(i)) for i in range(25)]
    architectures += [Architecture((block,) * 5) for block in AUTOSNN_BLOCKS]
    prepared = recalibrated(network, calibration)
    expected = evaluate_architectures(prepared, architectures, [(inputs, labels)], num_threads=1)
    batches = list(zip(inputs.split(8), labels.split(8), strict=True))
    assert evaluate_architectures(prepared, architectures, batches, num_threads=2) == expected
    alone = [evaluate_architectures(prepared, [a], batches)[0] for a in architectures]
    assert alone == expected


@both_engines
def test_later_architectures_reuse_the_statistics_of_measured_prefixes(engine: str) -> None:
    network = make_active_network()
    calibration, (inputs, labels) = make_batch(network, 30)[0], make_batch(network, 5)
    prepared = recalibrated(network, calibration, engine)
    first, second = Architecture(("SRB_k3",) * 5), Architecture(("SRB_k3",) * 3 + ("SCB_k5",) * 2)
    evaluate_architectures(prepared, [first], [(inputs, labels)])
    later = evaluate_architectures(prepared, [first, second], [(inputs, labels)])
    fresh = evaluate_architectures(
        recalibrated(network, calibration, engine), [first, second], [(inputs, labels)]
    )
    assert later == fresh
