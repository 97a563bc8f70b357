"""Tiny-ImageNet's folder: a list of classes, training images by class, annotated validation images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from snn.data.image_decoding import Arrays, Entry, decode_images


def read_class_names(file: Path) -> tuple[str, ...]:
    """The WordNet id of each class in wnids.txt, sorted.

    Raises:
        ValueError: It holds something else, or one of them twice.
    """
    names = file.read_text(encoding="utf-8", errors="replace").split()
    wrong = [name for name in names if not re.fullmatch("n[0-9]+", name)]
    if wrong or len(set(names)) < max(len(names), 1):
        found = repr(wrong[0][:40]) if wrong else f"{len(set(names)):,} different ones in {len(names):,} rows"
        raise ValueError(
            f"{file} should list different WordNet ids such as n01443537, it lists {found}. Fetch it again."
        )
    return tuple(sorted(names))


def read_train_images(home: Path, names: Sequence[str], *, side: int, scratch: Path) -> Arrays:
    """Training images by class and file name.

    Args:
        home: The folder tiny-imagenet-200.
        names: Of `read_class_names`.
        side: Height and width of the images.
        scratch: As for `decode_images`.

    Raises:
        ValueError: There is no image, or one cannot be decoded or has another size.
        OSError: A folder may not be listed.
    """
    folders = [home / "train" / name / "images" for name in names]
    entries: list[Entry] = [
        (str(path), path, label)
        for label, folder in enumerate(folders)
        for path in sorted(folder.iterdir())  # raises where `glob` would find nothing
        if path.suffix == ".JPEG"
    ]
    return _read(home / "train", entries, names, side, scratch)


def read_val_images(home: Path, names: Sequence[str], *, side: int, scratch: Path) -> Arrays:
    """Validation images by file name; see `read_train_images`.

    Raises:
        ValueError: Also if a row of val_annotations.txt is none.
    """
    file = home / "val" / "val_annotations.txt"
    label_of = {name: i for i, name in enumerate(names)}
    entries: list[Entry] = []
    for row, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        image, wnid = (*line.split("\t"), "")[:2]
        if line and (wnid not in label_of or not re.fullmatch(r"[\w-]+\.\w+", image)):
            raise ValueError(
                f"Row {row} of {file} should be an image, a tab and a class of wnids.txt, it is "
                f"{line[:60]!r}. Fetch it again."
            )
        if line:
            path = home / "val" / "images" / image
            entries.append((f"{path} (row {row} of {file.name})", path, label_of[wnid]))
    return _read(file, sorted(entries, key=lambda entry: (str(entry[1]), entry[2])), names, side, scratch)


def _read(source: Path, entries: Sequence[Entry], names: Sequence[str], side: int, scratch: Path) -> Arrays:
    return decode_images(
        entries,
        num_images=len(entries),
        side=side,
        num_classes=len(names),
        source=source,
        scratch=scratch,
    )
