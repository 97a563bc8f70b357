"""Recordings of Prophesee's cameras: EVT 2.0 and EVT 3.0 (.raw), and DAT.

Decoded here, as the library that reads them (expelliarmus) never returns on some damaged files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.aedat import Columns

_VERSION = re.compile(rb"^%\s*(?:evt\s+|format\s+EVT)(\d(?:\.\d)?)", re.MULTILINE | re.IGNORECASE)

Words = NDArray[np.int64]


def read_raw(path: Path) -> Columns:
    """EVT 2.0 or 3.0, as the header says.

    Raises:
        ValueError: It has no header, is of another version, or holds something else than its words.
    """
    header, content = _split_header(path)
    found = _VERSION.search(header)
    if found is None:
        raise ValueError("its header does not say which version of EVT it is")
    decode = _DECODERS.get(found[1])
    if decode is None:
        raise ValueError(f"it is of EVT {found[1].decode()}, only 2.0 and 3.0 can be read")
    return decode(content)


def read_dat(path: Path) -> Columns:
    """DAT: the type and the size of an event in a byte each, then events of 8 bytes.

    Raises:
        ValueError: It has no header, or events of another size.
    """
    _, content = _split_header(path)
    if len(content) < 2 or content[1] != 8:
        raise ValueError("after its header, it does not say that an event has 8 bytes")
    words = _words(content[2:], "<u4", 8).reshape(-1, 2)
    t, data = words[:, 0], words[:, 1]
    return data & 0x3FFF, data >> 14 & 0x3FFF, t, data >> 28 & 1


def _split_header(path: Path) -> tuple[bytes, bytes]:
    """The lines that begin with %, and what follows them."""
    content, end = path.read_bytes(), 0
    while content[end : end + 1] == b"%":
        end = content.find(b"\n", end) + 1
        if end == 0:
            raise ValueError("it ends inside its header")
    if end == 0:
        raise ValueError("it does not begin with a header of lines that begin with %")
    return content[:end], content[end:]


def _words(content: bytes, kind: str, size: int) -> Words:
    if len(content) % size:
        raise ValueError(f"{len(content)} bytes of events are not a multiple of {size} bytes")
    return np.frombuffer(content, kind).astype(np.int64)


def _check_kinds(kinds: Words, known: set[int]) -> None:
    if unknown := {*np.unique(kinds).tolist()} - known:
        raise ValueError(f"it holds words of the unknown type {min(unknown):#x}")


def _decode_evt2(content: bytes) -> Columns:
    """Words of 32 bits: 0x0 and 0x1 are events of that polarity, 0x8 is the upper part of the time."""
    words = _words(content, "<u4", 4)
    kinds = words >> 28
    _check_kinds(kinds, {0x0, 0x1, 0x8, 0xA, 0xE, 0xF})
    high = _latest(words & 0xFFFFFFF, kinds == 0x8)
    events = kinds <= 0x1
    words, t = words[events], high[events] << 6 | words[events] >> 22 & 63
    return words >> 11 & 0x7FF, words & 0x7FF, t, words >> 28


def _decode_evt3(content: bytes) -> Columns:
    """Words of 16 bits, each of which changes the state that an event is made of.

    0x0 row, 0x2 an event at a column, 0x3 the column where vectors begin, 0x4 and 0x5 vectors of 12 and 8
    columns with a bit for each event, 0x6 and 0x8 lower and upper 12 bits of the time, which begins anew
    every 16.8 s.
    """
    words = _words(content, "<u2", 2)
    kinds, values = words >> 12, words & 0xFFF
    _check_kinds(kinds, {0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF})
    row = _latest(values & 0x7FF, kinds == 0x0)
    high = _latest(values, kinds == 0x8)
    turns = np.cumsum(np.diff(high, prepend=0) < -2048)
    t = turns << 24 | high << 12
    t += (_carried(values, kinds) << 12) + _latest(values, kinds == 0x6)
    base = _latest(values, kinds == 0x3)
    width = np.select([kinds == 0x4, kinds == 0x5], [12, 8], 0)
    passed = np.cumsum(width) - width  # columns of all vectors before a word
    column = (base & 0x7FF) + passed - _latest(passed, kinds == 0x3)
    places = np.arange(12)
    hits = (values[:, None] >> places & 1).astype(bool) & (places < width[:, None])
    single = kinds == 0x2
    hits[:, 0] |= single
    word, place = np.nonzero(hits)  # in the order of the file
    x = np.where(single, values & 0x7FF, column)[word] + place
    polarity = np.where(single, values, base) >> 11 & 1
    return x, row[word], t[word], polarity[word]


def _carried(values: Words, kinds: Words) -> Words:
    """What is missing in the upper part of the time: some writers leave it when the lower one begins anew."""
    lower, uppers = np.flatnonzero(kinds == 0x6), np.cumsum(kinds == 0x8)
    begins = np.zeros(len(kinds), np.int64)
    begins[lower[1:]] = (np.diff(values[lower]) < 0) & (np.diff(uppers[lower]) == 0)
    carried = np.cumsum(begins)
    return carried - _latest(carried, kinds == 0x8)


def _latest(values: Words, chosen: NDArray[np.bool_]) -> Words:
    """At each word the value of the last chosen word up to it; 0 before the first one."""
    last = np.maximum.accumulate(np.where(chosen, np.arange(len(values)), -1)) if len(values) else values
    return np.where(last >= 0, values[last], 0)


_DECODERS: dict[bytes, Callable[[bytes], Any]] = {
    b"2": _decode_evt2,
    b"2.0": _decode_evt2,
    b"3": _decode_evt3,
    b"3.0": _decode_evt3,
}
