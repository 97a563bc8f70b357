"""The sensor of own recordings: exact without outliers, the same with them, never larger than fits."""

from __future__ import annotations

import logging
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import load_recordings, make_recording, write_recording, write_recordings
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_files import aedat4_bytes, aedat_bytes, davis_bytes

from snn.data.camera.load import load_events
from snn.data.camera.measure import KNOWN_SENSORS, measure_sensor
from snn.data.camera.recordings import Events, make_events
from snn.options import FrameSettings

SETTINGS = FrameSettings(time_steps=4, bin_by="count")


def filled(width: int, height: int, n: int = 40_000, seed: int = 0) -> Events:
    """Events all over a sensor, its corners included."""
    rng = np.random.default_rng(seed)
    x = np.append(rng.integers(0, width, n), [0, width - 1])
    y = np.append(rng.integers(0, height, n), [0, height - 1])
    return make_events(x, y, np.arange(n + 2), rng.integers(0, 2, n + 2))


def with_events_at(recording: Events, *pixels: tuple[int, int]) -> Events:
    """The recording with its last events moved to these pixels."""
    moved = recording.copy()
    for i, (x, y) in enumerate(pixels):
        moved["x"][-10 - i], moved["y"][-10 - i] = x, y
    return moved


@given(width=st.integers(1, 400), height=st.integers(1, 300), seed=st.integers(0, 99), n=st.integers(0, 5000))
@settings(max_examples=50, derandomize=True, deadline=None, database=None)
def test_size_without_outliers_is_the_largest_column_and_row(
    width: int, height: int, seed: int, n: int
) -> None:
    assert measure_sensor([filled(width, height, n, seed)]) == (width, height)


@pytest.mark.parametrize("spread", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("seed", range(5))
def test_events_that_become_rarer_towards_the_borders_are_no_outliers(spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.clip(rng.normal([[35], [25]], spread, (2, 30_000)).astype(int), 0, 100)
    recordings = [make_events(x, y, np.arange(30_000), np.ones(30_000))]
    assert measure_sensor(recordings) == (x.max() + 1, y.max() + 1)


@pytest.mark.parametrize("bit", range(15))
@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("size", [(9, 9), (30, 22), (128, 128), (346, 260), (100, 100)])
def test_a_flipped_bit_does_not_change_the_size(size: tuple[int, int], axis: str, bit: int) -> None:
    recordings = [filled(*size, seed=seed) for seed in range(3)]
    recordings[1][axis][7] = size[axis == "y"] // 2 ^ 1 << bit
    assert measure_sensor(recordings) == size


def test_an_outlier_among_few_events_does_not_change_the_size() -> None:
    recordings = [make_recording(seed, n=100, side=9) for seed in range(8)]
    recordings[3]["x"][5] = 513
    recordings[4]["y"][5] = 32_000
    assert measure_sensor(recordings) == (9, 9)


@pytest.mark.parametrize("size", KNOWN_SENSORS)
def test_many_outliers_just_beyond_a_known_sensor_do_not_change_its_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    recording = filled(*size, n=500_000)
    recording["x"][100:120] = size[0] + rng.integers(0, size[0], 20)
    recording["y"][200:220] = size[1] + rng.integers(0, size[1], 20)
    assert measure_sensor([recording]) == size


def test_events_at_the_border_of_a_known_sensor_are_no_outliers_however_few() -> None:
    recording = with_events_at(filled(60, 60), (345, 259))
    assert measure_sensor([recording]) == (346, 260)


def test_recording_of_a_larger_sensor_is_no_outlier() -> None:
    small = [filled(30, 30, seed=seed) for seed in range(3)]
    assert measure_sensor([*small, make_events([89, 80, 2], [69, 50, 3], [0, 1, 2], [1, 1, 1])]) == (90, 70)
    assert measure_sensor([*small, make_events([32_000], [8], [0], [1])]) == (30, 30)  # no sensor is as large


def test_outliers_are_left_out_counted_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("whole", "damaged"):
        write_recordings(tmp_path / folder, side=20)
    whole = make_recording(0 + 0 + len("train"), side=20)
    write_recording(tmp_path / "whole/train/left/0.npy", np.delete(whole, [-10, -11]))
    write_recording(tmp_path / "damaged/train/left/0.npy", with_events_at(whole, (513, 8), (3, 32_000)))
    expected = load_recordings(tmp_path / "whole")
    with caplog.at_level(logging.WARNING):
        found, test = (load_recordings(tmp_path / "damaged", split) for split in ("train", "test"))
        again = load_recordings(tmp_path / "damaged")
    assert found.fingerprint == again.fingerprint == expected.fingerprint
    assert expected.samples.shape[-2:] == test.samples.shape[-2:] == (20, 20)
    sensor = "Sensor: 20 x 20 pixels, measured from all recordings, training and test."
    outliers = (
        "1 of 12 recordings hold events outside the sensor, left out (set data.sensor_size if it is larger): "
        "left/0.npy (2 of 100, up to x = 513, y = 32000)."
    )
    assert found.notes[1:] == again.notes[1:] == (sensor, outliers)
    assert expected.notes[1:] == test.notes[1:] == (sensor,)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'damaged'}: {sensor} {outliers}"
    ]


