"""Event data sets: read, cut without leaks, stored once; no recording is skipped silently."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from data_files import load_recordings, make_recording, write_recording, write_recordings
from scipy.io import savemat

from snn.data.camera.files import find_recordings
from snn.data.camera.frames import frames_from_events
from snn.data.camera.load import load_events
from snn.data.camera.recordings import Events, make_events, read_recording
from snn.data.images import load_images
from snn.data.splits import stratified_split
from snn.datasets import DATASETS
from snn.options import FrameSettings

SETTINGS = FrameSettings(time_steps=4, bin_by="count")


@pytest.mark.parametrize(("folder", "train"), [("nmnist", "Train"), ("NMNIST", "train"), ("", "Train")])
def test_nmnist_is_read_from_its_layout(tmp_path: Path, folder: str, train: str) -> None:
    home = tmp_path / folder / train
    for digit in (7, 2):
        for i in (1, 0):
            write_recording(home / str(digit) / f"0000{i}.bin", make_recording(10 * digit + i))
    data = load_recordings(tmp_path, dataset="nmnist")
    assert data.samples.shape == (4, 4, 2, 34, 34)
    assert data.labels.tolist() == [2, 2, 7, 7]
    assert data.class_names == tuple("0123456789")
    assert data.groups.tolist() == [0, 1, 2, 3]
    for sample, seed in zip(data.samples, (20, 21, 70, 71), strict=True):
        expected = frames_from_events(make_recording(seed), sensor_size=(34, 34), settings=SETTINGS)
        assert np.array_equal(sample, expected)
    with pytest.raises(FileNotFoundError, match="no recordings for the test split of nmnist"):
        load_recordings(tmp_path, "test", dataset="nmnist")


def test_poker_and_asl_are_read(tmp_path: Path) -> None:
    recording = make_recording(1)
    (tmp_path / "POKERDVS/pips_train/di").mkdir(parents=True)
    table = np.stack([recording[name].astype(np.int64) for name in "txyp"], 1)
    np.save(tmp_path / "POKERDVS/pips_train/di/1.npy", table)
    poker = load_recordings(tmp_path, dataset="poker_dvs")
    assert (poker.labels.tolist(), int(poker.samples.sum())) == ([2], 100)
    (tmp_path / "ASLDVS/c").mkdir(parents=True)
    columns = {name: recording[key][:, None] for name, key in (("x", "x"), ("ts", "t"), ("pol", "p"))}
    for i in range(2):
        y = 179 - recording["y"][:, None]
        savemat(tmp_path / f"ASLDVS/c/c_{i}.mat", {**columns, "y": y})
    asl = load_recordings(tmp_path, dataset="asl_dvs")
    assert asl.samples.shape == (1, 4, 2, 180, 240)
    expected = frames_from_events(recording, sensor_size=(240, 180), settings=SETTINGS)
    assert np.array_equal(asl.samples[0], expected)


@pytest.mark.parametrize("folder", ["", "recordings"])
def test_own_recordings_are_read_and_their_sensor_measured(tmp_path: Path, folder: str) -> None:
    write_recordings(tmp_path / folder, side=20)
    write_recording(tmp_path / folder / "test/left/wide.npy", make_events([40], [8], [0], [1]))
    train, test = (load_recordings(tmp_path, split) for split in ("train", "test"))
    assert train.samples.shape[1:] == test.samples.shape[1:] == (4, 2, 20, 41)  # the same for both
    assert (train.class_names, len(train), len(test)) == (("left", "right"), 12, 5)
    chosen = load_events("recordings", "test", root=tmp_path, settings=SETTINGS, sensor_size=(64, 48))
    assert chosen.samples.shape[1:] == (4, 2, 48, 64)


def test_file_forms_may_be_mixed(tmp_path: Path) -> None:
    write_recordings(tmp_path, train=2, test=1)
    write_recording(tmp_path / "train/left/z.bin", make_recording(5))
    np.savez(tmp_path / "train/right/a.npz", events=make_recording(6))
    (tmp_path / "train/right/readme.txt").write_text("no recording")
    assert load_recordings(tmp_path).labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_unknown_data_set_and_foreign_sensor_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of digits_events, nmnist.*, got 'mnist_dvs'"):
        load_recordings(tmp_path, dataset="mnist_dvs")
    with pytest.raises(ValueError, match=r"data\.sensor_size is for your own recordings"):
        load_events("nmnist", "train", root=tmp_path, settings=SETTINGS, sensor_size=(64, 64))


def test_windows_of_a_recording_share_their_group_and_stay_on_one_side(tmp_path: Path) -> None:
    write_recordings(tmp_path, duration=50_000, n=400)
    data = load_recordings(tmp_path, window_ms=10)
    assert len(data) == 12 * 4 and len(set(data.groups)) == 12
    for side, other in [stratified_split(data.labels, fraction=0.7, seed=0, groups=data.groups)]:
        assert set(data.groups[side]).isdisjoint(data.groups[other])
        assert len(side) + len(other) == len(data)


def test_notes_count_and_name_defective_recordings(tmp_path: Path) -> None:
    write_recordings(tmp_path, duration=50_000)
    folder = tmp_path / "train/left"
    whole = (folder / "0.npy").read_bytes()
    (folder / "0.npy").write_bytes(whole[:-30])
    write_recording(folder / "1.npy", make_recording(0, n=0))
    write_recording(folder / "2.npy", make_recording(2, duration=50_000)[::-1])
    write_recording(folder / "3.npy", make_recording(3, duration=5_000))
    write_recording(folder / "4.bin", make_events([200], [3], [5], [1]))
    data = load_events(
        "recordings",
        "train",
        root=tmp_path,
        settings=FrameSettings(time_steps=4, bin_by="time", window_ms=10),
        sensor_size=(30, 30),
    )
    notes = "\n".join(data.notes)
    assert "2 of 13 recordings could not be read and were left out: left/0.npy (" in notes
    assert "left/4.bin (event at x = 200, y = 3 or beyond lies outside the sensor of 30 x 30)" in notes
    assert "1 of 13 recordings hold no event and were left out: left/1.npy." in notes
    assert "1 of 13 recordings are shorter than one window" in notes and "left/3.npy" in notes
    assert "1 of 13 recordings have times that go backwards; their events were sorted: left/2.npy." in notes
    assert set(data.groups) == {2, 5, 6, *range(7, 13)}  # numbers of the files, those left out included


def test_recording_with_fewer_events_than_frames_is_kept(tmp_path: Path) -> None:
    write_recordings(tmp_path, n=3)
    data = load_recordings(tmp_path)
    assert data.samples.sum((2, 3, 4)).tolist() == [[0, 0, 0, 3]] * 12


def test_backwards_times_give_the_same_samples_as_sorted_ones(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_recordings(tmp_path / folder, train=1, test=1)
    recording = np.unique(make_recording(1, n=50))
    recording["t"] = np.arange(len(recording))
    write_recording(tmp_path / "a/train/left/0.npy", recording)
    write_recording(tmp_path / "b/train/left/0.npy", np.roll(recording, 17))
    sides = [
        load_events("recordings", "train", root=tmp_path / folder, settings=SETTINGS, sensor_size=(30, 30))
        for folder in ("a", "b")
    ]
    assert sides[0].fingerprint == sides[1].fingerprint
    assert len(sides[1].notes) == len(sides[0].notes) + 1


def test_data_set_without_a_readable_recording_is_an_error(tmp_path: Path) -> None:
    for name in ("0", "1"):
        path = tmp_path / f"Train/5/{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234567")
    with pytest.raises(ValueError, match=r"None of the 2 recordings .*7 bytes are not a whole number"):
        load_recordings(tmp_path, dataset="nmnist")
    assert not list(tmp_path.glob("snn-cache/*.arrow"))


def test_second_load_maps_the_same_file_and_other_settings_create_another(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    first, second = load_recordings(tmp_path), load_recordings(tmp_path)
    assert first.fingerprint == second.fingerprint
    assert (first.notes, first.groups.tolist()) == (second.notes, second.groups.tolist())
    assert not second.samples.flags.writeable
    assert len(list(tmp_path.glob("snn-cache/recordings-train-*.arrow"))) == 1
    changes = ({"time_steps": 2}, {"bin_by": "time"}, {"downsample": 2}, {"crop": 8}, {"denoise_us": 900})
    for change in (*changes, {"window_ms": 2}, {"max_count": 1}):
        load_recordings(tmp_path, **change)
    assert len(list(tmp_path.glob("snn-cache/recordings-train-*.arrow"))) == 8
    write_recording(tmp_path / "train/left/new.npy", make_recording(77))
    assert len(load_recordings(tmp_path)) == len(first) + 1


def load_elsewhere(root: Path, results: multiprocessing.SimpleQueue[str]) -> None:
    results.put(load_recordings(root).fingerprint)


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=load_elsewhere, args=(tmp_path, results)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {results.get() for _ in processes} == {load_recordings(tmp_path).fingerprint}
    assert len(list(tmp_path.glob("snn-cache/*.arrow"))) == 1


@pytest.mark.parametrize("window_ms", [0, 2])
def test_full_disk_is_detected_before_all_recordings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_ms: float
) -> None:
    write_recordings(tmp_path)
    read = []

    def count(path: Path, form: str | None = None) -> Events:
        read.append(path)
        return read_recording(path, form)

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("snn.data.camera.load.read_recording", count)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"Too little space for about \d+ samples of \[4, 2, 30, 30\]"):
        load_events(
            "recordings",
            "train",
            root=tmp_path,
            settings=FrameSettings(time_steps=4, bin_by="count", window_ms=window_ms),
            sensor_size=(30, 30),
        )
    assert len(read) == (1 if window_ms else 0)


def test_simulated_digits_match_the_images_and_are_labelled_as_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = load_recordings(tmp_path / "absent", "test", dataset="digits_events", time_steps=3)
    images = load_images("digits", "test", root=tmp_path)
    assert DATASETS["digits_events"].num_train == DATASETS["digits"].num_train
    assert data.samples.shape == (len(images), 3, 2, 34, 34)
    assert np.array_equal(data.labels, images.labels)
    assert data.groups.tolist() == list(range(len(images)))
    assert "SIMULATED" in data.notes[0]
    assert not (tmp_path / "absent").exists()
    assert len(list((tmp_path / "cache").rglob("digits_events-test-*.arrow"))) == 1
    with pytest.raises(ValueError, match=r"No recording is as long as data\.window_ms"):
        load_recordings(tmp_path, "test", dataset="digits_events", window_ms=301)


@pytest.fixture
def unpacked(shared: Path, tmp_path: Path) -> Path:
    """The real recordings of the reference data, unpacked."""
    script = shared / "data/unpack.py"
    if not script.is_file():
        pytest.skip("the real recordings are absent: no data/unpack.py in the reference data")
    command = [sys.executable, str(script), str(tmp_path), "nmnist_small", "dvs128_objects"]
    subprocess.run(command, check=True)
    return tmp_path


@pytest.mark.slow
def test_real_nmnist_gives_the_frames_of_spikingjelly(unpacked: Path) -> None:
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number, load_ATIS_bin

    train, test = (
        load_recordings(unpacked, split, dataset="nmnist", time_steps=10) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (1000, 100)
    assert train.notes == ("Split: official.",)
    files = find_recordings("nmnist", "train", unpacked).files
    for i in range(0, 1000, 10):
        theirs = load_ATIS_bin(files[i])
        ours = read_recording(files[i])
        assert all(np.array_equal(ours[name], theirs[name]) for name in "xytp")
        for bin_by, split_by in (("count", "number"), ("time", "time")):
            settings = FrameSettings(time_steps=10, bin_by=bin_by)  # type: ignore[arg-type]
            frames = integrate_events_by_fixed_frames_number(theirs, split_by, 10, 34, 34)
            counted = frames_from_events(ours, sensor_size=(34, 34), settings=settings)
            assert np.array_equal(counted, frames)
            if bin_by == "count":
                assert np.array_equal(train.samples[i], frames)


@pytest.mark.slow
def test_real_dvs128_objects_are_cut_into_windows(unpacked: Path) -> None:
    root = unpacked / "DVS128-Objects"
    train, test = (load_recordings(root, split, window_ms=200, downsample=4) for split in ("train", "test"))
    assert (len(train), len(test)) == (1415, 562)
    assert (len(set(train.groups)), len(set(test.groups))) == (10, 6)
    assert train.class_names == ("box", "cutter", "mouse", "mug", "pencil", "scissors")
    assert train.samples.shape[1:] == (4, 2, 32, 32)
