"""Whatever the shapes, thresholds and weights, kernels do what plain numpy does and write nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toys import require_kernels

from snn.kernels import calls
from snn.kernels.layout import Connection, Layer, SpikeLists, Workspace
from snn.kernels.library import FLAGS_VARIABLE

require_kernels()

# Sanitizers see each access beyond an array, but only if it is one of malloc's own; else guards see writes.
SANITIZED = "sanitize" in os.environ.get(FLAGS_VARIABLE, "")
GUARD = 0 if SANITIZED else 128
JUNK = 0xA5

# Sums of these are exact in float32, so that results do not depend on the order of additions.
ORDINARY = (-2.0, -0.5, 0.0, 0.25, 0.5, 1.0, 3.0)
SPECIAL = (np.nan, np.inf, -np.inf)
THRESHOLDS = (0.25, 1.0, 3.0, 0.0, -1.0, 1e-50, 1e300, *SPECIAL)

properties = settings(max_examples=150, derandomize=True, deadline=None, database=None)


class Guarded(Workspace):
    """Buffers of exactly the size asked for, full of junk, between guards that must keep theirs."""

    def __init__(self) -> None:
        self._memory: dict[str, tuple[NDArray[np.uint8], int]] = {}

    def array(self, buffer: str, size: int, dtype: Any) -> NDArray[Any]:
        num_bytes = size * np.dtype(dtype).itemsize
        memory = np.full(num_bytes + 2 * GUARD, JUNK, np.uint8)
        inside = memory[GUARD : GUARD + num_bytes]
        if buffer == "seen":  # presumed to be zeros, and left so
            inside[:] = 0
        self._memory[buffer] = memory, num_bytes
        return inside.view(dtype)

    def check(self) -> None:
        for buffer, (memory, num_bytes) in self._memory.items():
            assert (memory[:GUARD] == JUNK).all(), f"written before {buffer}"
            assert (memory[GUARD + num_bytes :] == JUNK).all(), f"written beyond {buffer}"
            assert buffer != "seen" or not memory[GUARD : GUARD + num_bytes].any()


@dataclass
class Drawn:
    """Shapes and choices by hypothesis, arrays by a generator that it seeds."""

    draw: Any

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.integer(0, 2**32))
        self.values = ORDINARY + SPECIAL * self.draw(st.booleans())

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def shape(self) -> tuple[int, int, int]:
        return self.integer(1, 19), self.integer(1, 7), self.integer(1, 7)

    def floats(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.choice(np.array(self.values, np.float32), shape)

    def spikes(self, num_samples: int, time_steps: int, shape: tuple[int, int, int]) -> SpikeLists:
        rate = self.draw(st.sampled_from((0.0, 0.1, 0.5, 1.0)))
        channels, height, width = shape
        planes = self.rng.random((num_samples * time_steps, height, width, channels)) < rate
        lists, y, x, channel = planes.nonzero()
        offsets = np.searchsorted(lists, np.arange(len(planes) + 1)).astype(np.int32)
        return SpikeLists((y << 22 | x << 12 | channel).astype(np.uint32), offsets, num_samples, shape)

    def layer(self, *connections: Connection, shape: tuple[int, int, int]) -> Layer:
        bias = self.floats(shape[0] + -shape[0] % 8)
        leak = self.draw(st.sampled_from((0.0, 0.5, 1.0)))
        return Layer(shape, bias, leak, self.draw(st.sampled_from(THRESHOLDS)), connections)

    def convolution(self, channels: int, following: int, *, stride: int | None = None) -> Connection:
        """Its weights for channels that only pad the output may be anything too."""
        kernel = self.integer(1, 5), self.integer(1, 5)
        weights = self.floats(channels, *kernel, following + -following % 8)
        stride = stride or self.integer(1, 3)
        return Connection(weights, stride=stride, padding=self.integer(-2, 4), fan_out=following)

    def connection(self, channels: int, following: int) -> Connection:
        if channels != following or self.draw(st.booleans()):
            return self.convolution(channels, following)
        return Connection(size=self.integer(1, 4), scale=float(self.floats(1)[0]))


@st.composite
def drawn(draw: Any) -> Drawn:
    return Drawn(draw)


def add_element(
    current: NDArray[np.float32], connection: Connection, y: int, x: int, channel: int, value: Any
) -> int:
    """Adds what one input element brings to current [H, W, C padded]; returns the outputs it reached."""
    height, width, _ = current.shape
    if connection.weights is None:
        y, x = y // connection.size, x // connection.size
        if y < height and x < width:
            current[y, x, channel] += np.float32(connection.scale)
        return 0
    reached = 0
    kernel = connection.weights[channel, :, ::-1]
    for h, w in np.ndindex(kernel.shape[:2]):
        out_y, rest_y = divmod(y + connection.padding - h, connection.stride)
        out_x, rest_x = divmod(x + connection.padding - w, connection.stride)
        if rest_y or rest_x or not (0 <= out_y < height and 0 <= out_x < width):
            continue
        current[out_y, out_x] += kernel[h, w] * np.float32(value)
        reached += connection.fan_out
    return reached


def currents_of(layer: Layer, index: int, spikes: SpikeLists) -> tuple[NDArray[np.float32], int]:
    """What the `index`-th input brings to each neuron, [lists, H, W, C padded], and the operations."""
    _, height, width = layer.shape
    current = np.zeros((len(spikes.offsets) - 1, height, width, len(layer.bias)), np.float32)
    operations = 0
    for plane, (start, end) in zip(current, pairwise(spikes.offsets), strict=True):
        for entry in spikes.entries[start:end].tolist():
            y, x, channel = entry >> 22, entry >> 12 & 1023, entry & 4095
            operations += add_element(plane, layer.connections[index], y, x, channel, 1)
    return current, operations


def fired(layer: Layer, current: NDArray[np.float32]) -> NDArray[np.float32]:
    """Spikes [T, N, C, H, W] of currents [N, T, H, W, C padded]."""
    channels = layer.shape[0]
    potential = np.zeros_like(current[:, 0, ..., :channels])
    steps = []
    for t in range(current.shape[1]):
        u = current[:, t, ..., :channels] + layer.bias[:channels]
        u = u + np.float32(layer.leak) * potential if t else u
        fires = u >= np.float32(layer.threshold)
        potential = np.where(fires, np.float32(0), u)
        steps.append(fires.transpose(0, 3, 1, 2))
    return np.stack(steps).astype(np.float32)


def assert_lists(spikes: SpikeLists, expected: NDArray[np.float32]) -> None:
    """Spikes in raster order, none of a channel that is not there."""
    entries = spikes.entries[: spikes.count]
    assert ((entries & 4095) < spikes.shape[0]).all()
    assert np.array_equal(spikes.dense(), expected)
    for start, end in pairwise(spikes.offsets):
        assert (np.diff(spikes.entries[start:end].astype(np.int64)) > 0).all()


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@given(drawn())
@properties
def test_layers_pools_and_votes(case: Drawn) -> None:
    num_samples, time_steps, shape = case.integer(1, 3), case.integer(1, 4), case.shape()
    sources = [case.shape() for _ in range(case.integer(1, 2))]
    sources = [(shape[0], *source[1:]) if case.integer(0, 1) else source for source in sources]
    layer = case.layer(*(case.connection(source[0], shape[0]) for source in sources), shape=shape)
    inputs = [case.spikes(num_samples, time_steps, source) for source in sources]
    workspace = Guarded()

    spikes, operations = calls.fire(layer, inputs, workspace, "layer")
    brought = [currents_of(layer, i, signal) for i, signal in enumerate(inputs)]
    current = sum(current for current, _ in brought).reshape(num_samples, time_steps, *shape[1:], -1)
    assert operations.sum(1).tolist() == [count for _, count in brought]
    assert_lists(spikes, fired(layer, current))

    pooled = calls.max_pool(spikes, workspace, "pool")
    _, height, width = pooled.shape
    crop = spikes.dense()[..., : 2 * height, : 2 * width]
    blocks = crop.reshape(time_steps, num_samples, shape[0], height, 2, width, 2)
    assert_lists(pooled, blocks.max(axis=(4, 6)))

    voters = case.draw(st.sampled_from([n for n in range(1, shape[0] + 1) if shape[0] % n == 0]))
    votes = spikes.dense().sum(axis=(0, 3, 4)).reshape(num_samples, -1, voters).sum(2)
    assert np.array_equal(calls.count_votes(spikes, voters), votes)
    workspace.check()


@given(drawn())
@properties
def test_first_layer(case: Drawn) -> None:
    num_samples, time_steps, shape = case.integer(1, 3), case.integer(1, 4), case.shape()
    channels, height, width = case.integer(1, 4), case.integer(1, 7), case.integer(1, 7)
    layer = case.layer(case.convolution(channels, shape[0]), shape=shape)
    frames = case.floats(num_samples, case.draw(st.sampled_from((1, time_steps))), height, width, channels)
    workspace = Guarded()
    spikes = calls.encode(layer, frames, time_steps, workspace, "stem")
    current = np.zeros((num_samples, time_steps, *shape[1:], len(layer.bias)), np.float32)
    moving = np.broadcast_to(frames, (num_samples, time_steps, height, width, channels))
    for n, t, y, x, c in zip(*moving.nonzero(), strict=True):
        add_element(current[n, t], layer.connections[0], int(y), int(x), int(c), moving[n, t, y, x, c])
    assert_lists(spikes, fired(layer, current))
    workspace.check()


@given(drawn())
@properties
def test_moments(case: Drawn) -> None:
    source, shape = case.shape(), case.shape()
    layer = case.layer(case.connection(source[0], shape[0]), shape=shape)
    spikes = case.spikes(2, 2, source)
    workspace = Guarded()
    mean, variance = calls.mean_and_variance(layer, 0, spikes, workspace)
    current = currents_of(layer, 0, spikes)[0].astype(np.float64)
    assert np.allclose(mean, current.mean((0, 1, 2)), equal_nan=True)
    square = (current**2).mean((0, 1, 2))
    count = current[..., 0].size
    expected = np.maximum(square - mean**2, 0) * count / max(1, count - 1)
    assert np.allclose(variance, expected, equal_nan=True)
    workspace.check()


@given(drawn())
@properties
def test_training_kernels(case: Drawn) -> None:
    source, shape = case.shape(), case.shape()
    number = case.integer(1, 4)
    spikes = case.spikes(number, 1, source)
    planes = np.ascontiguousarray(spikes.dense()[0].transpose(0, 2, 3, 1))
    capacity = spikes.count + case.integer(0, source[0])
    workspace = Guarded()
    listed = calls.list_spikes(planes, capacity, workspace, "planes")
    assert capacity < spikes.count + source[0] or listed is not None
    assert listed is None or np.array_equal(listed.dense(), spikes.dense())

    layer = case.layer(case.convolution(source[0], shape[0], stride=1), shape=shape)
    weights = layer.connections[0].weights
    assert weights is not None
    out = workspace.array("out", number * shape[1] * shape[2] * len(layer.bias), np.float32)
    out = out.reshape(number, *shape[1:], -1)
    calls.convolve(layer, spikes, out)
    assert np.array_equal(out, currents_of(layer, 0, spikes)[0], equal_nan=True)

    gradient = workspace.array("gradient", weights.size, np.float32).reshape(weights.shape)
    gradient[:] = 0
    out_gradient = case.floats(*out.shape)
    calls.collect_gradient(layer, spikes, out_gradient, gradient)
    # As the derivative of sum(out * out_gradient), for each weight where it would be added.
    expected = np.zeros_like(gradient)
    padding = layer.connections[0].padding
    for n, y, x, c in zip(*planes.nonzero(), strict=True):
        for h, w in np.ndindex(weights.shape[1:3]):
            out_y, out_x = y + padding - h, x + padding - w
            if 0 <= out_y < shape[1] and 0 <= out_x < shape[2]:
                expected[c, h, weights.shape[2] - 1 - w] += out_gradient[n, out_y, out_x]
    assert np.array_equal(gradient, expected, equal_nan=True)
    workspace.check()


def test_threshold_that_is_zero_as_float32_lets_no_padding_channel_fire() -> None:
    layer = Layer((3, 1, 1), np.zeros(8, np.float32), 0.5, 1e-50, (Connection(),))
    silence = SpikeLists(np.zeros(0, np.uint32), np.zeros(2, np.int32), 1, (3, 1, 1))
    spikes, _ = calls.fire(layer, [silence], Workspace(), "layer")
    assert calls.count_votes(spikes, 1).tolist() == [[1, 1, 1]]
    assert spikes.entries[: spikes.count].tolist() == [0, 1, 2]
