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
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snn.data.samples import exclusive_lock

Split = Literal["train", "test"]
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]

TEN_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
worm
"""
_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "cifar10": tuple(_CIFAR10.split()),
    "cifar100": tuple(_CIFAR100.split()),
    "svhn": TEN_DIGITS,
}
_LABEL_COLUMNS = {"cifar10": "label", "cifar100": "fine_label", "svhn": "label"}
_PARQUET = "parquet files such as train-00000-of-00001.parquet with the columns img (or image) and "
_FORMS = {
    "cifar10": _PARQUET + "label; the folder cifar-10-batches-py",
    "cifar100": _PARQUET + "fine_label; the folder cifar-100-python",
    "svhn": _PARQUET + "label; train_32x32.mat and test_32x32.mat",
    "tiny_imagenet": "the folder tiny-imagenet-200 with wnids.txt, train/ and val/val_annotations.txt",
}
_FOLDERS = {
    "cifar10": ("cifar10", "cifar-10", "CIFAR10", "CIFAR-10", ""),
    "cifar100": ("cifar100", "cifar-100", "CIFAR100", "CIFAR-100", ""),
    "svhn": ("svhn", "SVHN", ""),
    "tiny_imagenet": ("tiny_imagenet", "tiny-imagenet", "tiny-imagenet-200", ""),
}
_PARQUET_FOLDERS = ("", "data", "plain_text", "cropped_digits", "cifar10", "cifar100")
_OFFICIAL_FILES: dict[tuple[str, Split], tuple[str, ...]] = {
    ("cifar10", "train"): tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
    ("cifar10", "test"): ("cifar-10-batches-py/test_batch",),
    ("cifar100", "train"): ("cifar-100-python/train",),
    ("cifar100", "test"): ("cifar-100-python/test",),
    ("svhn", "train"): ("train_32x32.mat",),
    ("svhn", "test"): ("test_32x32.mat",),
}


@dataclass(frozen=True)
class Source:
    """One split of a data set on disk.

    Attributes:
        files: What its content is known by: files (or folders of many) whose names, sizes and times tell
            when it changes.
        read: Gives images uint8 [N, C, H, W] and labels int64 [N]; raises ValueError, naming the file, for
            what is truncated, corrupt or of another form.
        class_names: Name of each class.
    """

    files: tuple[Path, ...]
    read: Callable[[], Arrays]
    class_names: tuple[str, ...]


def find_files(dataset: str, split: Split, root: Path) -> Source | None:
    """Looks for a data set in its folder below `root`, then in `root` itself.

    Args:
        dataset: "cifar10", "cifar100", "svhn" or "tiny_imagenet".
        split: "test" of Tiny-ImageNet is its `val` folder.
        root: Folder that holds the data set's folder, or is it.

    Raises:
        ValueError: Some of several parquet files are missing.
    """
    for folder in _folders(dataset, root):
        if dataset == "tiny_imagenet":
            source = _find_tiny_imagenet(folder, split)
        else:
            source = _find_parquet(dataset, folder, split) or _find_official(dataset, folder, split)
        if source is not None:
            return source
    return None


def missing_files(dataset: str, split: Split, root: Path) -> FileNotFoundError:
    """The error for what `find_files` did not find: where it looked, for what, and what to do."""
    cure = "pass --data.download to fetch them"
    if dataset == "tiny_imagenet":
        cure = "unpack there tiny-imagenet-200.zip of Stanford's course CS231n, which we cannot download"
    return FileNotFoundError(
        f"No {split} images of {dataset} in {', '.join(map(str, _folders(dataset, root)))}. Understood are: "
        f"{_FORMS[dataset]}. Set --data.root to the folder that holds them, or {cure}."
    )


def download_files(dataset: str, split: Split, root: Path) -> None:
    """Fetches CIFAR or SVHN into `root`/`dataset` through torchvision; one process at a time.

    Raises:
        FileNotFoundError: Tiny-ImageNet, which has to be fetched by hand.
        OSError: The download failed.
    """
    if dataset == "tiny_imagenet":
        raise missing_files(dataset, split, root)
    from torchvision import datasets

    folder = root / dataset
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / "download.lock"):
        try:
            if dataset == "svhn":
                datasets.SVHN(str(folder), split=split, download=True)
            else:
                kind = datasets.CIFAR10 if dataset == "cifar10" else datasets.CIFAR100
                kind(str(folder), train=split == "train", download=True)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"The download of {dataset} into {folder} failed ({error}). Try again, or put there by hand: "
                f"{_FORMS[dataset]}."
            ) from error


def _folders(dataset: str, root: Path) -> list[Path]:
    return [root / name for name in _FOLDERS[dataset]]


def _find_parquet(dataset: str, folder: Path, split: Split) -> Source | None:
    for place in (folder / name for name in _PARQUET_FOLDERS):
        files = tuple(sorted({*place.glob(f"*{split}*.parquet"), *place.glob(f"{split}/*.parquet")}))
        if files:
            _check_all_parts(files)
            read = partial(_read_parquet, files, _LABEL_COLUMNS[dataset])
            return Source(files, read, _CLASS_NAMES[dataset])
    return None


def _check_all_parts(files: Sequence[Path]) -> None:
    part = re.search(r"-of-(\d+)\.parquet$", files[0].name)
    if part and len(files) != int(part[1]):
        raise ValueError(
            f"{files[0].parent} should hold {int(part[1])} files like {files[0].name}, but holds "
            f"{len(files)}. Fetch the others, or remove what does not belong to this data set."
        )


def _read_parquet(files: Sequence[Path], label: str) -> Arrays:
    tables = [_open_parquet(file, label) for file in files]
    rows = (row for file, table in zip(files, tables, strict=True) for row in _rows(file, table, label))
    return _decode_all(rows, num_images=sum(table.metadata.num_rows for table in tables), size=32)


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


def _decode_all(entries: Iterable[tuple[str, bytes, int]], *, num_images: int, size: int) -> Arrays:
    """Decodes (origin, encoded image, label); on a terminal, shows progress if it takes over two seconds."""
    from tqdm import tqdm

    images = np.empty((num_images, 3, size, size), np.uint8)
    labels = np.empty(num_images, np.int64)
    progress = tqdm(entries, "Decoding images", num_images, delay=2, leave=False, disable=None)
    for i, (origin, encoded, label) in enumerate(progress):
        images[i], labels[i] = _decode(encoded, size, origin), label
    return images, labels


def _decode(encoded: bytes, size: int, origin: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels_HWC = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken images
        raise ValueError(f"The image of {origin} cannot be decoded ({error}). Fetch it again.") from error
    if pixels_HWC.shape[:2] != (size, size):
        raise ValueError(f"The image of {origin} should be {size}x{size}, it is {pixels_HWC.shape[:2]}.")
    return pixels_HWC.transpose(2, 0, 1)


def _find_official(dataset: str, folder: Path, split: Split) -> Source | None:
    """The files their authors publish, which torchvision downloads."""
    files = tuple(folder / name for name in _OFFICIAL_FILES[dataset, split])
    if not all(file.is_file() for file in files):
        return None
    return Source(files, partial(_read_official, files), _CLASS_NAMES[dataset])


def _read_official(files: Sequence[Path]) -> Arrays:
    parts = [_read_mat(file) if file.suffix == ".mat" else _read_pickle(file) for file in files]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_mat(file: Path) -> Arrays:
    from scipy.io import loadmat

    try:
        content = loadmat(file, variable_names=["X", "y"])
        labels = content["y"].ravel().astype(np.int64) % 10  # the files call the digit zero 10
        return content["X"].transpose(3, 2, 0, 1), labels  # from [H, W, C, N]
    except Exception as error:  # a broken file fails in any way
        raise _damaged(file, error) from error


def _read_pickle(file: Path) -> Arrays:
    try:
        with file.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="latin1").load()
        labels = content["labels"] if "labels" in content else content["fine_labels"]
        return content["data"].reshape(-1, 3, 32, 32), np.asarray(labels, np.int64)
    except Exception as error:  # a broken file fails in any way
        raise _damaged(file, error) from error


class _ArraysOnly(pickle.Unpickler):
    """Refuses whatever is no array: a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")


