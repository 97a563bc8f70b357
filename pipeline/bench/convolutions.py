"""Lower bound of the benchmark's times: the convolutions of a network alone, in torch."""

# T time steps, N batch, C channels, H height, W width

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.bench.plain import Convolution
from pipeline.bench.stopwatch import seconds_of

_FIRING_RATE = 0.1  # of the binary inputs; the time of a dense convolution does not depend on it


class ConvolutionsAlone:
    """Convolutions in float32, each over T * N binary samples.

    Args:
        convolutions: Run in this order; may be those of several paths, concatenated.
        batch_size: N.
        channels_last: Memory format of inputs and weights.
        backward: Also compute the gradients of weights and of all inputs except the stem's.
    """

    def __init__(
        self, convolutions: Sequence[Convolution], *, batch_size: int, channels_last: bool, backward: bool
    ) -> None:
        self.convolutions = convolutions
        self.batch_size = batch_size
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.backward = backward
        generator = torch.Generator().manual_seed(0)
        self._arguments = {c: self._make(c, generator) for c in dict.fromkeys(convolutions)}

    def __str__(self) -> str:
        return (
            f"{'channels-last' if self.format == torch.channels_last else 'contiguous'}, N {self.batch_size}"
        )

    def run(self, repeats: int = 1) -> None:
        """Runs all convolutions for `batch_size` samples, `repeats` times."""
        for convolution in [*self.convolutions] * repeats:
            x, weight, gradient = self._arguments[convolution]
            with torch.set_grad_enabled(self.backward):
                y = F.conv2d(x, weight, None, convolution.stride, convolution.padding)
            if self.backward:
                torch.autograd.grad(y, [v for v in (x, weight) if v.requires_grad], gradient)

    def _make(self, c: Convolution, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.rand(c.runs * self.batch_size, *c.input_shape, generator=generator)
        x = (x < _FIRING_RATE).float().contiguous(memory_format=self.format)
        weight = torch.randn(c.weight_shape, generator=generator).contiguous(memory_format=self.format)
        if self.backward:
            x.requires_grad_(c is not self.convolutions[0])
            weight.requires_grad_()
        with torch.no_grad():
            gradient = torch.ones_like(F.conv2d(x, weight, None, c.stride, c.padding)) if self.backward else x
        return x, weight, gradient


def fastest_convolutions(
    convolutions: Sequence[Convolution], *, batch_sizes: Sequence[int], backward: bool = False
) -> ConvolutionsAlone:
    """These convolutions in the memory format and batch size with the least time per sample."""
    best: tuple[float, ConvolutionsAlone] | None = None
    for channels_last, batch_size in itertools.product((False, True), batch_sizes):
        alone = ConvolutionsAlone(
            convolutions, batch_size=batch_size, channels_last=channels_last, backward=backward
        )
        seconds = min(seconds_of(alone.run) for _ in range(2)) / batch_size
        if best is None or seconds < best[0]:
            best = seconds, alone
    assert best is not None
    return best[1]
