"""Event data sets are found in their layouts, in a fixed order; errors name what is missing."""

from __future__ import annotations

import errno
import logging
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_files import write_recordings

from snn.data.camera.files import Recordings, find_recordings
from snn.data.camera.load import load_events
from snn.datasets import DATASETS, EventDataset
from snn.options import FrameSettings

SETTINGS = FrameSettings(time_steps=4, bin_by="count")
EVENT_DATASETS = [entry for entry in DATASETS.values() if isinstance(entry, EventDataset)]
TWO_EVENTS = bytes([3, 4, 128, 0, 9, 3, 5, 0, 0, 10])  # in N-MNIST's form


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(TWO_EVENTS)


def names_of(recordings: Recordings) -> list[str]:
    return [str(file.relative_to(recordings.folder)) for file in recordings.files]


@pytest.mark.parametrize(
    ("dataset", "train", "test", "label"),
    [
        ("nmnist", "NMNIST/Train/7/00001.bin", "NMNIST/Test/7/00002.bin", "7"),
        ("nmnist", "train/0/1.bin", "test/0/1.bin", "0"),
        ("dvs128_gesture", "DVSGesture/ibmGestureTrain/user01_led/2.npy", "", "left hand wave"),
        ("poker_dvs", "POKERDVS/pips_train/sp/a.npy", "POKERDVS/pips_test/sp/a.npy", "sp"),
        ("recordings", "train/box/a.aedat", "test/box/b.h5", "box"),
        ("recordings", "recordings/Train/box/a.npz", "recordings/Test/box/b.aedat4", "box"),
    ],
)
def test_official_splits_are_found(tmp_path: Path, dataset: str, train: str, test: str, label: str) -> None:
    touch(tmp_path, train, test or train.replace("Train", "Test"))
    for split, name in (("train", train), ("test", test or train.replace("Train", "Test"))):
        recordings = find_recordings(dataset, split, tmp_path)  # type: ignore[arg-type]
        assert recordings.files == (tmp_path / name,)
        assert [recordings.class_names[i] for i in recordings.labels] == [label]


def test_gestures_are_labelled_by_file_name(tmp_path: Path) -> None:
    folder = "dvs128_gesture/ibmGestureTest"
    touch(tmp_path, *(f"{folder}/{name}.npy" for name in ("user02_lab/10", "user02_lab/0", "user01_led/5")))
    assert find_recordings("dvs128_gesture", "test", tmp_path).labels == (5, 0, 10)
    touch(tmp_path, f"{folder}/user02_lab/11.npy")
    with pytest.raises(ValueError, match=r"unknown classes: 11\. Known classes: hand clapping"):
        find_recordings("dvs128_gesture", "test", tmp_path)


def test_data_sets_without_a_split_test_on_the_last_tenth_of_each_class(tmp_path: Path) -> None:
    for name, number in (("cat", 20), ("dog", 11), ("ship", 1), ("no class", 3)):
        touch(tmp_path, *(f"CIFAR10DVS/{name}/{i:02d}.aedat4" for i in range(number)))
    train, test = (find_recordings("cifar10_dvs", split, tmp_path) for split in ("train", "test"))
    assert names_of(test) == ["cat/18.aedat4", "cat/19.aedat4", "dog/10.aedat4"]
    assert (len(train.files), set(train.files) & set(test.files)) == (18 + 10 + 1, set())
    assert (test.labels, test.class_names[3], test.class_names[5]) == ((3, 3, 5), "cat", "dog")


@pytest.mark.parametrize("folder", ["NCALTECH101/Caltech101", "Caltech101", "ncaltech101/Caltech101"])
def test_ncaltech_takes_its_classes_from_the_folders(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, "cifar-10-batches-bin/data.bin")  # of another data set below the same root
    touch(tmp_path, *(f"{folder}/{name}/image_{i}.bin" for name in ("yin", "airplanes") for i in range(3)))
    for root in (tmp_path, tmp_path / folder):
        train, test = (find_recordings("ncaltech101", split, root) for split in ("train", "test"))
        assert train.class_names == test.class_names == ("airplanes", "yin")
        assert (train.labels, test.labels) == ((0, 0, 1, 1), (0, 1))


def test_order_does_not_depend_on_the_directory_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *(f"train/{name}/{i}.{form}" for name in "ba" for i in (2, 1) for form in ("npy", "bin")))
    touch(tmp_path, *(f"cifar10_dvs/{name}/{i}.aedat4" for name in ("dog", "cat") for i in range(20)))
    expected = [find_recordings(name, "train", tmp_path) for name in ("recordings", "cifar10_dvs")]
    plain_glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *args: reversed(sorted(plain_glob(*args))))
    assert [find_recordings(name, "train", tmp_path) for name in ("recordings", "cifar10_dvs")] == expected
    for recordings in expected:
        assert list(recordings.files) == sorted(recordings.files)
        assert np.all(np.diff(recordings.labels) >= 0)