def _find_tiny_imagenet(folder: Path, split: Split) -> Source | None:
    for home in (folder, folder / "tiny-imagenet-200"):
        wnids, annotations = home / "wnids.txt", home / "val" / "val_annotations.txt"
        if wnids.is_file() and annotations.is_file():
            names = tuple(sorted(wnids.read_text().split()))
            # There are too many images to look at each: the time of a folder tells when one comes or goes.
            train_folders = [home / "train" / name / "images" for name in names]
            files = train_folders if split == "train" else [annotations, home / "val" / "images"]
            return Source((wnids, *files), partial(_read_tiny_imagenet, home, split, names), names)
    return None


def _read_tiny_imagenet(home: Path, split: Split, names: Sequence[str]) -> Arrays:
    """Classes in the order of their sorted WordNet ids, images in the order of their file names."""
    if split == "train":
        folders = [home / "train" / name / "images" for name in names]
        images = [(path, i) for i, folder in enumerate(folders) for path in sorted(folder.glob("*.JPEG"))]
    else:
        lines = (home / "val" / "val_annotations.txt").read_text().splitlines()
        named = sorted(line.split("\t")[:2] for line in lines if line)
        images = [(home / "val" / "images" / name, names.index(wnid)) for name, wnid in named]
    entries = ((str(path), path.read_bytes(), label) for path, label in images)
    return _decode_all(entries, num_images=len(images), size=64)
