"""Python calls of the compiled kernels (event_driven.c), which work on lists of spikes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from snn.kernels.layout import (
    LANES,
    Layer,
    SpikeLists,
    Workspace,
    fits_entries,
    is_plain,
)
from snn.kernels.library import library

_MAX_SPIKES = 2**31 - 1  # offsets are int32


class _Input(ctypes.Structure):
    _fields_ = (
        ("entries", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("kernel_h", ctypes.c_int32),
        ("kernel_w", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("padding", ctypes.c_int32),
        ("size", ctypes.c_int32),
        ("fan_out", ctypes.c_int32),
        ("scale", ctypes.c_float),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("padded", ctypes.c_int32),
        ("time_steps", ctypes.c_int32),
        ("leak", ctypes.c_float),
        ("threshold", ctypes.c_float),
        ("bias", ctypes.c_void_p),
    )


def fire(
    layer: Layer, inputs: Sequence[SpikeLists], workspace: Workspace, buffer: str
) -> tuple[SpikeLists, NDArray[np.int64]]:
    """Spikes of a layer, stored in a `buffer` of the workspace, and synaptic operations [inputs, N].

    Raises:
        ValueError: There may be more spikes than lists can hold.
    """
    first = inputs[0]
    result = _allocate(layer.shape, len(layer.bias), first.num_samples, first.time_steps, workspace, buffer)
    for spikes in inputs:
        assert (spikes.num_samples, len(spikes.offsets)) == (first.num_samples, len(first.offsets))
        assert spikes.entries is not result.entries, f"buffer {buffer} is read and written at once"
    descriptions = (_Input * len(inputs))(
        *(_describe_input(layer, i, spikes) for i, spikes in enumerate(inputs))
    )
    assert len(inputs) == len(layer.connections)
    operations = np.empty((len(inputs), first.num_samples), np.int64)
    library().fire(
        first.num_samples,
        ctypes.byref(_describe_layer(layer, first.time_steps)),
        len(inputs),
        descriptions,
        workspace.array("current", layer.num_floats, np.float32).ctypes.data,
        workspace.array("potential", layer.num_floats, np.float32).ctypes.data,
        result.entries.ctypes.data,
        result.offsets.ctypes.data,
        operations.ctypes.data,
    )
    return result, operations


def encode(
    layer: Layer, frames: NDArray[np.float32], time_steps: int, workspace: Workspace, buffer: str
) -> SpikeLists:
    """Spikes of the first layer, whose input is analog.

    Args:
        layer: A layer with one connection, which has weights.
        frames: Contiguous [N, T or 1, H, W, C]; a single frame feeds the same current at each time step.
        time_steps: T.
        workspace: Scratch memory.
        buffer: Name of its buffer for the spikes.

    Raises:
        ValueError: There may be more spikes than lists can hold.
    """
    num_samples, num_frames, height, width, channels = frames.shape
    assert num_frames in (1, time_steps) and is_plain(frames, np.float32)
    (connection,) = layer.connections
    assert connection.weights is not None and len(connection.weights) == channels
    result = _allocate(layer.shape, len(layer.bias), num_samples, time_steps, workspace, buffer)
    library().encode(
        num_samples,
        ctypes.byref(_describe_layer(layer, time_steps)),
        ctypes.byref(_describe_input(layer, 0, None)),
        frames.ctypes.data,
        num_frames,
        height,
        width,
        channels,
        workspace.array("current", layer.num_floats, np.float32).ctypes.data,
        workspace.array("potential", layer.num_floats, np.float32).ctypes.data,
        result.entries.ctypes.data,
        result.offsets.ctypes.data,
    )
    return result


def max_pool(spikes: SpikeLists, workspace: Workspace, buffer: str) -> SpikeLists:
    """2x2 max-pool with stride 2."""
    channels, height, width = spikes.shape
    shape = (channels, height // 2, width // 2)
    result = _allocate(shape, channels, spikes.num_samples, spikes.time_steps, workspace, buffer)
    assert spikes.entries is not result.entries, f"buffer {buffer} is read and written at once"
    library().max_pool(
        len(spikes.offsets) - 1,
        spikes.entries.ctypes.data,
        spikes.offsets.ctypes.data,
        shape[1],
        shape[2],
        channels,
        workspace.array("seen", channels * shape[1] * shape[2] + 8, np.uint8).ctypes.data,
        result.entries.ctypes.data,
        result.offsets.ctypes.data,
    )
    return result


def count_votes(spikes: SpikeLists, voters: int) -> NDArray[np.int32]:
    """Spikes per class over all time steps, [N, K]; the `voters` neurons of a class are adjacent channels."""
    assert spikes.shape[0] % voters == 0
    votes = np.empty((spikes.num_samples, spikes.shape[0] // voters), np.int32)
    library().count_votes(
        spikes.num_samples,
        spikes.time_steps,
        spikes.entries.ctypes.data,
        spikes.offsets.ctypes.data,
        voters,
        votes.shape[1],
        votes.ctypes.data,
    )
    return votes


def mean_and_variance(
    layer: Layer, index: int, spikes: SpikeLists, workspace: Workspace
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased variance, each [C padded], of the current from the `index`-th input of a layer.

    Both are taken per channel over samples, time steps and pixels, as in batch norm.
    """
    sums = workspace.array("sums", 2 * len(layer.bias), np.float64)[: 2 * len(layer.bias)]
    num_lists = len(spikes.offsets) - 1
    library().moments(
        num_lists,
        ctypes.byref(_describe_layer(layer, spikes.time_steps)),
        ctypes.byref(_describe_input(layer, index, spikes)),
        workspace.array("current", layer.num_floats, np.float32).ctypes.data,
        sums.ctypes.data,
    )
    count = num_lists * layer.shape[1] * layer.shape[2]
    mean, mean_square = sums.reshape(2, -1) / count
    return mean, np.maximum(mean_square - mean**2, 0.0) * (count / max(1, count - 1))


