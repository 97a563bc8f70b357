"""The event-driven convolution equals torch's, forward and backward, wherever it applies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import make_active_network, make_batch, require_kernels

from snn.kernels.library import KernelsUnavailable, check_available
from snn.model import spike_conv as event_conv
from snn.model.network import firing_rates, to_memory_format
from snn.model.spike_conv import SpikeConv2d, max_firing_rate
from snn.search_space import Architecture

require_kernels()

try:
    check_available()
except KernelsUnavailable as reason:
    pytest.skip(f"no event-driven kernels: {reason}", allow_module_level=True)


def spikes(number: int, channels: int, size: int, rate: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(number, channels, size, size, generator=generator) < rate).float()
    return x.contiguous(memory_format=torch.channels_last)


def gradients(conv: nn.Conv2d, x: Tensor, form) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    conv.weight.grad = None
    out = form(x)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None
    return out.detach(), x.grad, conv.weight.grad


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per call of the event-driven form."""
    recorded: list[str] = []
    original = event_conv._EventConv.apply
    monkeypatch.setattr(event_conv._EventConv, "apply", lambda *a: recorded.append("used") or original(*a))
    return recorded


@pytest.mark.parametrize(("kernel_size", "padding"), [(1, 0), (3, 1), (5, 2), (7, 3), (3, 0)])
@pytest.mark.parametrize(("number", "size"), [(1, 4), (5, 9)])
@pytest.mark.parametrize("threads", [1, 3])
def test_output_and_gradients_equal_torchs(kernel_size, padding, number, size, threads, calls) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        conv = SpikeConv2d(6, 64, kernel_size, padding=padding, bias=False)
        if size + 2 * padding < kernel_size:
            pytest.skip("the input is smaller than the kernel")
        x = spikes(number, 6, size)
        ours = gradients(conv, x, conv)
        theirs = gradients(conv, x, lambda x: nn.Conv2d.forward(conv, x))
    finally:
        torch.set_num_threads(before)
    assert calls == ["used"]
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_input_without_spikes_gives_zeros(calls) -> None:
    conv = SpikeConv2d(6, 16, 3, padding=1, bias=False)
    out, _, weight_gradient = gradients(conv, spikes(3, 6, 5, rate=0.0), conv)
    assert calls and not out.any() and not weight_gradient.any()


@pytest.mark.parametrize(
    "case", ["many spikes", "stride", "channels", "1x1", "no gradient", "contiguous", "double", "wide"]
)
def test_unsupported_cases_fall_back_to_conv2d(case: str, calls) -> None:
    conv = SpikeConv2d(
        6,
        12 if case == "channels" else 16,
        1 if case == "1x1" else 3,
        stride=2 if case == "stride" else 1,
        bias=False,
    )
    x = spikes(4, 6, 8, rate=0.2 if case == "many spikes" else 0.05)
    if case == "contiguous":
        x = x.contiguous()
    if case == "double":
        conv, x = conv.double(), x.double()
    if case == "wide":  # more columns than a list of spikes can name
        x = spikes(4, 6, 256).reshape(1, 6, -1, 2048).contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(case != "no gradient"):
        out = conv(x)
    assert not calls
    assert torch.equal(out, nn.Conv2d.forward(conv, x))


def test_firing_rate_up_to_which_events_pay_grows_with_the_kernel() -> None:
    assert max_firing_rate(1, 16) == max_firing_rate(2, 32) == max_firing_rate(3, 4) == 0
    rates = [max_firing_rate(*layer) for layer in ((3, 16), (3, 32), (3, 64), (5, 128))]
    assert rates == sorted(rates) and 0 < rates[0] < rates[-1] < 0.3
    assert max_firing_rate(7, 32) == max_firing_rate(5, 32)


def test_event_driven_training_step_of_a_network_equals_the_dense_one(
    monkeypatch: pytest.MonkeyPatch, calls
) -> None:
    def step() -> tuple[Tensor, dict[str, Tensor]]:
        network = make_active_network(channels=8).to(memory_format=torch.channels_last).train()
        inputs, labels = make_batch(network)
        rates = firing_rates(
            network(to_memory_format(inputs), Architecture(("SRB_k3", "SCB_k5") * 2 + ("SRB_k5",)))
        )
        ((rates - nn.functional.one_hot(labels, 3)) ** 2).mean().backward()
        return rates, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}

    rates, ours = step()
    assert len(calls) > 5
    monkeypatch.setattr(event_conv, "is_available", lambda: False)
    expected, theirs = step()
    assert torch.equal(rates, expected)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
