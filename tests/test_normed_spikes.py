"""Compiled neurons, behind a batch norm or not, do in training what torch does step by step."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn.kernels.threads import shares
from snn.model import neuron as neuron_module
from snn.model.neuron import SpikingNeuron
from snn.model.normed_spikes import can_fuse
from snn.model.spike_pool import max_pool

T, N, C, H, W = 5, 3, 6, 7, 9
KINDS: Any = ("PLIF", "LIF", "IF")


def sequence(steps: int, seed: int, shape: tuple[int, ...] = (C, H, W)) -> Tensor:
    """Currents [steps, N, *shape] in the memory order of the network's planes."""
    x = torch.randn(steps * N, *shape, generator=torch.Generator().manual_seed(seed)) * 1.3 + 0.4
    if len(shape) == 3:
        x = x.contiguous(memory_format=torch.channels_last)
    return torch.unflatten(x, 0, (steps, N))


def trained_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(C)
    generator = torch.Generator().manual_seed(1)
    nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
    nn.init.normal_(norm.bias, generator=generator)
    return norm


def run(
    monkeypatch: pytest.MonkeyPatch, fused: bool, kind: Any, case: str
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Spikes, and the gradients and statistics that a backward pass leaves."""
    layer = SpikingNeuron(kind)
    norm = trained_norm() if case in ("norm", "added", "static") else None
    static = case == "static"
    x = sequence(1 if static else T, 2, (30,) if case == "flat" else (C, H, W)).requires_grad_()
    added = sequence(T, 3).requires_grad_() if case == "added" else None
    assert can_fuse(x, norm, added)
    with monkeypatch.context() as patch:
        if not fused:
            patch.setattr(neuron_module, "can_fuse", lambda *_: False)
        spikes = layer(x, norm=norm, added_T=added, time_steps=T if static else None)
    weights = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(4))
    (spikes * weights).sum().backward()
    left = {"x": x.grad, "added": None if added is None else added.grad}
    left |= {name: parameter.grad for name, parameter in layer.named_parameters()}
    if norm is not None:
        left |= {"gain": norm.weight.grad, "bias": norm.bias.grad}
        left |= dict(norm.named_buffers())
    return spikes.detach(), left


@pytest.mark.parametrize(
    ("kind", "case"), list(itertools.product(KINDS, ("plain", "flat", "norm", "added", "static")))
)
def test_spikes_are_the_same_and_gradients_equal_within_rounding(
    monkeypatch: pytest.MonkeyPatch, kind: Any, case: str
) -> None:
    (spikes, left), (expected, wanted) = (run(monkeypatch, fused, kind, case) for fused in (True, False))
    assert 0.02 < spikes.mean() < 0.5
    assert torch.equal(spikes, expected)
    assert left.keys() == wanted.keys()
    for name, value in left.items():
        torch.testing.assert_close(
            value, wanted[name], rtol=2e-5, atol=2e-5, msg=lambda it, name=name: f"{name}: {it}"
        )


def test_one_static_sample_has_the_gradients_of_several() -> None:
    """In float64, one operation after the other: torch's batch norm once had wrong gradients here."""
    conv = nn.Conv2d(2, C, 3, bias=False).double().to(memory_format=torch.channels_last)
    x = torch.randn(1, 2, H, W, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    gradients = []
    for copies in (1, 2):
        conv.weight.grad = None
        current = conv(x.repeat(copies, 1, 1, 1).contiguous(memory_format=torch.channels_last))
        spikes = SpikingNeuron().double()(current[None], norm=trained_norm().double(), time_steps=T)
        weights = torch.linspace(-1, 1, spikes[:, 0].numel()).view_as(spikes[:, :1])
        (spikes * weights).sum().backward()
        gradients.append(conv.weight.grad / copies)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_weights_beyond_all_bounds_raise_no_errors_here() -> None:
    layer, norm = SpikingNeuron(), trained_norm()
    with torch.no_grad():
        layer.w.fill_(-1e38)
        norm.weight.fill_(3e38)
    x = (sequence(T, 2) * 1e20).requires_grad_()
    layer(x, norm=norm).sum().backward()
    assert not layer.w.grad.isfinite() or layer.w.grad == 0


def test_moments_are_exact_far_from_zero() -> None:
    x = (sequence(T, 2) + 1000).detach().requires_grad_()
    norm, layer = trained_norm(), SpikingNeuron()
    norm.running_mean.fill_(1000)
    layer(x, norm=norm)
    variance = x.detach().double().var((0, 1, 3, 4))
    torch.testing.assert_close(norm.running_var.double(), 0.9 + 0.1 * variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 2)])
def test_max_pool_is_torchs(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(6, C, *size, generator=generator) < 0.3).float()
    for values in (spikes, torch.randn(spikes.shape, generator=generator)):
        ours, theirs = (
            values.contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2)
        )
        pooled, expected = max_pool(ours), F.max_pool2d(theirs, 2)
        assert torch.equal(pooled, expected)
        gradient = torch.randn(expected.shape, generator=generator)
        pooled.backward(gradient)
        expected.backward(gradient)
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("case", ["plain", "added", "static"])
def test_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(monkeypatch, True, "PLIF", case))
    torch.set_num_threads(before)
    for spikes, left in results[1:]:
        assert torch.equal(spikes, results[0][0])
        for name, value in left.items():
            assert value is None or torch.equal(value, copy.copy(results[0][1])[name]), name


@pytest.mark.parametrize("count", [1, 31, 32, 96, 768, 10_000])
def test_shares_hold_all_work_once(count: int) -> None:
    parts = [range(count)[share] for share in shares(count)]
    assert [i for part in parts for i in part] == list(range(count))
    assert len(parts) <= 16 and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_other_norms_pass_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x = trained_norm(), sequence(T, 2).requires_grad_()
    assert can_fuse(x, norm, None)
    assert not can_fuse(x, norm.eval(), None)
    assert not can_fuse(x.double(), None, None)
    assert not can_fuse(x.contiguous(), trained_norm(), None)
    assert not can_fuse(x.detach(), trained_norm(), None)
    with torch.no_grad():
        assert not can_fuse(x, None, None)
