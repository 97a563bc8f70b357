"""Event-driven and dense inference agree with the network's own forward pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from toys import make_active_network, make_batch, make_network, require_kernels

from snn.engines.dense import DenseNetwork
from snn.engines.engine import make_inference
from snn.engines.event_driven import EventDrivenNetwork
from snn.engines.event_weights import fold
from snn.engines.trie import evaluate_architectures
from snn.kernels.calls import max_pool
from snn.kernels.layout import Layer, Workspace
from snn.model.network import SpikingNetwork, predictions
from snn.model.spikes import part_of, record_operations, record_spikes
from snn.search_space import ALL_BLOCKS, AUTOSNN_BLOCKS, Architecture, SearchSpace, make_backbone

require_kernels()


def assert_same(network: SpikingNetwork, architectures: list[Architecture], *, events: bool = False) -> None:
    inputs, labels = make_batch(network, events=events)
    results = evaluate_architectures(EventDrivenNetwork(network), architectures, [(inputs, labels)])
    folded = evaluate_architectures(DenseNetwork(network), architectures, [(inputs, labels)])
    assert max(result.spikes_per_layer["head"] for result in results) > 0
    for architecture, result, dense in zip(architectures, results, folded, strict=True):
        with torch.inference_mode(), record_spikes(network) as record, record_operations(network) as done:
            votes = network(inputs, architecture)
        parts: dict[str, float] = {}
        for name, count in record.counts.items():
            parts[part_of(name)] = parts.get(part_of(name), 0.0) + count.sum().item() / len(labels)
        assert result.spikes_per_layer == pytest.approx(parts, rel=2e-3, abs=0.5)
        assert list(result.spikes_per_layer) == list(dense.spikes_per_layer) == list(parts)
        assert result.spikes == pytest.approx(sum(parts.values()), rel=1e-3)
        assert dense.spikes == pytest.approx(sum(parts.values()), rel=1e-3)
        assert result.accuracy == pytest.approx((predictions(votes) == labels).float().mean().item(), abs=0.1)
        assert result.firing_rate_per_layer == pytest.approx(dense.firing_rate_per_layer, rel=1e-2, abs=1e-3)
        assert result.synops == pytest.approx(done.synops.mean().item(), rel=2e-3)
        assert result.macs == done.macs.mean().item()


@pytest.mark.parametrize("block", ALL_BLOCKS)
def test_every_block_fires_as_the_network_does(block: str) -> None:
    network = make_active_network(blocks=(block, "skip_connect" if block == "SCB_k3" else "SCB_k3"))
    other = next(b for b in network.body["layer0"] if b != block)
    assert_same(network, [Architecture((block,) * 5), Architecture((block, other) * 2 + (block,))])


@pytest.mark.parametrize("neuron", ["IF", "LIF", "PLIF"])
def test_every_neuron_fires_as_the_network_does(neuron: str) -> None:
    network = make_active_network(neuron=neuron, v_threshold=0.8)
    assert_same(network, [Architecture(("SRB_k3",) * 5), Architecture(("SCB_k5",) * 5)])


@pytest.mark.parametrize("backbone", ["AutoSNN", "SNN_2", "SNN_3", "SNN_4", "AutoSNN_deploy"])
@pytest.mark.parametrize("size", [16, 19])
def test_every_backbone_fires_as_the_network_does(backbone: str, size: int) -> None:
    network = make_active_network(
        backbone, size=size, v_threshold=0.25 if backbone in ("SNN_2", "SNN_4") else 1.0
    )
    space = SearchSpace(len(network.backbone.layers))
    assert_same(network, [space.sample(random.Random(i)) for i in range(6)])


@pytest.mark.parametrize("backbone", ["AutoSNN", "AutoSNN_deploy"])
@pytest.mark.parametrize(("stem", "size"), [("tiny_imagenet", 32), ("event", 64), ("image", 17)])
def test_event_frames_and_deeper_stems_fire_as_the_network_does(backbone: str, stem: str, size: int) -> None:
    threshold = 0.5 if backbone == "AutoSNN_deploy" else 1.0
    network = make_active_network(backbone, stem=stem, size=size, in_channels=2, v_threshold=threshold)
    assert_same(network, [Architecture(("SRB_k5",) * 5), Architecture(("skip_connect",) * 5)], events=True)


def test_results_do_not_depend_on_batch_size_threads_or_other_architectures() -> None:
    network = make_active_network()
    inputs, labels = make_batch(network, 23)
    architectures = [SearchSpace(5).sample(random.Random(i)) for i in range(40)]

    def evaluated(size: int, num_threads: int, chosen: list[Architecture] = architectures) -> list:
        batches = zip(inputs.split(size), labels.split(size), strict=True)
        return evaluate_architectures(EventDrivenNetwork(network), chosen, batches, num_threads=num_threads)

    expected = evaluated(23, 1)
    assert len({result.spikes for result in expected}) > 20
    for size, num_threads in ((1, 1), (7, 2), (23, 3), (23, 40)):
        assert evaluated(size, num_threads) == expected
    assert [evaluated(5, 2, [architecture])[0] for architecture in architectures] == expected


def test_folded_weights_suffice_for_a_network_on_the_meta_device() -> None:
    network = make_active_network()
    inputs = make_batch(network)
    with torch.device("meta"):
        structure = SpikingNetwork(
            network.backbone, [AUTOSNN_BLOCKS] * 5, input_shape=(3, 16, 16), num_classes=3, time_steps=3
        )
    arrays = fold(network)
    for array in arrays.values():
        array.setflags(write=False)
    architectures = [Architecture((block,) * 5) for block in AUTOSNN_BLOCKS]
    from_arrays = evaluate_architectures(EventDrivenNetwork(structure, arrays), architectures, [inputs])
    assert from_arrays == evaluate_architectures(EventDrivenNetwork(network), architectures, [inputs])


def test_silent_and_saturated_networks_are_counted_correctly() -> None:
    network = make_active_network()
    inputs, labels = make_batch(network)
    for bias, rate in ((-1e3, 0.0), (1e3, 1.0)):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, bias)
        result = evaluate_architectures(
            EventDrivenNetwork(network), [Architecture(("SRB_k5",) * 5)], [(inputs, labels)]
        )[0]
        assert result.firing_rate_per_layer["layer3"] == rate
        assert rate or (result.spikes == 0 and result.accuracy == (labels == 0).sum().item() / 12)


def test_max_pool_lists_each_spike_once_in_raster_order() -> None:
    network = EventDrivenNetwork(make_active_network(size=19))
    spikes = network.encode(make_batch(network.network)[0]).spikes
    pooled = max_pool(spikes, Workspace(), "pool")
    expected = nn.functional.max_pool2d(torch.from_numpy(spikes.dense()).flatten(0, 1), 2)
    assert np.array_equal(pooled.dense().reshape(expected.shape), expected)
    first = pooled.entries[: pooled.offsets[1]]
    assert np.array_equal(first, np.sort(first))


def test_bfloat16_approximates_float32() -> None:
    network, architecture = make_active_network(), Architecture(("SRB_k3",) * 5)
    exact, rough = (
        evaluate_architectures(
            make_inference(network, "dense", precision=precision), [architecture], [make_batch(network)]
        )[0]
        for precision in ("float32", "bfloat16")
    )
    assert exact != rough
    assert rough.spikes == pytest.approx(exact.spikes, rel=0.05)


def test_plane_that_is_too_large_is_refused_by_name() -> None:
    structure = make_backbone("AutoSNN", channels=2)
    options = {"input_shape": (1, 1030, 1030), "num_classes": 2, "time_steps": 1}
    network = SpikingNetwork(structure, [("SCB_k3",)] * 5, **options)
    with pytest.raises(ValueError, match=r"1030x1030.*search.engine dense"):
        EventDrivenNetwork(network)


@pytest.mark.parametrize("norms_apart", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head.weight", float("nan")),
        ("body.layer2.SRB_k3.conv1.conv.weight", float("inf")),
        ("body.layer2.SRB_k3.conv1.norm.running_var", float("inf")),
        ("body.layer2.SRB_k3.neuron1.w", float("nan")),
        ("stem.norm.running_var", -1.0),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused_by_name(name, value, norms_apart) -> None:
    network = make_network(candidates=[("SRB_k3",)] * 5, neuron="PLIF")
    network.state_dict()[name].flatten()[:1].fill_(value)
    folded = "stem..1.weights0" if value < 0 else name
    with pytest.raises(ValueError, match=rf"must be finite .* of \d+ in {folded} are NaN or inf"):
        fold(network, norms_apart=norms_apart)


def test_layer_counts_its_neurons() -> None:
    assert Layer((3, 4, 5), np.zeros(8, np.float32), 0.5, 1.0, ()).num_neurons == 60
