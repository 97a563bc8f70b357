"""Somebody's own images: class folders or parquet files, of any size, with or without a test split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from snn.data.image_decoding import Arrays, decode_images
from snn.data.parquet_images import find_classes, find_label_column, read_parquet
from snn.data.splits import stratified_split
from snn.datasets import Split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "Train", "training"),
    "test": ("test", "Test", "val", "Val", "validation"),
}


class _Read(Protocol):
    def __call__(self, *, side: int, scratch: Path, unreadable: list[str]) -> Arrays:
        """Images of `side` x `side` pixels and their labels; as `decode_images`."""


@dataclass(frozen=True)
class OwnImages:
    """One split of somebody's images.

    Attributes:
        identity: What identifies its content: name, size and time of each file.
        class_names: Name of each class.
        read: Reads it.
    """

    identity: tuple[tuple[str, int, int], ...]
    class_names: tuple[str, ...]
    read: _Read


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    time_ns: int


def find_own_images(split: Split, root: Path, test_fraction: float | None) -> OwnImages | None:
    """Searches `root`/images, then `root` itself, for class folders or parquet files.

    Args:
        split: "test" is also called val.
        root: The folder above the folder images, or that folder itself.
        test_fraction: Share of each class that is for testing, where there is no test split.

    Raises:
        ValueError: There is no test split and no `test_fraction`, or both; a class of the test split that is
            not one of the training split; parquet files without a column of labels.
        OSError: A folder may not be listed.
    """
    for folder in (root / "images", root):
        if (found := _find_parquet(split, folder)) or (found := _find_folders(split, folder, test_fraction)):
            return found
    return None


def _find_parquet(split: Split, folder: Path) -> OwnImages | None:
    files = {name: _parquet_files(folder, names) for name, names in _FOLDERS.items()}
    if not files["train"]:
        return None
    if not files["test"]:
        raise ValueError(f"{folder} holds parquet files for training, but none called test or val. Add them.")
    label, names = find_label_column(files["train"][0])
    class_names = names or find_classes(files["train"], label)

    def read(*, side: int, scratch: Path, unreadable: list[str]) -> Arrays:
        return read_parquet(
            files[split],
            label=label,
            side=side,
            num_classes=len(class_names),
            scratch=scratch,
            unreadable=unreadable,
        )

    stats = [(file, file.stat()) for file in files[split]]
    return OwnImages(
        tuple((file.name, stat.st_size, stat.st_mtime_ns) for file, stat in stats), class_names, read
    )


def _parquet_files(folder: Path, names: Sequence[str]) -> list[Path]:
    for parent in (folder, folder / "data"):
        for name in names:
            if files := sorted({*parent.glob(f"*{name}*.parquet"), *parent.glob(f"{name}/*.parquet")}):
                return files
    return []


def _find_folders(split: Split, folder: Path, test_fraction: float | None) -> OwnImages | None:
    homes = {
        name: next((folder / option for option in options if (folder / option).is_dir()), None)
        for name, options in _FOLDERS.items()
    }
    train, test = homes["train"], homes["test"]
    if train and test:
        if test_fraction is not None:
            raise ValueError(
                f"{test} is the test split: leave --data.test-fraction out, or remove that folder."
            )
        classes = _classes_below(train)
        home = train if split == "train" else test
        if unknown := [name for name in _classes_below(home) if name not in classes]:
            raise ValueError(
                f"{home} holds images of classes that {train} does not have: {', '.join(unknown)}. Remove or "
                "rename those folders."
            )
        files, labels = _list_files(home, classes)
        return _own_images(home, files, labels, classes) if files else None
    home = train or folder
    if test is not None or (train is None and test_fraction is None) or not home.is_dir():
        return None
    classes = _classes_below(home)
    files, labels = _list_files(home, classes)
    if not files:
        return None
    if test_fraction is None:
        raise ValueError(
            f"{folder} has no folder test or val beside {home.name}: add one, or set --data.test-fraction, "
            "the share of each class that is for testing."
        )
    sides = stratified_split(np.array(labels), fraction=1 - test_fraction, seed=0)
    chosen = sides[0 if split == "train" else 1]
    return _own_images(home, [files[i] for i in chosen], [labels[i] for i in chosen], classes)


def _own_images(
    home: Path, files: Sequence[_File], labels: Sequence[int], classes: tuple[str, ...]
) -> OwnImages:
    def read(*, side: int, scratch: Path, unreadable: list[str]) -> Arrays:
        return decode_images(
            ((str(file.path), file.path, label) for file, label in zip(files, labels, strict=True)),
            num_images=len(files),
            side=side,
            num_classes=len(classes),
            source=home,
            scratch=scratch,
            unreadable=unreadable,
        )

    identity = tuple((str(file.path.relative_to(home)), file.size, file.time_ns) for file in files)
    return OwnImages(identity, classes, read)


def _classes_below(home: Path) -> tuple[str, ...]:
    """Names of the folders with images, sorted."""
    with os.scandir(home) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir())
    return tuple(name for name in folders if _images_in(home / name, first=True))


def _list_files(home: Path, classes: Sequence[str]) -> tuple[list[_File], list[int]]:
    files, labels = list[_File](), list[int]()
    for label, name in enumerate(classes):
        if (home / name).is_dir():
            found = sorted(_images_in(home / name), key=lambda file: file.path.name)
            files += found
            labels += [label] * len(found)
    return files, labels


def _images_in(folder: Path, *, first: bool = False) -> list[_File]:
    """The images in a folder; with `first` at most one of them."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
                stat = entry.stat()
                files.append(_File(Path(entry.path), stat.st_size, stat.st_mtime_ns))
                if first:
                    break
    return files
