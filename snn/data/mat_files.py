"""Arrays of numbers in MATLAB files (Level 5, since MATLAB 5.0), read without trust in what they say.

scipy's reader is not used, since it crashes on some damaged files.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.data.expansion import Expansion

_HEADER = 128  # bytes: a text, then version and byte order
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_CLASSES = range(6, 16)  # of arrays of real or complex numbers
_IS_COMPLEX = 1 << 11


def read_mat_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names, of the type that they are stored in; other variables are passed over.

    Raises:
        ValueError: The file is of another form or damaged, lacks an array, or would expand too much.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("it is no MATLAB file of Level 5, as MATLAB saves with -v7 and older")
    expansion = Expansion(path)
    found = {}
    for kind, data in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(_decompress(data, expansion), order), (0, b""))
        if kind == _MATRIX:
            name, array = _read_matrix(data, order, names)
            if array is not None:
                found[name] = array
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)} of {', '.join(names)}")
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and data of each element: both lengths in 8 bytes, then the data, padded to 8 bytes.

    A small element has its length in the upper half of its type, and at most 4 bytes of data in the same 8.
    """
    offset = 0
    while offset < len(content):
        if offset + 8 > len(content):
            raise ValueError("it ends inside an element")
        kind, length = (int(n) for n in np.frombuffer(content, f"{order}u4", 2, offset))
        start = offset + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, offset + 4
        end = start + length
        if end > (offset + 8 if start == offset + 4 else len(content)):
            raise ValueError("it ends inside an element")
        yield kind, content[start:end]
        offset = end if kind == _COMPRESSED else -(-end // 8) * 8


def _decompress(data: bytes, expansion: Expansion) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, expansion.left + 1)
    except zlib.error as error:
        raise ValueError(f"a compressed element is damaged: {error}") from error
    expansion.add(len(content))
    if not stream.eof:
        raise ValueError("it ends inside a compressed element")
    return content


def _read_matrix(content: bytes, order: str, names: Collection[str]) -> tuple[str, NDArray[Any] | None]:
    """Name and values of a variable; no values if it has another name.

    Its elements are flags and class, dimensions, name, values.
    """
    elements = _elements(content, order)
    (_, flags), (_, dimensions), (_, encoded), (kind, values) = (next(elements, (0, b"")) for _ in range(4))
    name = encoded.decode("ascii", errors="replace")
    if name not in names:
        return name, None
    flag = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    if flag & 0xFF not in _CLASSES or flag & _IS_COMPLEX or kind not in _NUMBERS:
        raise ValueError(f"{name} should be an array of real numbers")
    array = np.frombuffer(values, order + _NUMBERS[kind])
    shape = [int(n) for n in np.frombuffer(dimensions, f"{order}i4")]
    if min(shape, default=-1) < 0 or math.prod(shape) != len(array):
        raise ValueError(f"{name} should have {shape} values, it has {len(array):,}")
    return name, array.reshape(shape, order="F")
