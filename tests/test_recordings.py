"""Each file form of a recording is read from a tiny file of that form; errors name corrupt files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

from snn.data.camera.recordings import (
    EVENT_DTYPE,
    FORMS,
    Events,
    UnreadableRecording,
    make_events,
    read_recording,
)

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
    "aedat4": ("aedat4", lambda path: path.write_bytes(aedat4_bytes())),
    "aedat4 lz4": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(1))),
    "aedat4 zstd": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(4))),
    "aedat4 open": ("aedat4", lambda path: path.write_bytes(aedat4_bytes(2, closed=False))),
    "npy": ("npy", lambda path: np.save(path, EVENTS)),
    "npy columns": ("npy", lambda path: np.save(path, columns("xytp").astype(np.float64))),
    "npz": ("npz", write_named),
    "npz array": ("npz", lambda path: np.savez(path, events=EVENTS)),
    "h5": ("h5", write_named),
    "h5 array": ("h5", write_h5_array),
    "mat": ("mat", write_mat),
    "npy_poker": ("npy", lambda path: np.save(path, columns("txyp"))),
}


@pytest.mark.parametrize("form", WRITERS)
def test_each_form_is_read_exactly(tmp_path: Path, form: str) -> None:
    suffix, write = WRITERS[form]
    path = tmp_path / f"recording.{suffix}"
    write(path)
    events = read_recording(path, form if form in FORMS else None)
    assert events.dtype == EVENT_DTYPE
    assert np.array_equal(events, EVENTS)


def test_gestures_have_milliseconds(tmp_path: Path) -> None:
    write_in_ms(tmp_path / "3.npy")
    events = read_recording(tmp_path / "3.npy", "npy_gesture")
    assert events["t"].tolist() == [0, 1000, 2000, 300_000]
    assert np.array_equal(columns("xyp", events), columns("xyp"))


def test_times_of_nmnist_continue_beyond_23_bits(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bin_bytes(EVENTS[:1]) + bytes([0, 240, 0, 0, 0]) + bin_bytes(EVENTS[1:]))
    assert read_recording(tmp_path / "a.bin")["t"].tolist() == [5, 9192, 10_192, 308_192]


def test_polarity_of_minus_one_is_off() -> None:
    assert make_events([0, 0], [0, 0], [0, 1], [-1, 1])["p"].tolist() == [0, 1]


@pytest.mark.parametrize("form", WRITERS)
def test_error_for_a_truncated_recording_names_it(tmp_path: Path, form: str) -> None:
    suffix, write = WRITERS[form]
    path = tmp_path / f"whole.{suffix}"
    write(path)
    content = path.read_bytes()
    end = len(content) - (9 if form == "mat" else 7)  # the last bytes of ours are an index or padding
    path.write_bytes(content[: end if form != "mat" else len(content) // 2])
    with pytest.raises(UnreadableRecording, match=rf"{tmp_path.name}/whole\.{suffix} \(.+\)"):
        read_recording(path, form if form in FORMS else None)


@pytest.mark.parametrize("suffix", sorted({suffix for suffix, _ in WRITERS.values()}))
def test_error_for_noise_instead_of_a_recording_names_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noise.{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(1001))
    with pytest.raises(UnreadableRecording, match=rf"noise\.{suffix} \(.+\)"):
        read_recording(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it does not begin with #!AER-DAT2.0"),
        (b"#!AER-DAT3.1\r\n", "it does not begin with #!AER-DAT2.0"),
        (b"#!AER-DAT2.0\r\n# cut off", "it ends inside its header"),
        (b"#!AER-DAT2.0\r\n" + bytes(12), "12 bytes of events are not a multiple of 8 bytes"),
        (b"#!AER-DAT2.0\r\n\xff" + bytes(7), "more than 16 bits, so it is not of a DVS128"),
    ],
)
def test_error_for_an_unreadable_aedat_gives_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.aedat").write_bytes(content)
    with pytest.raises(UnreadableRecording, match=reason):
        read_recording(tmp_path / "a.aedat")


def test_recording_without_events_is_empty_but_valid(tmp_path: Path) -> None:
    none = EVENTS[:0]
    (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / "b.aedat").write_bytes(b"#!AER-DAT2.0\r\n")
    (tmp_path / "c.aedat4").write_bytes(aedat4_bytes(events=none))
    np.save(tmp_path / "d.npy", none)
    assert [len(read_recording(path)) for path in sorted(tmp_path.iterdir())] == [0, 0, 0, 0]


def test_pickled_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object))
    with pytest.raises(UnreadableRecording, match="pickle"):
        read_recording(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("x", "t", "reason"),
    [
        ([-1, 2], [0, 1], "x runs from -1 to 2, which no sensor has"),
        ([40_000, 2], [0, 1], "x runs from 2 to 40000"),
        ([1, 2], [0], "its columns have different lengths"),
        ([1, 2], [0, float("inf")], "some times are not finite"),
    ],
)
def test_impossible_events_are_refused(x: list[int], t: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_events(x, [0, 0], t, [0, 1])
