"""The forms in which image data sets are published, found below a folder and read into arrays."""

# N samples, C channels, H height, W width

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from snn.data.array_images import read_official
from snn.data.image_decoding import Arrays
from snn.data.parquet_images import read_parquet
from snn.data.samples import exclusive_lock
from snn.data.tiny_imagenet import read_class_names, read_train_images, read_val_images
from snn.datasets import ImageDataset, Split


class Read(Protocol):
    """Reads the files of a split."""

    def __call__(self, *, scratch: Path) -> Arrays:
        """Images uint8 [N, C, H, W] and labels int64 [N].

        Args:
            scratch: Folder for large temporary files.

        Raises:
            ValueError: A file is truncated, corrupt or of another form; the message names it.
        """


@dataclass(frozen=True)
class Source:
    """One split of a data set on disk.

    Attributes:
        files: Files (or folders of many) whose names, sizes and times identify the content.
        read: Returns images and labels.
        class_names: Name of each class.
    """

    files: tuple[Path, ...]
    read: Read
    class_names: tuple[str, ...]


def find_files(dataset: ImageDataset, split: Split, root: Path) -> Source | None:
    """Searches a data set's folders below `root`, then `root` itself.

    Args:
        dataset: A data set that has files.
        split: "test" of Tiny-ImageNet is its `val` folder.
        root: The folder above the data set's folder, or that folder itself.

    Raises:
        ValueError: Some of several parquet files are missing.
    """
    for folder in _folders(dataset, root):
        if dataset.name == "tiny_imagenet":
            source = _find_tiny_imagenet(dataset, folder, split)
        else:
            source = _find_parquet(dataset, folder, split) or _find_official(dataset, folder, split)
        if source is not None:
            return source
    return None


def missing_files(dataset: ImageDataset, split: Split, root: Path) -> FileNotFoundError:
    """The error for files that are absent: where `find_files` searched, for which, and what to do."""
    remedy = "pass --data.download to fetch them" if dataset.torchvision_class else dataset.obtain
    return FileNotFoundError(
        f"No {split} images of {dataset.name} in {', '.join(map(str, _folders(dataset, root)))}. Readable "
        f"forms: {dataset.layout}. Set --data.root to the folder that holds them, or {remedy}."
    )


def download_files(dataset: ImageDataset, split: Split, root: Path) -> None:
    """Downloads a data set into its folder below `root` through torchvision; one process at a time.

    Raises:
        FileNotFoundError: torchvision does not download this data set.
        OSError: The download failed.
    """
    if dataset.torchvision_class is None:
        raise missing_files(dataset, split, root)
    from torchvision import datasets

    folder = root / dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    download = getattr(datasets, dataset.torchvision_class)
    which = {"train": split == "train"} if dataset.torchvision_split == "train" else {"split": split}
    with exclusive_lock(folder / "download.lock"):
        try:
            download(str(folder), download=True, **which)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"The download of {dataset.name} into {folder} failed ({error}). Try again, or put one of "
                f"these there by hand: {dataset.layout}."
            ) from error


def _folders(dataset: ImageDataset, root: Path) -> list[Path]:
    return [*(root / name for name in dataset.folders), root]


def _find_parquet(dataset: ImageDataset, folder: Path, split: Split) -> Source | None:
    if dataset.label_column is None:
        return None
    assert dataset.class_names is not None and dataset.side is not None
    for parent in (folder / name for name in dataset.parquet_folders):
        files = tuple(sorted({*parent.glob(f"*{split}*.parquet"), *parent.glob(f"{split}/*.parquet")}))
        if files:
            _check_all_parts(files)
            read = partial(
                read_parquet,
                files,
                label=dataset.label_column,
                side=dataset.side,
                num_classes=len(dataset.class_names),
            )
            return Source(files, read, dataset.class_names)
    return None


def _check_all_parts(files: Sequence[Path]) -> None:
    part = re.search(r"-of-(\d+)\.parquet$", files[0].name)
    if part and len(files) != int(part[1]):
        raise ValueError(
            f"{files[0].parent} should hold {int(part[1])} files like {files[0].name}, but holds "
            f"{len(files)}. Fetch the others, or remove files of other data sets."
        )


def _find_official(dataset: ImageDataset, folder: Path, split: Split) -> Source | None:
    """The files that the authors publish, which torchvision downloads."""
    files = tuple(folder / name for name in dataset.official_files.get(split, ()))
    if not files or not all(file.is_file() for file in files):
        return None
    assert dataset.class_names is not None and dataset.side is not None
    read = partial(read_official, files, side=dataset.side, num_classes=len(dataset.class_names))
    return Source(files, read, dataset.class_names)


def _find_tiny_imagenet(dataset: ImageDataset, folder: Path, split: Split) -> Source | None:
    assert dataset.side is not None
    for home in (folder, folder / "tiny-imagenet-200"):
        wnids, annotations = home / "wnids.txt", home / "val" / "val_annotations.txt"
        if wnids.is_file() and annotations.is_file():
            names = read_class_names(wnids)
            # Checking every image would take long; a folder's time changes if an image is added or removed.
            train_folders = [home / "train" / name / "images" for name in names]
            files = train_folders if split == "train" else [annotations, home / "val" / "images"]
            reader = read_train_images if split == "train" else read_val_images
            read = partial(reader, home, names, side=dataset.side)
            return Source((wnids, *files), read, names)
    return None
