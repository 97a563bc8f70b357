"""Frames of events as small pictures: ON and OFF in two colours on a light background."""

# Letters of arrays: T time steps, P polarities (0 OFF, 1 ON), H rows, W columns of pixels.

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ON_COLOUR = "#d9480f"
OFF_COLOUR = "#1d6fb8"
GROUND_COLOUR = "#f4f6f9"
_STRENGTHS = (0.0, 0.4, 0.7, 1.0)  # strength of a colour, by level
_GAP = len(_STRENGTHS) ** 2  # palette index of the colour between frames
_LARGEST_SIDE = 100  # longest side of a frame in picture pixels; bounds the size of the page
_FULL_QUANTILE = 0.95  # quantile of the counts above 0 from which the colour is full


def block_side(height: int, width: int) -> int:
    """Side in sensor pixels of the squares that become one pixel of the picture."""
    return -(-max(height, width) // _LARGEST_SIDE)


def frames_picture(frames_TPHW: NDArray[np.uint8]) -> Image.Image:
    """Frames side by side with equal margins; more events give a stronger colour."""
    counts = _blocks(frames_TPHW, block_side(*frames_TPHW.shape[2:]))
    off, on = _levels(counts).swapaxes(0, 1)
    colours_THW = off * len(_STRENGTHS) + on
    margin = max(1, colours_THW.shape[2] // 32)
    around = ((0, 0), (margin, margin), (margin, margin))
    framed = np.pad(colours_THW, around, constant_values=_GAP)
    picture = Image.fromarray(np.ascontiguousarray(np.hstack(list(framed))))
    picture.putpalette(_palette())
    return picture


def png_data_url(picture: Image.Image) -> str:
    """The picture as a data URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def mixed_colour(off: float, on: float) -> tuple[int, ...]:
    """Red, green and blue of OFF and ON events of strengths in [0, 1], mixed like inks."""
    ground, inks = _rgb(GROUND_COLOUR), ((off, _rgb(OFF_COLOUR)), (on, _rgb(ON_COLOUR)))
    mixed = ground
    for strength, ink in inks:
        mixed = mixed * (1 - strength + strength * ink / ground)
    return tuple(round(float(part)) for part in mixed)


def _blocks(frames_TPHW: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """Event counts of squares of `side` pixels, zero-padded at the far borders."""
    T, P, H, W = frames_TPHW.shape
    padded = np.pad(frames_TPHW.astype(np.int64), ((0, 0), (0, 0), (0, -H % side), (0, -W % side)))
    blocks = padded.reshape(T, P, -(-H // side), side, -(-W // side), side)
    counts: NDArray[np.int64] = blocks.sum(axis=(3, 5))
    return counts


def _levels(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Index into _STRENGTHS of each count; only counts of 0 have level 0."""
    positive = counts[counts > 0]
    full = float(np.quantile(positive, _FULL_QUANTILE)) if positive.size else 1.0
    return np.ceil((len(_STRENGTHS) - 1) * np.minimum(counts / full, 1)).astype(np.uint8)


def _palette() -> list[int]:
    mixed: Sequence[tuple[int, ...]] = [mixed_colour(off, on) for off in _STRENGTHS for on in _STRENGTHS]
    return [part for colour in (*mixed, (255, 255, 255)) for part in colour]


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float64)
