"""The forms in which image data sets are published, found below a folder and read into arrays."""

# N samples, C channels, H height, W width

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snn.data.samples import exclusive_lock
from snn.datasets import ImageDataset, Split

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Source:
    """One split of a data set on disk.

    Attributes:
        files: Files (or folders of many) whose names, sizes and times identify the content.
        read: Returns images uint8 [N, C, H, W] and labels int64 [N]; raises ValueError, naming the file, if
            one is truncated, corrupt or of another form.
        class_names: Name of each class.
    """

    files: tuple[Path, ...]
    read: Callable[[], Arrays]
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
    assert dataset.class_names is not None
    for parent in (folder / name for name in dataset.parquet_folders):
        files = tuple(sorted({*parent.glob(f"*{split}*.parquet"), *parent.glob(f"{split}/*.parquet")}))
        if files:
            _check_all_parts(files)
            read = partial(_read_parquet, files, dataset.label_column, dataset.side)
            return Source(files, read, dataset.class_names)
    return None


def _check_all_parts(files: Sequence[Path]) -> None:
    part = re.search(r"-of-(\d+)\.parquet$", files[0].name)
    if part and len(files) != int(part[1]):
        raise ValueError(
            f"{files[0].parent} should hold {int(part[1])} files like {files[0].name}, but holds "
            f"{len(files)}. Fetch the others, or remove files of other data sets."
        )


def _read_parquet(files: Sequence[Path], label: str, side: int) -> Arrays:
    tables = [_open_parquet(file, label) for file in files]
    rows = (row for file, table in zip(files, tables, strict=True) for row in _rows(file, table, label))
    return _decode_all(rows, num_images=sum(table.metadata.num_rows for table in tables), side=side)


def _open_parquet(file: Path, label: str) -> Any:
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    names = table.schema_arrow.names
    if label not in names or not {"img", "image"} & set(names):
        raise ValueError(f"{file} needs the columns img (or image) and {label}, it has {', '.join(names)}.")
    return table


def _rows(file: Path, table: Any, label: str) -> Iterator[tuple[str, bytes, int]]:
    image = "img" if "img" in table.schema_arrow.names else "image"
    row = 0
    try:
        for batch in table.iter_batches(batch_size=512, columns=[image, label]):
            for value, number in zip(batch[image].to_pylist(), batch[label].to_pylist(), strict=True):
                yield f"row {row} of {file}", value["bytes"], number
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is truncated or corrupt ({error}). Fetch it again.")


def _decode_all(entries: Iterable[tuple[str, bytes, int]], *, num_images: int, side: int) -> Arrays:
    """Decodes (origin, encoded image, label); on a terminal, shows progress if it takes over two seconds."""
    from tqdm import tqdm

    images = np.empty((num_images, 3, side, side), np.uint8)
    labels = np.empty(num_images, np.int64)
    progress = tqdm(entries, "Decoding images", num_images, delay=2, leave=False, disable=None)
    for i, (origin, encoded, label) in enumerate(progress):
        images[i], labels[i] = _decode(encoded, side, origin), label
    return images, labels


def _decode(encoded: bytes, side: int, origin: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels_HWC = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken images
        raise ValueError(f"The image of {origin} cannot be decoded ({error}). Fetch it again.") from error
    if pixels_HWC.shape[:2] != (side, side):
        raise ValueError(f"The image of {origin} should be {side}x{side}, it is {pixels_HWC.shape[:2]}.")
    return pixels_HWC.transpose(2, 0, 1)


def _find_official(dataset: ImageDataset, folder: Path, split: Split) -> Source | None:
    """The files that the authors publish, which torchvision downloads."""
    files = tuple(folder / name for name in dataset.official_files.get(split, ()))
    if not files or not all(file.is_file() for file in files):
        return None
    assert dataset.class_names is not None
    return Source(files, partial(_read_official, files, dataset.side), dataset.class_names)


def _read_official(files: Sequence[Path], side: int) -> Arrays:
    parts = [_read_mat(file) if file.suffix == ".mat" else _read_pickle(file, side) for file in files]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_mat(file: Path) -> Arrays:
    from scipy.io import loadmat

    try:
        content = loadmat(file, variable_names=["X", "y"])
        labels = content["y"].ravel().astype(np.int64) % 10  # the files label the digit zero 10
        return content["X"].transpose(3, 2, 0, 1), labels  # from [H, W, C, N]
    except Exception as error:  # corrupt files raise errors of any kind
        raise _damaged(file, error) from error


def _read_pickle(file: Path, side: int) -> Arrays:
    try:
        with file.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="latin1").load()
        labels = content["labels"] if "labels" in content else content["fine_labels"]
        return content["data"].reshape(-1, 3, side, side), np.asarray(labels, np.int64)
    except Exception as error:  # corrupt files raise errors of any kind
        raise _damaged(file, error) from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays only, since a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")


def _find_tiny_imagenet(dataset: ImageDataset, folder: Path, split: Split) -> Source | None:
    for home in (folder, folder / "tiny-imagenet-200"):
        wnids, annotations = home / "wnids.txt", home / "val" / "val_annotations.txt"
        if wnids.is_file() and annotations.is_file():
            names = tuple(sorted(wnids.read_text().split()))
            # Checking every image would take long; a folder's time changes if an image is added or removed.
            train_folders = [home / "train" / name / "images" for name in names]
            files = train_folders if split == "train" else [annotations, home / "val" / "images"]
            read = partial(_read_tiny_imagenet, home, split, names, dataset.side)
            return Source((wnids, *files), read, names)
    return None


def _read_tiny_imagenet(home: Path, split: Split, names: Sequence[str], side: int) -> Arrays:
    """Classes sorted by WordNet id, images by file name."""
    if split == "train":
        folders = [home / "train" / name / "images" for name in names]
        images = [(path, i) for i, folder in enumerate(folders) for path in sorted(folder.glob("*.JPEG"))]
    else:
        lines = (home / "val" / "val_annotations.txt").read_text().splitlines()
        named = sorted(line.split("\t")[:2] for line in lines if line)
        images = [(home / "val" / "images" / name, names.index(wnid)) for name, wnid in named]
    entries = ((str(path), path.read_bytes(), label) for path, label in images)
    return _decode_all(entries, num_images=len(images), side=side)
