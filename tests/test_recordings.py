"""Each file form of a recording is read from a tiny file of that form; errors name corrupt files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recording_files import EVENTS, WRITERS, aedat4_bytes, bin_bytes, columns, davis_bytes, write_in_ms
from scipy.io import loadmat, savemat

from snn.data.camera.recordings import (
    EVENT_DTYPE,
    FORMS,
    UnreadableRecording,
    make_events,
    read_recording,
)
from snn.data.mat_files import read_mat_arrays


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
        (davis_bytes(chip="Davis641"), "it is of the camera Davis641; known are the DVS128 and the DAVIS of"),
        (davis_bytes(chip="DAVIS240C"), "it has events outside the 240x180 pixels of its camera"),
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


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("x", [1.5, 2], r"x should be whole numbers, 1 are not, as 1\.5"),
        ("y", [np.nan, 2], "some y are not finite"),
        ("x", [1 + 2j, 3], "x should be real numbers, they are of the type complex128"),
        ("y", [True, False], "y should be real numbers, they are of the type bool"),
        ("x", np.array([1, 2], object), "x should be real numbers, they are of the type object"),
        ("x", ["1", "2"], "x should be real numbers, they are of the type <U1"),
        ("t", [0, 1j], "times should be real numbers"),
        ("t", [0, 1e30], r"its times run from 0\.0 to 1e\+30 us, which no clock shows"),
        ("t", [-(1 << 62), 0], "its times run from -4611686018427387904 to 0 us"),
        ("t", np.array([0, 1 << 63], np.uint64), "its times run from 0 to 9223372036854775808 us"),
        ("t", np.array(["2026-01-01"] * 2, "M8[D]"), "times should be real numbers"),
        ("p", [0, 1j], "polarities should be real numbers"),
        ("p", [0, np.nan], "some polarities are not finite"),
    ],
)
def test_columns_that_are_no_events_are_refused(name: str, values: Any, reason: str) -> None:
    columns = {"x": [0, 1], "y": [0, 1], "t": [0, 1], "p": [0, 1]}
    with pytest.raises(ValueError, match=reason):
        make_events(**(columns | {name: values}))


def test_whole_numbers_of_any_type_are_events() -> None:
    expected = make_events([3, 32_767], [0, 2], [-5, 1 << 61], [0, 1])
    for kind in (np.float64, np.float32, np.uint16, np.int64):
        columns = (np.array(values, kind) for values in ([3, 32_767], [0, 2]))
        assert np.array_equal(make_events(*columns, [-5.9, 2.0**61], [False, True]), expected)


def test_times_in_milliseconds_that_overflow_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 1, 1, 1 << 61]]))
    with pytest.raises(UnreadableRecording, match=r"a\.npy \(its times run from"):
        read_recording(tmp_path / "a.npy", "npy_gesture")


def test_time_of_many_overflows_is_read_at_once(tmp_path: Path) -> None:
    """A million entries, all of which advance the clock: a loop over them would take hours."""
    (tmp_path / "a.bin").write_bytes(bytes([0, 240, 0, 0, 0]) * 10**6 + bin_bytes())
    events = read_recording(tmp_path / "a.bin")
    assert (events["t"] - EVENTS["t"]).tolist() == [10**6 << 13] * 4


def write_zeros(path: Path) -> None:
    """A small file of many zeros."""
    zeros = np.zeros(20_000_000, np.uint8)
    if path.suffix == ".npz":
        np.savez_compressed(path, x=zeros, y=zeros, t=zeros, p=zeros)
    elif path.suffix == ".mat":
        savemat(path, {"x": zeros, "y": zeros, "ts": zeros, "pol": zeros}, do_compression=True)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name in "xytp":
                file.create_dataset(name, (10**12,), "u1", chunks=(1 << 20,))


@pytest.mark.parametrize("suffix", ["npz", "h5", "mat"])
def test_recording_that_would_fill_the_memory_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_zeros(path)
    assert path.stat().st_size < 1 << 19
    with pytest.raises(
        UnreadableRecording, match=r"bytes expand to more than 64 MiB, as those of no data set"
    ):
        read_recording(path)


def test_file_of_another_form_than_its_suffix_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", events=EVENTS)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", x=[1], y=[1])
    for name, reason in (
        ("a.npy", "it holds several arrays, as npz files do"),
        ("b.npz", "it lacks t, p of"),
    ):
        with pytest.raises(UnreadableRecording, match=reason):
            read_recording(tmp_path / name)


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    (tmp_path / "folder.aedat").mkdir()
    os.mkfifo(tmp_path / "pipe.bin")
    for name, reason in {
        "link.npy": "No such file or directory",
        "loop.npy": "Too many levels of symbolic links",
        "folder.aedat": "it is not a file",
        "pipe.bin": "it is not a file",
    }.items():
        with pytest.raises(UnreadableRecording, match=rf"{name} \({reason}\)"):
            read_recording(tmp_path / name)


@pytest.mark.parametrize(
    ("start", "content", "reason"),
    [
        (126, b"XX", "it is no MATLAB file of Level 5"),
        (128, b"\x0f\0\0\0", "a compressed element is damaged"),
        (132, b"\xff\xff\xff\x7f", "it ends inside an element"),
        (144, b"\x01", "a should be an array of real numbers"),
        (160, b"\x09", r"a should have \[9, 3\] values, it has 6"),
        (160, b"\xff\xff\xff\xff", r"a should have \[-1, 3\] values, it has 6"),
    ],
)
def test_damaged_matlab_file_gives_the_reason(
    tmp_path: Path, start: int, content: bytes, reason: str
) -> None:
    savemat(tmp_path / "a.mat", {"a": np.zeros((2, 3))})
    whole = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(whole[:start] + content + whole[start + len(content) :])
    with pytest.raises(ValueError, match=reason):
        read_mat_arrays(tmp_path / "a.mat", ["a"])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path: Path, kind: str, compressed: bool) -> None:
    values = np.random.default_rng(0).integers(0, 100, (2, 3, 4)).astype(kind)
    content = {"text": "passed over", "a": values, "longer_name": values[0], "one": values[0, 0, 0]}
    content |= {"none": np.zeros((0, 1)), "cells": np.array([1, "a"], object)}
    savemat(tmp_path / "a.mat", content, do_compression=compressed)
    names = ("a", "longer_name", "one", "none")
    expected, found = loadmat(tmp_path / "a.mat"), read_mat_arrays(tmp_path / "a.mat", names)
    for name in names:
        assert np.array_equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype
    for name in ("text", "cells"):
        with pytest.raises(ValueError, match=f"{name} should be an array of real numbers"):
            read_mat_arrays(tmp_path / "a.mat", [name])
