"""What the compiled kernels presume is checked before they are called."""

from __future__ import annotations

import numpy as np
import pytest
from toys import require_kernels

from snn.kernels import calls
from snn.kernels.layout import Connection, Layer, SpikeLists, Workspace

require_kernels()


def test_planes_too_large_for_lists_are_not_listed() -> None:
    wide = np.zeros((1, 2, 1025, 1), np.float32)
    assert calls.list_spikes(wide, 10, Workspace(), "planes") is None
    assert calls.list_spikes(np.zeros((1, 1, 1, 4097), np.float32), 5000, Workspace(), "planes") is None


def test_more_spikes_than_lists_can_hold_are_refused_by_name() -> None:
    layer = Layer((4096, 1024, 1024), np.zeros(4096, np.float32), 0.5, 1.0, (Connection(),))
    silence = SpikeLists(np.zeros(0, np.uint32), np.zeros(2, np.int32), 1, (4096, 1, 1))
    with pytest.raises(ValueError, match=r"1024x1024 neurons.*--search.engine dense"):
        calls.fire(layer, [silence], Workspace(), "layer")


def silent(channels: int, num_samples: int = 1) -> SpikeLists:
    offsets = np.zeros(num_samples + 1, np.int32)
    return SpikeLists(np.zeros(0, np.uint32), offsets, num_samples, (channels, 1, 1))


@pytest.mark.parametrize(
    "case", ["channels", "samples", "inputs", "buffer", "voters", "weights", "bias", "entries"]
)
def test_what_the_kernels_presume_is_checked(case: str) -> None:
    bias = np.zeros(8, np.float32)
    layer = Layer((4, 1, 1), bias, 0.5, 1.0, (Connection(), Connection()))
    workspace = Workspace()
    spikes, _ = calls.fire(layer, [silent(4), silent(4)], workspace, "layer")
    with pytest.raises(AssertionError):
        if case == "channels":
            calls.fire(layer, [silent(4), silent(9)], workspace, "other")
        if case == "samples":
            calls.fire(layer, [silent(4), silent(4, 2)], workspace, "other")
        if case == "inputs":
            calls.fire(layer, [silent(4)], workspace, "other")
        if case == "buffer":
            calls.fire(layer, [spikes, silent(4)], workspace, "layer")
        if case == "voters":
            calls.count_votes(spikes, 3)
        if case == "weights":
            Layer((4, 1, 1), bias, 0.5, 1.0, (Connection(np.zeros((4, 1, 1, 4), np.float32)),))
        if case == "bias":
            Layer((4, 1, 1), np.zeros(4, np.float32), 0.5, 1.0, ())
        if case == "entries":
            SpikeLists(np.zeros(0, np.uint32), np.zeros(2, np.int32), 1, (1, 1025, 1))
