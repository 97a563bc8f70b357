"""Each file form of a recording is read from a tiny file of that form; errors name corrupt files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recording_files import EVENTS, WRITERS, aedat4_bytes, bin_bytes, columns, write_in_ms

from snn.data.camera.recordings import (
    EVENT_DTYPE,
    FORMS,
    UnreadableRecording,
    make_events,
    read_recording,
)


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