def list_spikes(
    planes: NDArray[np.float32], capacity: int, workspace: Workspace, buffer: str
) -> SpikeLists | None:
    """Lists of the spikes in binary planes [M, H, W, C]; None if there are more than `capacity`.

    Each plane is a sample with one time step. None also if the planes are too large for lists.
    """
    num_lists, height, width, channels = planes.shape
    assert is_plain(planes, np.float32)
    if not fits_entries((channels, height, width)):
        return None
    capacity = min(capacity, _MAX_SPIKES)
    entries = workspace.array(buffer, capacity, np.uint32)
    offsets = workspace.array(f"{buffer}.offsets", num_lists + 1, np.int32)[: num_lists + 1]
    count = library().list_spikes(
        num_lists,
        planes.ctypes.data,
        height,
        width,
        channels,
        capacity,
        entries.ctypes.data,
        offsets.ctypes.data,
    )
    return None if count < 0 else SpikeLists(entries, offsets, num_lists, (channels, height, width))


def convolve(layer: Layer, spikes: SpikeLists, out: NDArray[np.float32]) -> None:
    """Writes the output of a layer's only connection, a convolution, to `out` [M, H, W, C]; no neurons."""
    _check_planes(layer, spikes, out)
    library().convolve(
        len(spikes.offsets) - 1,
        ctypes.byref(_describe_layer(layer, 1)),
        ctypes.byref(_describe_input(layer, 0, spikes)),
        out.ctypes.data,
    )


def collect_gradient(
    layer: Layer, spikes: SpikeLists, out_gradient: NDArray[np.float32], gradient: NDArray[np.float32]
) -> None:
    """Adds the weight gradient of a layer's only connection (stride 1) to `gradient`.

    Args:
        layer: The layer.
        spikes: Its input.
        out_gradient: Gradient of its output, [M, H, W, C].
        gradient: Gradient of the weights, in their layout.
    """
    _check_planes(layer, spikes, out_gradient)
    (connection,) = layer.connections
    assert connection.stride == 1 and connection.weights is not None
    assert is_plain(gradient, np.float32) and gradient.shape == connection.weights.shape
    library().collect(
        len(spikes.offsets) - 1,
        ctypes.byref(_describe_layer(layer, 1)),
        ctypes.byref(_describe_input(layer, 0, spikes)),
        out_gradient.ctypes.data,
        gradient.ctypes.data,
    )


def _allocate(
    shape: tuple[int, int, int],
    padded: int,
    num_samples: int,
    time_steps: int,
    workspace: Workspace,
    buffer: str,
) -> SpikeLists:
    """Lists with memory for the spikes of a layer even if all its neurons fire."""
    size = num_samples * time_steps * padded * shape[1] * shape[2] + LANES
    num_lists = num_samples * time_steps
    if size > _MAX_SPIKES:
        raise ValueError(
            f"{num_samples} samples with {time_steps} time steps in a layer of {shape[1]}x{shape[2]} neurons "
            f"with {shape[0]} channels may have {size:,} spikes; event-driven evaluation lists up to "
            f"{_MAX_SPIKES:,} at once: use fewer samples at once, or --search.engine dense."
        )
    entries = workspace.array(buffer, size, np.uint32)
    offsets = workspace.array(f"{buffer}.offsets", num_lists + 1, np.int32)[: num_lists + 1]
    return SpikeLists(entries, offsets, num_samples, shape)


def _describe_layer(layer: Layer, time_steps: int) -> _Layer:
    channels, height, width = layer.shape
    return _Layer(
        height,
        width,
        channels,
        len(layer.bias),
        time_steps,
        layer.leak,
        layer.threshold,
        layer.bias.ctypes.data,
    )


def _describe_input(layer: Layer, index: int, spikes: SpikeLists | None) -> _Input:
    connection = layer.connections[index]
    weights = connection.weights
    if spikes is not None:
        assert spikes.count <= len(spikes.entries)
        assert spikes.shape[0] == (layer.shape[0] if weights is None else len(weights))
    return _Input(
        spikes.entries.ctypes.data if spikes else None,
        spikes.offsets.ctypes.data if spikes else None,
        None if weights is None else weights.ctypes.data,
        0 if weights is None else weights.shape[1],
        0 if weights is None else weights.shape[2],
        connection.stride,
        connection.padding,
        connection.size,
        connection.fan_out,
        connection.scale,
    )


def _check_planes(layer: Layer, spikes: SpikeLists, planes: NDArray[np.float32]) -> None:
    """Planes are the output of the layer for each list: [M, H, W, C padded]."""
    _, height, width = layer.shape
    assert is_plain(planes, np.float32)
    assert planes.shape == (len(spikes.offsets) - 1, height, width, len(layer.bias))
