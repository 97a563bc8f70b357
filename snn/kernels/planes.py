"""Python calls of the compiled kernels on planes (planes.c): batch norm, neurons and pools, for training.

Planes are float32 arrays whose last axes are places and channels. Threads take shares of them.

Dimensions: T time steps, N samples, M planes, P places (H * W), C channels, H height, W width.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.kernels.layout import aligned, aligned_zeros, is_plain
from snn.kernels.library import library
from snn.kernels.threads import in_threads, shares

Planes = NDArray[np.float32]
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]

_BLOCK = 512  # floats that are done at once; those of all time steps stay in the first cache


class _Neurons(ctypes.Structure):
    _fields_ = (
        ("plane", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("input_stride", ctypes.c_int64),
        ("time_steps", ctypes.c_int32),
        ("num_samples", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("leaky", ctypes.c_int32),
        ("decay", ctypes.c_float),
        ("threshold", ctypes.c_float),
    )


class _Norm(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("scale", "shift", "unit", "offset"))


@dataclass(frozen=True)
class Neurons:
    """A layer of neurons on planes [T, N, P, C].

    Attributes:
        time_steps: T.
        num_samples: N.
        places: P.
        channels: C.
        static: Whether one input, [1, N, P, C], is fed at every time step.
        decay: Decay factor d of leaky neurons; None for IF.
        threshold: Potential at which a neuron fires.
    """

    time_steps: int
    num_samples: int
    places: int
    channels: int
    static: bool
    decay: float | None
    threshold: float

    @property
    def num_inputs(self) -> int:
        """Planes of the input."""
        return self.num_samples * (1 if self.static else self.time_steps)

    def check(self, *planes: Planes | None) -> None:
        """Asserts that arrays are planes of all time steps."""
        shape = (self.time_steps, self.num_samples, self.places, self.channels)
        for array in planes:
            assert array is None or (array.shape == shape and is_plain(array, np.float32))

    def check_input(self, *planes: Planes) -> None:
        """Asserts that arrays are planes of the input."""
        shape = (1 if self.static else self.time_steps, self.num_samples, self.places, self.channels)
        for array in planes:
            assert array.shape == shape and is_plain(array, np.float32)

    def described(self, share: slice) -> _Neurons:
        """The layer on a share of the samples."""
        plane = self.places * self.channels
        stride = self.num_samples * plane
        return _Neurons(
            plane,
            stride,
            0 if self.static else stride,
            self.time_steps,
            share.stop - share.start,
            _block(self.channels),
            self.channels,
            self.decay is not None,
            self.decay or 0.0,
            self.threshold,
        )


@dataclass(frozen=True)
class Norm:
    """A batch norm with given moments, float32 [C] each.

    Attributes:
        scale, shift: x * scale + shift is the normalised input with gain and bias.
        unit, offset: x * unit + offset has mean 0 and variance 1.
    """

    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    unit: NDArray[np.float32]
    offset: NDArray[np.float32]


@dataclass(frozen=True)
class Sums:
    """What the gradient dx of a normalised input adds up to over samples, time steps and places.

    Attributes:
        gradient: Sum of dx, [C].
        product: Sum of dx times the input with mean 0 and variance 1, [C].
        decay: Gradient of the decay factor, times that factor.
    """

    gradient: NDArray[np.float64]
    product: NDArray[np.float64]
    decay: float


def moments(planes: Planes, pivot: NDArray[np.float32]) -> Moments:
    """Mean and biased variance of each channel of planes [M, P, C].

    Args:
        planes: The planes.
        pivot: [C], near the means: what is subtracted before squares are added up.
    """
    assert is_plain(planes, np.float32)
    count, places, channels = planes.shape
    block, tile = _block(channels), _tile(pivot)
    sums = np.empty((count, 2, channels))

    def run(share: slice) -> None:
        scratch = aligned_zeros(2 * block, np.float32)
        library().plane_moments(
            share.stop - share.start,
            places * channels,
            block,
            channels,
            planes[share].ctypes.data,
            tile.ctypes.data,
            sums[share].ctypes.data,
            scratch.ctypes.data,
        )

    in_threads(run, shares(count))
    mean, square = sums.sum(0) / (count * places)
    return pivot + mean, np.maximum(square - mean**2, 0.0)


def fire(neurons: Neurons, norm: Norm, planes: Planes, added: Planes | None, spikes: Planes) -> None:
    """Writes the spikes of normalised planes, to which others may be added, to `spikes`."""
    neurons.check_input(planes)
    neurons.check(added, spikes)
    tiles = _tiles(norm)

    def run(share: slice) -> None:
        scratch = aligned_zeros(2 * _block(neurons.channels), np.float32)
        library().neurons_forward(
            ctypes.byref(neurons.described(share)),
            ctypes.byref(_Norm(*(tile.ctypes.data for tile in tiles))),
            planes[:, share].ctypes.data,
            None if added is None else added[:, share].ctypes.data,
            spikes[:, share].ctypes.data,
            scratch.ctypes.data,
        )

    in_threads(run, _sample_shares(neurons))


def fire_backward(
    neurons: Neurons,
    norm: Norm,
    planes: Planes,
    added: Planes | None,
    spike_gradient: Planes,
    gradient: Planes,
) -> Sums:
    """Writes the gradient of the normalised input, in the shape of the input, to `gradient`."""
    neurons.check_input(planes, gradient)
    neurons.check(added, spike_gradient)
    tiles = _tiles(norm)
    sums = np.empty((neurons.num_samples, 2, neurons.channels))
    decays = np.empty(neurons.num_samples)

    def run(share: slice) -> None:
        scratch = aligned_zeros((neurons.time_steps + 7) * _block(neurons.channels), np.float32)
        library().neurons_backward(
            ctypes.byref(neurons.described(share)),
            ctypes.byref(_Norm(*(tile.ctypes.data for tile in tiles))),
            planes[:, share].ctypes.data,
            None if added is None else added[:, share].ctypes.data,
            spike_gradient[:, share].ctypes.data,
            gradient[:, share].ctypes.data,
            sums[share].ctypes.data,
            decays[share].ctypes.data,
            scratch.ctypes.data,
        )

    in_threads(run, _sample_shares(neurons))
    of_gradient, of_product = sums.sum(0)
    return Sums(of_gradient, of_product, float(decays.sum()))


def combine(gradient: Planes, planes: Planes, factors: tuple[NDArray[np.float64], ...], out: Planes) -> None:
    """Writes gradient * a + planes * b + c to `out`, which may be `gradient`; all [M, P, C], factors [C]."""
    for array in (gradient, planes, out):
        assert array.shape == out.shape and is_plain(array, np.float32)
    count, places, channels = out.shape
    tiles = [_tile(factor.astype(np.float32)) for factor in factors]

    def run(share: slice) -> None:
        library().norm_backward(
            share.stop - share.start,
            places * channels,
            _block(channels),
            gradient[share].ctypes.data,
            planes[share].ctypes.data,
            *(tile.ctypes.data for tile in tiles),
            out[share].ctypes.data,
        )

    in_threads(run, shares(count))


def pool(planes: Planes, out: Planes) -> NDArray[np.uint8]:
    """Writes the 2x2 max-pool of planes [M, H, W, C] to `out`; returns which input each maximum is."""
    count, height, width, channels = planes.shape
    assert out.shape == (count, height // 2, width // 2, channels)
    assert is_plain(planes, np.float32) and is_plain(out, np.float32)
    which = np.empty(out.shape, np.uint8)

    _pool(library().pool_forward, planes.shape, planes, out, which)
    return which


def pool_backward(gradient: Planes, which: NDArray[np.uint8], out: Planes) -> None:
    """Writes the gradient of `pool`'s input to `out`, from that of its output and what it returned."""
    count, height, width, channels = out.shape
    assert gradient.shape == which.shape == (count, height // 2, width // 2, channels)
    assert is_plain(gradient, np.float32) and is_plain(out, np.float32) and is_plain(which, np.uint8)

    _pool(library().pool_backward, out.shape, gradient, which, out)


def _pool(kernel: Any, shape: tuple[int, ...], *arrays: NDArray[Any]) -> None:
    """Calls a kernel of pools, of input [M, H, W, C], with shares of its arrays."""

    def run(share: slice) -> None:
        kernel(share.stop - share.start, *shape[1:], *(array[share].ctypes.data for array in arrays))

    in_threads(run, shares(shape[0]))


def _sample_shares(neurons: Neurons) -> list[slice]:
    """Shares of the samples; samples do not meet, so their number may follow the planes'."""
    number = min(neurons.num_samples, len(shares(neurons.num_samples * neurons.time_steps)))
    bounds = [neurons.num_samples * k // number for k in range(number + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _block(channels: int) -> int:
    """Floats of a block: whole places."""
    return channels * max(1, _BLOCK // channels)


def _tile(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each channel has, repeated over a block."""
    return aligned(np.tile(values, _block(len(values)) // len(values)))


def _tiles(norm: Norm) -> list[NDArray[Any]]:
    return [_tile(values) for values in (norm.scale, norm.shift, norm.unit, norm.offset)]