def test_error_for_recordings_without_split_folders_names_the_expected_layout(tmp_path: Path) -> None:
    touch(tmp_path, "left/0.npy")
    with pytest.raises(FileNotFoundError) as caught:
        find_recordings("recordings", "train", tmp_path)
    for words in (str(tmp_path), "train/<class>/* and test/<class>/*", "aedat4", "--data.root"):
        assert words in str(caught.value)
    assert "--data.download" not in str(caught.value)


def test_test_recordings_of_an_untrained_class_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/left/0.npy", "train/right/0.npy", "test/upwards/0.npy")
    with pytest.raises(ValueError, match=r"unknown classes: upwards\. Known classes: left, right"):
        find_recordings("recordings", "test", tmp_path)


def test_error_for_missing_data_names_folders_files_and_remedies(tmp_path: Path) -> None:
    touch(tmp_path, "NMNIST/Train/0/1.bin")
    with pytest.raises(FileNotFoundError, match="no recordings for the test split of nmnist") as caught:
        load_events("nmnist", "test", root=tmp_path, settings=SETTINGS)
    for words in (str(tmp_path / "NMNIST"), "Test/<digit>/*.bin", "--data.download", "--data.root"):
        assert words in str(caught.value)


def test_download_goes_through_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(folder: str, *, train: bool) -> None:
        calls.append(train)
        if train:
            raise RuntimeError("File not found or corrupted")
        touch(Path(folder), "NMNIST/Test/4/00001.bin")

    monkeypatch.setattr("tonic.datasets.NMNIST", fetch)
    load_new = partial(load_events, "nmnist", root=tmp_path / "new", settings=SETTINGS, download=True)
    assert load_new("test").labels.tolist() == load_new("test").labels.tolist() == [4]
    assert calls == [False]
    with pytest.raises(OSError, match=r"download of nmnist into .* failed \(File not found or corrupted\)"):
        load_new("train")
    with pytest.raises(FileNotFoundError, match="split of poker_dvs"):
        load_events("poker_dvs", "train", root=tmp_path, settings=SETTINGS, download=True)


@pytest.mark.parametrize(
    "entry", [entry for entry in EVENT_DATASETS if entry.tonic_class], ids=lambda entry: entry.name
)
def test_tonic_has_the_class_that_downloads(entry: EventDataset) -> None:
    from tonic import datasets

    kind = getattr(datasets, str(entry.tonic_class))
    assert kind.__name__ in entry.folders  # tonic unpacks into a folder of this name
    assert entry.name == "ncaltech101" or tuple(kind.sensor_size) == (*(entry.sensor_size or ()), 2)


def test_recordings_that_cannot_be_reached_are_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_recordings(tmp_path)
    folder = tmp_path / "train/left"
    (folder / "link.npy").symlink_to(tmp_path / "nowhere")
    (folder / "loop.npy").symlink_to(folder / "loop.npy")
    (folder / "folder.aedat").mkdir()
    os.mkfifo(folder / "pipe.bin")
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.npy")).write_bytes(b"no array")
    for settings in (SETTINGS, FrameSettings(time_steps=4, bin_by="count", window_ms=2)):
        with caplog.at_level(logging.WARNING):
            data = load_events("recordings", "train", root=tmp_path, settings=settings)
        notes = "\n".join(data.notes)
        for name in (
            "folder.aedat (it is not a file)",
            "link.npy (No such file or directory)",
            "loop.npy (Too many levels of symbolic links)",
            "pipe.bin (it is not a file)",
            "caf\\udce9.npy (",
        ):
            assert f"left/{name}" in notes and f"left/{name}" in caplog.text
        assert "5 of 17 recordings could not be read" in notes
        assert notes.encode() and len(set(data.groups)) == 12


def test_folder_that_may_not_be_listed_stops_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "train/left/0.bin", "train/right/0.bin")

    def refuse(path: Path) -> None:
        if Path(path).name == "right":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain_scandir(path)

    plain_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="right"):
        find_recordings("recordings", "train", tmp_path)


def test_class_whose_name_no_report_could_show_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/train/caf\xe9"))
    touch(folder, "0.bin")
    with pytest.raises(
        ValueError, match=r"class folder 'caf\\udce9' of recordings .* is not UTF-8\. Rename it"
    ):
        find_recordings("recordings", "train", tmp_path)


def test_digits_and_hands_are_not_mirrored() -> None:
    mirrored = {entry.name for entry in EVENT_DATASETS if entry.flips_allowed}
    assert mirrored == {"cifar10_dvs", "ncaltech101", "asl_dvs", "poker_dvs"}
