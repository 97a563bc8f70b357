"""Our neurons against spikingjelly's: the same spikes, the same gradients, no state between calls."""

from __future__ import annotations

import pytest
import torch

from snn.model.neuron import SpikingNeuron

KINDS = ("IF", "LIF", "PLIF")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init_tau", [1.2, 2.0, 5.0])
def test_spikes_and_gradients_equal_spikingjellys(kind, init_tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = SpikingNeuron(kind, init_tau=init_tau)
    theirs = ours.spikingjelly_node()
    x = 2 * torch.randn(6, 4, 3, 5, 5, generator=generator)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = ours(a), theirs(b)
    assert torch.equal(spikes, expected)
    assert 0.02 < spikes.mean() < 0.9
    gradient = torch.randn(spikes.shape, generator=generator)
    spikes.backward(gradient)
    expected.backward(gradient)
    torch.testing.assert_close(a.grad, b.grad)
    if kind == "PLIF":
        torch.testing.assert_close(ours.w.grad, theirs.w.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_spikes_are_the_same_with_and_without_gradients(kind) -> None:
    neuron, x = SpikingNeuron(kind), 2 * torch.randn(4, 2, 3)
    with torch.inference_mode():
        inference = neuron(x)
    assert torch.equal(neuron(x.requires_grad_()), inference)


@pytest.mark.parametrize("kind", KINDS)
def test_no_state_is_kept_between_calls(kind) -> None:
    neuron, x = SpikingNeuron(kind), 2 * torch.randn(4, 2, 3)
    first = neuron(x)
    neuron(torch.full((3, 5), 0.9))
    assert torch.equal(neuron(x), first)


def test_channels_last_input_gives_the_same_spikes() -> None:
    neuron, x = SpikingNeuron("PLIF"), 2 * torch.randn(3, 2, 4, 5, 5)
    strided = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (3, 2))
    assert torch.equal(neuron(strided), neuron(x))
