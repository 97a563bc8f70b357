"""Readers for recordings of event cameras, one per file form."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.uint8)])
"""An event: column x and row y in pixels from the top left, time t in us, polarity p (0 OFF, 1 ON)."""

Events = NDArray[np.void]  # [number of events] of EVENT_DTYPE

FORMS = {
    "aedat": "AEDAT 2.0 of a DVS128",
    "aedat4": "AEDAT 4.0",
    "bin": "N-MNIST's 40 bits per event",
    "npy": "a structured array with the fields x, y, t, p, or [n, 4] with the columns x, y, t, p",
    "npz": "arrays x, y, t and p, or one array events as in npy",
    "h5": "data sets x, y, t and p, at the top level or in the group events",
    "mat": "ASL-DVS: arrays x, y, ts and pol, rows counted from the bottom",
    "npy_gesture": "tonic's DVS128-Gesture: [n, 4] with the columns x, y, p, t in milliseconds",
    "npy_poker": "tonic's POKER-DVS: [n, 4] with the columns t, x, y, p",
}
"""File forms; t is in microseconds unless stated otherwise, and a polarity above 0 is ON."""

_AEDAT4_START = b"#!AER-DAT4.0\r\n"
_AEDAT4_EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?"), ("unused", "V3")])
_AEDAT4_CODECS = {0: None, 1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}


class UnreadableRecording(ValueError):
    """A recording that is truncated, corrupt or of another form; the message names it and the reason."""


def read_recording(path: Path, form: str | None = None) -> Events:
    """Reads all events of a file, in the order of the file.

    Args:
        path: The file.
        form: A key of FORMS; None uses the file's suffix.

    Returns:
        Events of EVENT_DTYPE; empty if the file holds none.

    Raises:
        UnreadableRecording: The file is truncated, corrupt or of another form.
        ImportError: tonic, which reads `bin`, is not installed.
    """
    read = _READERS[form or path.suffix.removeprefix(".")]
    try:
        return read(path)
    except ImportError:
        raise
    except Exception as error:  # corrupt files raise errors of any kind
        reason = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise UnreadableRecording(f"{path.parent.name}/{path.name} ({reason})") from error


def make_events(x: Any, y: Any, t: Any, p: Any) -> Events:
    """Combines columns of numbers into events.

    Args:
        x, y: Pixels, integers in [0, 32767].
        t: Times in microseconds.
        p: Polarities; above 0 is ON.

    Raises:
        ValueError: Columns of different lengths, or pixels outside the range.
    """
    columns = {name: np.ravel(values) for name, values in (("x", x), ("y", y), ("t", t), ("p", p))}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its columns have different lengths: {lengths}")
    events = np.empty(lengths["x"], EVENT_DTYPE)
    for name in ("x", "y"):
        values = columns[name]
        if len(values) and not 0 <= values.min() <= values.max() <= np.iinfo(np.int16).max:
            raise ValueError(f"{name} runs from {values.min()} to {values.max()}, which no sensor has")
        events[name] = values
    if columns["t"].dtype.kind == "f" and not np.isfinite(columns["t"]).all():
        raise ValueError("some times are not finite")
    events["t"], events["p"] = columns["t"], columns["p"] > 0
    return events


def _read_bin(path: Path) -> Events:
    """N-MNIST and N-Caltech101: x, y, then 1 bit polarity and 23 bits time in us.

    An entry with y = 240 is not an event: it adds 2^13 us to all later times.
    """
    from tonic.io import read_mnist_file

    size = path.stat().st_size
    if size % 5:
        raise ValueError(f"{size} bytes are not a whole number of events of 5 bytes")
    if size == 0:
        return np.empty(0, EVENT_DTYPE)
    return read_mnist_file(str(path), dtype=EVENT_DTYPE)


def _read_aedat(path: Path) -> Events:
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
    return make_events(127 - (address >> 1 & 127), 127 - (address >> 8), raw["t"], 1 - (address & 1))


def _read_aedat4(path: Path) -> Events:
    """AEDAT 4.0: a header, then packets of one stream each, as flatbuffers that may be compressed.

    If there are several event streams, the one with the lowest number is read.
    """
    content = path.read_bytes()
    if not content.startswith(_AEDAT4_START):
        raise ValueError("it does not begin with #!AER-DAT4.0")
    offset = len(_AEDAT4_START)
    (size,) = struct.unpack_from("<I", content, offset)
    header = content[offset : offset + 4 + size]
    codec = _AEDAT4_CODECS[_flatbuffer_number(header, 0, "<i", default=0)]
    offset += len(header)
    table = _flatbuffer_number(header, 1, "<q", default=-1)  # index of the packets, after the last one
    end = len(content) if table < 0 else table
    streams: dict[int, list[NDArray[np.void]]] = {}
    while offset < end:
        stream, size = struct.unpack_from("<ii", content, offset)
        offset += 8
        if size < 0 or offset + size > len(content):
            raise ValueError("it ends inside a packet")
        packet = _decompress(content[offset : offset + size], codec)
        if packet[8:12] == b"EVTS":
            streams.setdefault(stream, []).append(_aedat4_events(packet))
        offset += size
    if not streams:
        raise ValueError("it has no events")
    events = np.concatenate(streams[min(streams)])
    return make_events(events["x"], events["y"], events["t"], events["p"])


def _decompress(data: bytes, codec: str | None) -> bytes:
    import pyarrow as pa

    if codec is None:
        return data
    with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
        return stream.read()


def _aedat4_events(packet: bytes) -> NDArray[np.void]:
    offset = _flatbuffer_field(packet, 0)
    if offset is None:
        return np.empty(0, _AEDAT4_EVENT)
    offset += struct.unpack_from("<I", packet, offset)[0]
    (count,) = struct.unpack_from("<I", packet, offset)
    return np.frombuffer(packet, _AEDAT4_EVENT, count, offset + 4)


def _flatbuffer_field(buffer: bytes, index: int) -> int | None:
    """Offset of a field of the root table; None if the field is absent.

    A buffer holds its size (4 bytes), the offset of the root table, a name, then tables. A table begins with
    its distance from its vtable: size of the vtable, size of the table, offset of each field (0: absent).
    """
    table = 4 + struct.unpack_from("<I", buffer, 4)[0]
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    offset: int = struct.unpack_from("<H", buffer, vtable + 4 + 2 * index)[0]
    return table + offset if offset else None


def _flatbuffer_number(buffer: bytes, index: int, kind: str, *, default: int) -> int:
    offset = _flatbuffer_field(buffer, index)
    return default if offset is None else int(struct.unpack_from(kind, buffer, offset)[0])


def _read_npy(path: Path) -> Events:
    return _from_array(np.load(path, allow_pickle=False), "xytp")


def _read_npz(path: Path) -> Events:
    with np.load(path, allow_pickle=False) as arrays:
        return _from_array(arrays["events"], "xytp") if "events" in arrays else _from_named(arrays)


def _read_h5(path: Path) -> Events:
    import h5py

    with h5py.File(path, "r") as file:
        events = file.get("events", file)
        return _from_array(events[()], "xytp") if isinstance(events, h5py.Dataset) else _from_named(events)


def _read_mat(path: Path) -> Events:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["x", "y", "ts", "pol"])
    rows = 179 - content["y"].astype(np.int64)
    return make_events(content["x"], rows, content["ts"], content["pol"])


def _read_npy_gesture(path: Path) -> Events:
    events = _from_array(np.load(path, allow_pickle=False), "xypt")
    events["t"] *= 1000
    return events


def _read_npy_poker(path: Path) -> Events:
    return _from_array(np.load(path, allow_pickle=False), "txyp")


def _from_array(events: NDArray[Any], columns: str) -> Events:
    if events.dtype.names is not None:
        return _from_named(events)
    if events.ndim != 2 or events.shape[1] != 4:
        raise ValueError(
            f"its array should be [n, 4] with the columns {', '.join(columns)}, it is {list(events.shape)}"
        )
    return make_events(*(events[:, columns.index(name)] for name in "xytp"))


def _from_named(source: Any) -> Events:
    """From a structured array or mapping with the columns x, y, t and p."""
    return make_events(*(source[name][()] for name in "xytp"))


_READERS: dict[str, Callable[[Path], Events]] = {
    "aedat": _read_aedat,
    "aedat4": _read_aedat4,
    "bin": _read_bin,
    "npy": _read_npy,
    "npz": _read_npz,
    "h5": _read_h5,
    "mat": _read_mat,
    "npy_gesture": _read_npy_gesture,
    "npy_poker": _read_npy_poker,
}
