"""A small recording in each file form, as bytes or on disk."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
from scipy.io import savemat

from snn.data.camera.recordings import Events, make_events

EVENTS = make_events([3, 0, 33, 7], [30, 1, 0, 7], [5, 1000, 2000, 300_000], [1, 0, 1, 0])


def columns(order: str, events: Events = EVENTS) -> np.ndarray:
    return np.stack([events[name].astype(np.int64) for name in order], 1)


def bin_bytes(events: Events = EVENTS) -> bytes:
    x, y, t, p = columns("xytp", events).T
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def aedat_bytes(events: Events = EVENTS) -> bytes:
    header = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# 5 > 3 # \xe9\r\n"
    words = [
        struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (1 - p), t)
        for x, y, t, p in columns("xytp", events).tolist()
    ]
    special = struct.pack(">II", 1 << 15 | 77, 1500)
    return header + b"".join([*words[:2], special, *words[2:]])


def davis_bytes(events: Events = EVENTS, chip: str = "Davis346red") -> bytes:
    """A recording of a DAVIS of 346 x 260 pixels, with a trigger and a picture sample among them."""
    header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis." + chip.encode() + b"\r\n"
    words = [
        struct.pack(">II", (259 - y) << 22 | (345 - x) << 12 | p << 11, t)
        for x, y, t, p in columns("xytp", events).tolist()
    ]
    others = [struct.pack(">II", address, 1500) for address in (1 << 10, 1 << 31 | 77 << 12 | 3)]
    return header + b"".join([*words[:2], *others, *words[2:]])


def evt2_bytes(events: Events = EVENTS) -> bytes:
    """Words of 32 bits: 0x8 and bits 6 to 33 of the time, or polarity, bits 0 to 5 of the time, x and y."""
    words, high = [], -1
    for x, y, t, p in columns("xytp", events).tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return b"% date 2026-01-01\n% evt 2.0\n" + struct.pack(f"<{len(words)}I", *words)


def evt3_bytes(events: Events = EVENTS) -> bytes:
    """Words of 16 bits: 0x8 and 0x6 with halves of the time, 0x0 with y, 0x2 with polarity and x."""
    words = []
    for x, y, t, p in columns("xytp", events).tolist():
        words += [0x8 << 12 | t >> 12, 0x6 << 12 | t & 4095, y, 0x2 << 12 | p << 11 | x]
    return b"% format EVT3;height=480;width=640\n% end\n" + struct.pack(f"<{len(words)}H", *words)


def dat_bytes(events: Events = EVENTS) -> bytes:
    """Type and size of an event, then for each its time, and x, y and polarity."""
    words = [struct.pack("<II", t, p << 28 | y << 14 | x) for x, y, t, p in columns("xytp", events).tolist()]
    return b"% Data file containing CD events\n% Version 2\n\x0c\x08" + b"".join(words)


def flatbuffer(name: bytes, fields: list[bytes | None], tail: bytes = b"") -> bytes:
    """A size-prefixed buffer whose root table has the given fields, None for those left out."""
    offsets, inline = [], b""
    for value in fields:
        offsets.append(0 if value is None else 4 + len(inline))
        inline += value or b""
    vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), 4 + len(inline), *offsets)
    vtable += b"\0" * (-len(vtable) % 4)
    table = struct.pack("<i", len(vtable)) + inline
    body = struct.pack("<I", 8 + len(vtable)) + name + vtable + table + tail
    return struct.pack("<I", len(body)) + body


def event_packet(events: Events) -> bytes:
    rows = b"".join(struct.pack("<qhh?3x", t, x, y, p) for x, y, t, p in columns("xytp", events).tolist())
    return flatbuffer(b"EVTS", [struct.pack("<I", 4)], struct.pack("<I", len(events)) + rows)


def aedat4_bytes(codec: int = 0, events: Events = EVENTS, *, closed: bool = True) -> bytes:
    """Two streams of events and one of something else; `closed` files end with an index."""
    name = {1: "lz4", 2: "lz4", 3: "zstd", 4: "zstd"}.get(codec)
    packets = b""
    other = make_events([9], [9], [9], [1])
    parts = [(1, event_packet(other)), (0, event_packet(events[:2])), (3, flatbuffer(b"FRME", [None]))]
    for stream, packet in [*parts, (0, flatbuffer(b"EVTS", [None])), (0, event_packet(events[2:]))]:
        sink = pa.BufferOutputStream()
        if name is not None:
            with pa.CompressedOutputStream(sink, name) as compressed:
                compressed.write(packet)
            packet = sink.getvalue().to_pybytes()
        packets += struct.pack("<ii", stream, len(packet)) + packet

    def header(table: int) -> bytes:
        xml = b"<dv></dv>\0\0\0"
        fields = [struct.pack("<i", codec), struct.pack("<q", table), struct.pack("<I", 4)]
        return b"#!AER-DAT4.0\r\n" + flatbuffer(b"IOHE", fields, struct.pack("<I", 9) + xml)

    return header(len(header(0)) + len(packets) if closed else -1) + packets + b"index" * closed


def write_named(path: Path) -> None:
    names = {name: EVENTS[name] for name in "xytp"}
    if path.suffix == ".npz":
        np.savez(path, **names)
        return
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        for name, values in names.items():
            group[name] = values


def write_mat(path: Path) -> None:
    x, y, t, p = (EVENTS[name].astype(float)[:, None] for name in "xytp")
    savemat(path, {"x": x, "y": 179 - y, "ts": t, "pol": p})


def write_in_ms(path: Path) -> None:
    events = columns("xypt")
    events[:, 3] //= 1000
    np.save(path, events)


def write_h5_array(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["events"] = columns("xytp")


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "bin": ("bin", lambda path: path.write_bytes(bin_bytes())),
    "aedat": ("aedat", lambda path: path.write_bytes(aedat_bytes())),
    "aedat davis": ("aedat", lambda path: path.write_bytes(davis_bytes())),
    "aedat4": ("aedat4", lambda path: path.write_bytes(aedat4_bytes())),
    "aedat4 lz4": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(1))),
    "aedat4 zstd": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(4))),
    "aedat4 open": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(2, closed=False))),
    "npy": ("npy", lambda path: np.save(path, EVENTS)),
    "npy columns": ("npy", lambda path: np.save(path, columns("xytp").astype(np.float64))),
    "npz": ("npz", write_named),
    "npz array": ("npz", lambda path: np.savez(path, events=EVENTS)),
    "raw evt2": ("raw", lambda path: path.write_bytes(evt2_bytes())),
    "raw evt3": ("raw", lambda path: path.write_bytes(evt3_bytes())),
    "dat": ("dat", lambda path: path.write_bytes(dat_bytes())),
    "h5": ("h5", write_named),
    "h5 array": ("h5", write_h5_array),
    "mat": ("mat", write_mat),
    "npy_poker": ("npy", lambda path: np.save(path, columns("txyp"))),
}
