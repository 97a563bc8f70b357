"""Python call of the compiled convolutions by Winograd's minimal filtering (winograd.c).

Dimensions: M planes, H height, W width, C channels, K rows and columns of a kernel.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from snn.kernels.layout import is_plain, workspace
from snn.kernels.library import library
from snn.kernels.threads import in_threads, shares

TILE = 4
"""Rows and columns of a tile's outputs."""

_TILES = 16  # that are done at once
_BLOCK = 16  # numbers of channels are multiples of it
_KERNEL_SIZES = (3, 5)


class _Convolution(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int32) for name in ("height", "width", "in_channels", "out_channels", "kernel_size")
    )


def applies(weight_shape: tuple[int, ...], padding: int) -> bool:
    """Whether there is a kernel for weights [C, C, K_h, K_w] and so many zeros around the planes."""
    *channels, height, width = weight_shape
    centred = height == width == 2 * padding + 1
    return centred and height in _KERNEL_SIZES and not any(number % _BLOCK for number in channels)


def convolve(planes: NDArray[np.float32], weights: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Writes planes convolved with weights, at stride 1 and with zeros around the planes, to `out`.

    Args:
        planes: [M, H, W, C_in].
        weights: [K, K, C_in, C_out], to which the kernel applies.
        out: [M, H, W, C_out].
    """
    kernel_size, in_channels, out_channels = weights.shape[1:]
    assert applies(weights.shape[::-1], kernel_size // 2) and planes.shape[3] == in_channels
    assert out.shape == (*planes.shape[:3], out_channels)
    assert all(is_plain(array, np.float32) for array in (planes, weights, out))
    layer = ctypes.byref(_Convolution(*planes.shape[1:3], in_channels, out_channels, kernel_size))
    places = (TILE + kernel_size - 1) ** 2
    num_floats = places * (_TILES * (in_channels + out_channels) + 2 * _BLOCK)
    transformed = workspace().array("transformed weights", places * in_channels * out_channels, np.float32)
    library().winograd_weights(layer, weights.ctypes.data, transformed.ctypes.data)

    def run(share: slice) -> None:
        library().winograd(
            layer,
            share.stop - share.start,
            planes[share].ctypes.data,
            transformed.ctypes.data,
            out[share].ctypes.data,
            workspace().array("tiles", num_floats, np.float32).ctypes.data,
        )

    in_threads(run, shares(len(planes)))