@pytest.mark.parametrize(
    ("content", "size", "sensor"),
    [
        (davis_bytes(), (346, 260), "that of the camera that the AEDAT 2.0 files name"),
        (aedat_bytes(), (128, 128), "that of the camera that the AEDAT 2.0 files name"),
        (aedat4_bytes(), (34, 31), "measured from all recordings, training and test"),
    ],
)
def test_camera_that_its_recordings_name_is_the_sensor(
    tmp_path: Path, content: bytes, size: tuple[int, int], sensor: str
) -> None:
    suffix = "aedat" if content.startswith(b"#!AER-DAT2.0") else "aedat4"
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"0.{suffix}").write_bytes(content)
    samples = load_recordings(tmp_path)
    assert samples.samples.shape[-2:] == size[::-1]
    assert samples.notes[1] == f"Sensor: {size[0]} x {size[1]} pixels, {sensor}."


def test_stated_sensor_keeps_its_meaning(tmp_path: Path) -> None:
    write_recordings(tmp_path, side=20)
    write_recording(tmp_path / "train/left/0.npy", with_events_at(make_recording(5, side=20), (513, 8)))
    data = load_events("recordings", "train", root=tmp_path, settings=SETTINGS, sensor_size=(32, 24))
    assert data.samples.shape[-2:] == (24, 32)
    assert data.notes[1] == "Sensor: 32 x 24 pixels, as data.sensor_size says."
    assert "left/0.npy (event at x = 513" in data.notes[2] and 0 not in data.groups


@pytest.mark.parametrize("size", [(0, 10), (-3, 5), (10, 32_769), (10.0, 10), (True, 5), (1, 2, 3), ()])
def test_impossible_sensor_is_refused(tmp_path: Path, size: Any) -> None:
    write_recordings(tmp_path, train=1, test=1)
    with pytest.raises(ValueError, match=r"data\.sensor_size must be width and height .* 32,768, got \("):
        load_events("recordings", "train", root=tmp_path, settings=SETTINGS, sensor_size=size)


def test_samples_of_absurd_size_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_recordings(tmp_path, side=20)
    for name in ("left", "right"):  # so many events that they are no outliers
        write_recording(
            tmp_path / f"train/{name}/0.npy", with_events_at(filled(20, 20, 50), *[(30_000, 9_000)] * 30)
        )
    with pytest.raises(ValueError, match="would take 2,060 MiB") as caught:
        load_recordings(tmp_path)
    for words in ("30,001 x 9,001 pixels", "data.sensor_size", "data.downsample", "network.time_steps"):
        assert words in str(caught.value)
    assert not list(tmp_path.glob("snn-cache/*.arrow"))


@pytest.mark.parametrize("window_ms", [0.0, 2.0])
def test_too_little_space_names_the_sensor_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_ms: float
) -> None:
    write_recordings(tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match="Too little space for about") as caught:
        load_recordings(tmp_path, window_ms=window_ms)
    for words in ("sensor has 30 x 30 pixels", "data.sensor_size", "data.downsample", "--data.root"):
        assert words in str(caught.value)
