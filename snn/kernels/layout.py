"""What the event-driven kernels work on: lists of spikes, layers in their layout, memory to write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 8
MAX_SIZE = 1024
MAX_CHANNELS = 4096
_CACHE_LINE = 64


@dataclass(frozen=True)
class SpikeLists:
    """Spikes of a chunk of samples, each sample's time steps one after the other.

    Attributes:
        entries: uint32, a spike each: y << 22 | x << 12 | channel.
        offsets: int32 [num_samples * time_steps + 1], where each list begins, and where the last one ends.
        num_samples: Samples of the chunk.
        shape: (C, H, W) of the plane of neurons.
    """

    entries: NDArray[np.uint32]
    offsets: NDArray[np.int32]
    num_samples: int
    shape: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Number of spikes of all samples and time steps."""
        return int(self.offsets[-1])

    @property
    def time_steps(self) -> int:
        return (len(self.offsets) - 1) // self.num_samples

    def dense(self) -> NDArray[np.float32]:
        """The same spikes as zeros and ones, [T, N, C, H, W]."""
        planes = np.zeros((self.num_samples * self.time_steps, *self.shape), np.float32)
        entries = self.entries[: self.count]
        lists = np.repeat(np.arange(len(planes)), np.diff(self.offsets))
        planes[lists, entries & 4095, entries >> 22, (entries >> 12) & 1023] = 1
        return planes.reshape(self.num_samples, self.time_steps, *self.shape).swapaxes(0, 1)


@dataclass(frozen=True)
class Connection:
    """How one input reaches a layer.

    Attributes:
        weights: float32 [C_in, K_h, K_w from the last column to the first, C_out padded], or None: then each
            spike adds `scale` to its own channel at (y // size, x // size).
        stride: Stride of the convolution.
        padding: Zeros around its input; below 0 rows and columns are left out at its top and left.
        size: Side of an average pool, 1 for an identity.
        scale: Weight of an identity or average pool.
        fan_out: Output channels that one tap of the kernel feeds (the others have weights of zero).
    """

    weights: NDArray[np.float32] | None = None
    stride: int = 1
    padding: int = 0
    size: int = 1
    scale: float = 1.0
    fan_out: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer of neurons and the connections that feed it.

    Attributes:
        shape: (C, H, W) of its neurons.
        bias: float32 [C padded to a multiple of 8].
        leak: Share of the membrane potential that is left after a time step.
        threshold: Potential at which a neuron fires, above 0.
        connections: One for each input.
    """

    shape: tuple[int, int, int]
    bias: NDArray[np.float32]
    leak: float
    threshold: float
    connections: tuple[Connection, ...]

    @property
    def num_neurons(self) -> int:
        channels, height, width = self.shape
        return channels * height * width

    @property
    def num_floats(self) -> int:
        """Size of its currents or potentials in memory."""
        return len(self.bias) * self.shape[1] * self.shape[2]


class Workspace:
    """Memory that kernels write to, reused from call to call; one for each thread.

    A list of spikes stays valid until something is written under the same `place` again.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, place: str, size: int, dtype: Any) -> NDArray[Any]:
        """At least `size` elements; zeros when they are new."""
        array = self._arrays.get(place)
        if array is None or len(array) < size:
            array = self._arrays[place] = aligned_zeros(size, dtype)
        return array


def aligned_zeros(size: int, dtype: Any) -> NDArray[Any]:
    """Zeros that begin on a cache line, so that no vector lies across two."""
    num_bytes = size * np.dtype(dtype).itemsize
    memory = np.zeros(num_bytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + num_bytes].view(dtype)


def kernel_layout(weight: NDArray[Any]) -> NDArray[np.float32]:
    """A convolution's weights [C_out, C_in, K_h, K_w] as [C_in, K_h, K_w backwards, C_out padded]."""
    return aligned(padded(weight.transpose(1, 2, 3, 0)[:, :, ::-1]))


def aligned(array: NDArray[Any]) -> NDArray[np.float32]:
    """A contiguous copy that begins on a cache line."""
    made: NDArray[np.float32] = aligned_zeros(array.size, np.float32).reshape(array.shape)
    made[:] = array
    return made


def padded(array: NDArray[Any]) -> NDArray[Any]:
    """Zeros at the end of the last axis, up to a multiple of LANES."""
    missing = -array.shape[-1] % LANES
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
