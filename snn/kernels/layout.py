"""Data structures of the event-driven kernels: lists of spikes, layers and working memory."""

from __future__ import annotations

from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 8
MAX_SIZE = 1024
MAX_CHANNELS = 4096
_CACHE_LINE = 64
_OF_THREAD = local()


@dataclass(frozen=True)
class SpikeLists:
    """Spikes of a chunk of samples, ordered by sample, then by time step.

    Attributes:
        entries: uint32, one per spike: y << 22 | x << 12 | channel.
        offsets: int32 [num_samples * time_steps + 1]: start of each list, and end of the last one.
        num_samples: Number of samples in the chunk.
        shape: (C, H, W) of the neurons, up to MAX_CHANNELS x MAX_SIZE x MAX_SIZE.
    """

    entries: NDArray[np.uint32]
    offsets: NDArray[np.int32]
    num_samples: int
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        assert is_plain(self.entries, np.uint32) and is_plain(self.offsets, np.int32)
        assert self.num_samples >= 1 and (len(self.offsets) - 1) % self.num_samples == 0
        assert fits_entries(self.shape)

    @property
    def count(self) -> int:
        """Number of spikes over all samples and time steps."""
        return int(self.offsets[-1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of spikes of each sample, [N]."""
        return np.diff(self.offsets[:: self.time_steps]).astype(np.int64)

    @property
    def time_steps(self) -> int:
        return (len(self.offsets) - 1) // self.num_samples

    def dense(self) -> NDArray[np.float32]:
        """The spikes as a binary array, [T, N, C, H, W]."""
        planes = np.zeros((self.num_samples * self.time_steps, *self.shape), np.float32)
        entries = self.entries[: self.count]
        lists = np.repeat(np.arange(len(planes)), np.diff(self.offsets))
        planes[lists, entries & 4095, entries >> 22, (entries >> 12) & 1023] = 1
        return planes.reshape(self.num_samples, self.time_steps, *self.shape).swapaxes(0, 1)


@dataclass(frozen=True)
class Connection:
    """The connection of one input to a layer.

    Attributes:
        weights: float32 [C_in, K_h, K_w in reverse order, C_out padded] of a convolution. None is an identity
            or average pool: each spike adds `scale` to its own channel at (y // size, x // size).
        stride: Stride of the convolution.
        padding: Zeros around its input; if negative, rows and columns are cropped at the top and left.
        size: Side of an average pool, 1 for an identity.
        scale: Weight of an identity or average pool.
        fan_out: Output channels that each tap of the kernel feeds; the others have zero weights.
    """

    weights: NDArray[np.float32] | None = None
    stride: int = 1
    padding: int = 0
    size: int = 1
    scale: float = 1.0
    fan_out: int = 0

    def __post_init__(self) -> None:
        assert self.stride >= 1 and self.size >= 1
        assert self.weights is None or (self.weights.ndim == 4 and is_plain(self.weights, np.float32))


@dataclass(frozen=True)
class Layer:
    """A layer of neurons and the connections that feed it.

    Attributes:
        shape: (C, H, W) of its neurons.
        bias: float32 [C padded to a multiple of LANES].
        leak: Fraction of the membrane potential left after a time step.
        threshold: Potential at which a neuron fires; as float32, NaN means never.
        connections: One per input.
    """

    shape: tuple[int, int, int]
    bias: NDArray[np.float32]
    leak: float
    threshold: float
    connections: tuple[Connection, ...]

    def __post_init__(self) -> None:
        channels = self.shape[0]
        assert is_plain(self.bias, np.float32) and self.bias.shape == (channels + -channels % LANES,)
        for connection in self.connections:
            assert connection.weights is None or connection.weights.shape[3] == len(self.bias)

    @property
    def num_neurons(self) -> int:
        channels, height, width = self.shape
        return channels * height * width

    @property
    def num_floats(self) -> int:
        """Number of floats for its currents or potentials."""
        return len(self.bias) * self.shape[1] * self.shape[2]


class Workspace:
    """Named buffers that kernels write to, reused between calls; each thread needs its own.

    A list of spikes is valid until the next write to the same buffer.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, buffer: str, size: int, dtype: Any) -> NDArray[Any]:
        """A buffer of at least `size` elements, zeros when allocated."""
        array = self._arrays.get(buffer)
        if array is None or len(array) < size:
            array = self._arrays[buffer] = aligned_zeros(size, dtype)
        assert array.dtype == dtype, f"buffer {buffer} has elements of two types"
        return array


def workspace() -> Workspace:
    """The buffers of this thread."""
    if not hasattr(_OF_THREAD, "workspace"):
        _OF_THREAD.workspace = Workspace()
    buffers: Workspace = _OF_THREAD.workspace
    return buffers


def fits_entries(shape: tuple[int, int, int]) -> bool:
    """Whether an entry has enough bits for the place and the channel of each neuron of (C, H, W)."""
    channels, height, width = shape
    return channels <= MAX_CHANNELS and max(height, width) <= MAX_SIZE


def is_plain(array: NDArray[Any], dtype: Any) -> bool:
    """Whether an array's memory is what compiled code expects: elements of this type, one after the other."""
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


def aligned_zeros(size: int, dtype: Any) -> NDArray[Any]:
    """Zeros aligned to a cache line, so that no vector crosses two lines."""
    num_bytes = size * np.dtype(dtype).itemsize
    memory = np.zeros(num_bytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + num_bytes].view(dtype)


def kernel_layout(weight: NDArray[Any]) -> NDArray[np.float32]:
    """A convolution's weights [C_out, C_in, K_h, K_w] as [C_in, K_h, K_w reversed, C_out padded]."""
    return aligned(padded(weight.transpose(1, 2, 3, 0)[:, :, ::-1]))


def aligned(array: NDArray[Any]) -> NDArray[np.float32]:
    """A contiguous copy aligned to a cache line."""
    result: NDArray[np.float32] = aligned_zeros(array.size, np.float32).reshape(array.shape)
    result[:] = array
    return result


def padded(array: NDArray[Any]) -> NDArray[Any]:
    """The array with its last axis zero-padded to a multiple of LANES."""
    missing = -array.shape[-1] % LANES
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
