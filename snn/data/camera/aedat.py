"""Recordings in the AEDAT forms, versions 2.0 and 4.0."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.data.expansion import Expansion

Columns = tuple[Any, Any, Any, Any]  # x, y, t and p of all events

_AEDAT4_START = b"#!AER-DAT4.0\r\n"
_AEDAT4_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?"), ("unused", "V3")])
_PART = 1 << 20  # bytes that are decompressed together
_AEDAT4_CODECS = {0: None, 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}


def read_aedat(path: Path) -> Columns:
    """AEDAT 2.0: header lines that begin with #, then big-endian address and time in us, 32 bits each.

    Address of a DVS128: bit 0 polarity (0 is ON), bits 1-7 column from the right, bits 8-14 row from the
    bottom, bit 15 marks special events, which are dropped.
    """
    content = path.read_bytes()
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError("it does not begin with #!AER-DAT2.0")
    start = 0
    while content[start : start + 1] == b"#":
        start = content.find(b"\n", start) + 1
        if start == 0:
            raise ValueError("it ends inside its header")
    if (len(content) - start) % 8:
        raise ValueError(f"{len(content) - start} bytes of events are not a multiple of 8 bytes")
    raw = np.frombuffer(content, np.dtype([("address", ">u4"), ("t", ">u4")]), offset=start)
    if len(raw) and raw["address"].max() >= 1 << 16:
        raise ValueError("its addresses have more than 16 bits, so it is not of a DVS128")
    raw = raw[raw["address"] < 1 << 15]
    address = raw["address"].astype(np.int64)
    return 127 - (address >> 1 & 127), 127 - (address >> 8), raw["t"], 1 - (address & 1)


def read_aedat4(path: Path) -> Columns:
    """AEDAT 4.0: a header, then packets of one stream each, as flatbuffers that may be compressed.

    If there are several event streams, the one with the lowest number is read.
    """
    content = path.read_bytes()
    if not content.startswith(_AEDAT4_START):
        raise ValueError("it does not begin with #!AER-DAT4.0")
    offset = len(_AEDAT4_START)
    header = content[offset : offset + 4 + _number("<I", content, offset)]
    codec = _flatbuffer_number(header, 0, "<i", default=0)
    if codec not in _AEDAT4_CODECS:
        raise ValueError(f"its compression has the unknown number {codec}")
    offset += len(header)
    table = _flatbuffer_number(header, 1, "<q", default=-1)  # index of the packets, after the last one
    end = len(content) if table < 0 else table
    expansion = Expansion(path)
    streams: dict[int, list[NDArray[np.void]]] = {}
    while offset < end:
        stream, size = _number("<i", content, offset), _number("<i", content, offset + 4)
        offset += 8
        if size < 0 or offset + size > len(content):
            raise ValueError("it ends inside a packet")
        packet = _decompress(content[offset : offset + size], _AEDAT4_CODECS[codec], expansion)
        if packet[8:12] == b"EVTS":
            streams.setdefault(stream, []).append(_aedat4_events(packet))
        offset += size
    if not streams:
        raise ValueError("it has no events")
    events = np.concatenate(streams[min(streams)])
    return events["x"], events["y"], events["t"], events["p"]


def _decompress(data: bytes, codec: str | None, expansion: Expansion) -> bytes:
    import pyarrow as pa

    if codec is None:
        return data
    parts = []
    with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
        while part := stream.read(_PART):
            expansion.add(len(part))
            parts.append(part)
    return b"".join(parts)


def _aedat4_events(packet: bytes) -> NDArray[np.void]:
    offset = _flatbuffer_field(packet, 0)
    if offset is None:
        return np.empty(0, _AEDAT4_EVENT)
    offset += _number("<I", packet, offset)
    return np.frombuffer(packet, _AEDAT4_EVENT, _number("<I", packet, offset), offset + 4)


def _flatbuffer_field(buffer: bytes, index: int) -> int | None:
    """Offset of a field of the root table; None if the field is absent.

    A buffer holds its size (4 bytes), the offset of the root table, a name, then tables. A table begins with
    its distance from its vtable: size of the vtable, size of the table, offset of each field (0: absent).
    """
    table = 4 + _number("<I", buffer, 4)
    vtable = table - _number("<i", buffer, table)
    if 4 + 2 * index >= _number("<H", buffer, vtable):
        return None
    offset = _number("<H", buffer, vtable + 4 + 2 * index)
    return table + offset if offset else None


def _flatbuffer_number(buffer: bytes, index: int, kind: str, *, default: int) -> int:
    offset = _flatbuffer_field(buffer, index)
    return default if offset is None else _number(kind, buffer, offset)


def _number(kind: str, buffer: bytes, offset: int) -> int:
    if not 0 <= offset <= len(buffer) - struct.calcsize(kind):  # `struct` counts negative ones from the end
        raise ValueError("it ends early, or points outside itself")
    number: int = struct.unpack_from(kind, buffer, offset)[0]
    return number
