"""Convolutions by Winograd's filtering equal torch's, whatever hangs over the planes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import require_kernels

from snn.kernels import winograd
from snn.kernels.library import KernelsUnavailable, check_available
from snn.model import spike_conv as event_conv
from snn.model.spike_conv import SpikeConv2d, winograd_pays

require_kernels()

try:
    check_available()
except KernelsUnavailable as reason:
    pytest.skip(f"no event-driven kernels: {reason}", allow_module_level=True)

SIZES = [(1, 1), (1, 33), (2, 3), (3, 2), (4, 4), (5, 7), (8, 8), (9, 6), (17, 12), (33, 1), (31, 33)]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def convolve(planes: Tensor, weights: Tensor) -> Tensor:
    """Planes [M, H, W, C_in] convolved with weights [K, K, C_in, C_out]; nothing may be left as it was."""
    out = torch.full((*planes.shape[:3], weights.shape[3]), torch.nan)
    winograd.convolve(planes.numpy(), weights.numpy(), out.numpy())
    return out


def relative_error(out: Tensor, planes: Tensor, weights: Tensor) -> float:
    exact = F.conv2d(
        planes.permute(0, 3, 1, 2).double(), weights.permute(3, 2, 0, 1).double(), padding=len(weights) // 2
    ).permute(0, 2, 3, 1)
    return float((out - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("channels", [(16, 16), (32, 16), (16, 48), (64, 32)])
@pytest.mark.parametrize("size", SIZES)
def test_output_is_the_convolution(size, channels, kernel_size) -> None:
    planes, weights = draw(3, *size, channels[0]), draw(kernel_size, kernel_size, *channels)
    assert relative_error(convolve(planes, weights), planes, weights) < 2e-5


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("number", [1, 5, 70])
def test_planes_do_not_meet(number: int, kernel_size: int) -> None:
    planes, weights = draw(number, 5, 6, 16), draw(kernel_size, kernel_size, 16, 16)
    together = convolve(planes, weights)
    for plane, out in zip(planes, together, strict=True):
        assert torch.equal(convolve(plane[None], weights)[0], out)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_output_does_not_depend_on_the_number_of_threads(kernel_size: int) -> None:
    planes, weights = draw(100, 7, 9, 32), draw(kernel_size, kernel_size, 32, 16)
    before, outputs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            outputs.append(convolve(planes, weights))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in itertools.pairwise(outputs))


def test_neighbours_of_the_output_stay_as_they_are() -> None:
    memory = np.full((5, 5, 5, 16), 7, np.float32)
    winograd.convolve(draw(3, 5, 5, 16).numpy(), draw(3, 3, 16, 16).numpy(), memory[1:4])
    assert (memory[[0, 4]] == 7).all() and (memory[1:4] != 7).all()


def test_applies_to_centred_kernels_of_whole_blocks_of_channels() -> None:
    assert winograd.applies((16, 48, 3, 3), 1) and winograd.applies((64, 16, 5, 5), 2)
    assert not winograd.applies((16, 24, 3, 3), 1) and not winograd.applies((8, 16, 3, 3), 1)
    assert not winograd.applies((16, 16, 3, 3), 2) and not winograd.applies((16, 16, 3, 5), 1)
    assert not winograd.applies((16, 16, 7, 7), 3) and not winograd.applies((16, 16, 1, 1), 0)


def test_small_planes_and_few_of_them_do_not_pay() -> None:
    assert winograd_pays(64, (4, 4)) and winograd_pays(1, (32, 32)) and winograd_pays(64, (33, 33))
    assert (
        not winograd_pays(63, (4, 4)) and not winograd_pays(1000, (3, 3)) and not winograd_pays(1000, (5, 5))
    )


@pytest.mark.parametrize(("kernel_size", "used"), [(3, True), (5, True), (7, False)])
@pytest.mark.parametrize("number", [16, 15])
def test_input_gradient_is_taken_by_winograd_where_it_pays(
    kernel_size: int, used: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *arrays: calls.append(1) or original(*arrays))
    conv = SpikeConv2d(32, 16, kernel_size, padding=kernel_size // 2, bias=False)
    spikes = (draw(number, 32, 8, 8) > 2).float().contiguous(memory_format=torch.channels_last)
    gradients = []
    for pays in (winograd_pays, lambda *_: False):
        monkeypatch.setattr(event_conv, "winograd_pays", pays)
        x = spikes.clone(memory_format=torch.preserve_format).requires_grad_()
        out = conv(x)
        (out * draw(*out.shape)).sum().backward()
        assert x.grad is not None and x.grad.is_contiguous(memory_format=torch.channels_last)
        gradients.append(x.grad)
    assert len(calls) == (used and number == 16)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
