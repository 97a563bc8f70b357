"""Recordings in the AEDAT forms, versions 2.0 and 4.0."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from snn.data.expansion import Expansion

Columns = tuple[Any, Any, Any, Any]  # x, y, t and p of all events


class _Camera(NamedTuple):
    width: int
    height: int
    is_davis: bool


_DVS128 = _Camera(128, 128, is_davis=False)
_DAVIS_HEIGHTS = {128: 128, 208: 192, 240: 180, 346: 260, 640: 480}  # rows by columns
_LONGEST_HEADER = 1 << 20
_AEDAT4_START = b"#!AER-DAT4.0\r\n"
_AEDAT4_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?"), ("unused", "V3")])
_PART = 1 << 20  # bytes that are decompressed together
_AEDAT4_CODECS = {0: None, 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}


def read_aedat(path: Path) -> Columns:
    """AEDAT 2.0: header lines that begin with #, then big-endian address and time in us, 32 bits each.

    The header names the camera; if it does not, it is a DVS128. Rows count from the bottom, columns from the
    right (jAER's extractors of both families).
    DVS128: bit 0 polarity (0 is ON), bits 1-7 column, bits 8-14 row, bit 15 marks special events.
    DAVIS: bits 12-21 column, bits 22-30 row, bit 11 polarity (1 is ON); bit 10 marks triggers and bit 31
    samples of pictures and motion. All but events of brightness are dropped.
    """
    content = path.read_bytes()
    header = _aedat_header(content)
    camera = _camera_of(header)
    if (len(content) - len(header)) % 8:
        raise ValueError(f"{len(content) - len(header)} bytes of events are not a multiple of 8 bytes")
    raw = np.frombuffer(content, np.dtype([("address", ">u4"), ("t", ">u4")]), offset=len(header))
    address = raw["address"].astype(np.int64)
    if not camera.is_davis:
        if len(raw) and address.max() >= 1 << 16:
            raise ValueError("its addresses have more than 16 bits, so it is not of a DVS128")
        is_event, column, row, on = address < 1 << 15, address >> 1 & 127, address >> 8, ~address & 1
    else:
        is_event = address & (1 << 31 | 1 << 10) == 0
        column, row, on = address >> 12 & 1023, address >> 22, address >> 11 & 1
    x, y = camera.width - 1 - column[is_event], camera.height - 1 - row[is_event]
    if len(x) and min(x.min(), y.min()) < 0:
        raise ValueError(f"it has events outside the {camera.width}x{camera.height} pixels of its camera")
    return x, y, raw["t"][is_event], on[is_event]


def aedat_sensor(path: Path) -> tuple[int, int]:
    """(W, H) of the sensor that made an AEDAT 2.0 recording; raises ValueError as `read_aedat`."""
    with path.open("rb") as file:
        camera = _camera_of(_aedat_header(file.read(_LONGEST_HEADER)))
    return camera.width, camera.height


def _aedat_header(content: bytes) -> bytes:
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError("it does not begin with #!AER-DAT2.0")
    end = 0
    while content[end : end + 1] == b"#":
        end = content.find(b"\n", end) + 1
        if end == 0:
            raise ValueError("it ends inside its header")
    return content[:end]


def _camera_of(header: bytes) -> _Camera:
    """The camera that a header names, as in: # AEChip: eu.seebetter.ini.chips.davis.Davis346red"""
    named = re.search(rb"^#\s*AEChip:\s*(\S+)", header, re.MULTILINE)
    if named is None:
        return _DVS128
    chip = named[1].decode("ascii", "replace").rpartition(".")[2]
    if chip.upper().startswith(("DVS128", "TMPDIFF128")):
        return _DVS128
    davis = re.match(r"DAVIS(?:RGBW?)?(\d+)", chip, re.IGNORECASE)
    if davis is None or int(davis[1]) not in _DAVIS_HEIGHTS:
        sides = ", ".join(str(side) for side in _DAVIS_HEIGHTS)
        raise ValueError(f"it is of the camera {chip}; known are the DVS128 and the DAVIS of {sides} columns")
    return _Camera(int(davis[1]), _DAVIS_HEIGHTS[int(davis[1])], is_davis=True)


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
