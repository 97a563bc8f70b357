"""Super-network and children are one class and give identical results."""

from __future__ import annotations

import random

import pytest
import torch
from toys import BACKBONES, make_network

from snn.model.blocks import make_block
from snn.model.network import SpikingNetwork, child_weights, firing_rates, num_parameters
from snn.model.neuron import SpikingNeuron
from snn.model.spikes import record_operations, record_spikes
from snn.search_space import (
    ALL_BLOCKS,
    Architecture,
    SearchedLayer,
    SearchSpace,
    make_backbone,
)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    ("stem", "shape"),
    [("image", (3, 16, 16)), ("tiny_imagenet", (3, 32, 32)), ("event", (2, 64, 64)), ("image", (2, 34, 34))],
)
@pytest.mark.parametrize("events", [False, True])
def test_child_with_the_supernets_weights_equals_the_path(backbone, stem, shape, events) -> None:
    supernet = make_network(backbone, stem=stem, shape=shape)
    x = torch.randn(3, 2, *shape) if events else torch.randn(2, *shape)
    architecture = SearchSpace(len(supernet.backbone.layers)).sample(random.Random(1))
    child = make_network(backbone, [(block,) for block in architecture.blocks], stem=stem, shape=shape)
    child.load_state_dict(child_weights(supernet.state_dict(), architecture))
    assert num_parameters(child) < num_parameters(supernet)
    with torch.inference_mode(), record_spikes(supernet) as ours, record_spikes(child) as theirs:
        votes = supernet(x, architecture)
        assert torch.equal(votes, child(x, architecture))
    assert votes.shape == (3, 2, 3)
    assert ours.counts.keys() == theirs.counts.keys()
    assert torch.equal(ours.per_sample(), theirs.per_sample())
    assert ours.per_sample().min() > 0


@pytest.mark.parametrize("block", ALL_BLOCKS)
@pytest.mark.parametrize(("channels", "stride"), [((4, 4), 1), ((4, 8), 1), ((4, 8), 2)])
def test_every_block_outputs_binary_spikes_and_halves_the_resolution_at_stride_2(
    block, channels, stride
) -> None:
    layer = SearchedLayer("layer0", *channels, stride)
    module = make_block(block, layer, lambda: SpikingNeuron("PLIF"))
    x = (torch.rand(3, 2, 4, 8, 8) < 0.3).float()
    out = module(x)
    assert out.shape == (3, 2, channels[1], 8 // stride, 8 // stride)
    assert set(out.unique().tolist()) <= {0.0, 1.0}


def test_identity_skip_has_no_parameters_and_counts_no_spikes() -> None:
    network = make_network(candidates=[("skip_connect",)] * 5)
    assert not list(network.body["layer0"].parameters())
    with torch.inference_mode(), record_spikes(network) as record:
        network(torch.randn(2, 3, 16, 16), Architecture(("skip_connect",) * 5))
    assert not any(name.startswith("body.layer0") for name in record.counts)
    assert any(name.startswith("body.layer1") for name in record.counts)


def test_every_module_is_counted_exactly_once() -> None:
    network = make_network(candidates=[("SRB_k3",)] * 5)
    with torch.inference_mode(), record_spikes(network) as record:
        network(torch.randn(2, 3, 16, 16), Architecture(("SRB_k3",) * 5))
    assert len(record.counts) == 1 + 2 * 5 + 3 + 1  # stem, two neurons per block, pools, head
    assert record.neurons["stem_neuron"] == 4 * 16 * 16
    assert record.neurons["head_neuron"] == 30


def test_image_equals_constant_event_frames() -> None:
    network, x = make_network(), torch.randn(2, 3, 16, 16)
    architecture = Architecture(("SRB_k3",) * 5)
    with torch.inference_mode():
        same = network(x.expand(3, *x.shape), architecture)
        assert torch.equal(network(x, architecture), same)


def test_votes_of_a_sample_do_not_depend_on_its_batch() -> None:
    network, x = make_network(), torch.randn(5, 3, 16, 16)
    architecture = Architecture(("SCB_k5", "SRB_k3", "skip_connect", "SRB_k5", "SCB_k3"))
    with torch.inference_mode(), record_spikes(network) as record:
        together = network(x, architecture)
        spikes = record.per_sample()
        for i in range(5):
            assert torch.equal(network(x[i : i + 1], architecture)[:, 0], together[:, i])
            assert record.per_sample()[0] == spikes[i]
        assert torch.equal(network(x, architecture), together)


@pytest.mark.parametrize(("channels", "millions"), [(16, 0.418), (32, 1.463), (64, 5.437), (128, 20.917)])
def test_autosnn_has_the_known_number_of_parameters(channels: int, millions: float) -> None:
    architecture = Architecture.parse("autosnn", 5)
    network = SpikingNetwork(
        make_backbone("AutoSNN", channels=channels),
        [(block,) for block in architecture.blocks],
        input_shape=(3, 32, 32),
        num_classes=10,
        time_steps=8,
    )
    assert round(num_parameters(network) / 1e6, 3) == millions


def test_synaptic_operations_are_the_connections_that_spikes_actually_reach() -> None:
    class TwoConvolutions(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(1, 1, 1)})
            self.conv = torch.nn.Conv2d(2, 3, 3, padding=1, bias=False)

        def forward(self, images: torch.Tensor) -> None:
            self.stem["conv"](images)
            spikes = torch.zeros(4, 2, 5, 5)  # two time steps of two samples
            spikes[0, 0, 2, 2] = 1  # of the first, in the middle: 9 positions of 3 channels
            spikes[1, 1, 0, 0] = 1  # of the second, in the corner: 4 positions of 3 channels
            spikes[3, 1, 4, 4] = 1
            self.conv(spikes)

    network = TwoConvolutions()
    with record_operations(network) as record:
        network(torch.ones(2, 1, 4, 4))
    assert record.synops.tolist() == [27, 12 + 12]
    assert record.macs.tolist() == [16, 16]


@pytest.mark.parametrize("neuron", ["IF", "LIF", "PLIF"])
def test_only_blocks_on_the_path_get_gradients(neuron) -> None:
    network = make_network(neuron=neuron).train()
    path = Architecture(("SCB_k3", "SRB_k5", "skip_connect", "SRB_k3", "SCB_k5"))
    firing_rates(network(torch.randn(4, 3, 16, 16), path)).sum().backward()
    for name, parameter in network.named_parameters():
        part = name.split(".")
        on_path = part[0] != "body" or path.blocks[int(part[1][-1])] == part[2]
        assert (parameter.grad is not None) == on_path, name


def test_invalid_sizes_are_rejected() -> None:
    with pytest.raises(ValueError, match="time_steps must be at least 1, got 0"):
        make_network(time_steps=0)
    with pytest.raises(ValueError, match="4x4 is too small for AutoSNN"):
        make_network(shape=(3, 4, 4))
    with pytest.raises(ValueError, match="5 searched layers, got candidates for 2"):
        make_network(candidates=[("SCB_k3",)] * 2)
