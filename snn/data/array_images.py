"""Images in the files that the authors of CIFAR (Python pickles) and SVHN (.mat) publish."""

# N samples, C channels, H height, W width

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.data.image_decoding import Arrays, damaged_file
from snn.data.mat_files import read_mat_arrays


def read_official(
    files: Sequence[Path], *, side: int, num_classes: int, scratch: Path | None = None
) -> Arrays:
    """The images of several files, one after the other.

    Args:
        files: The files, in order.
        side: Height and width of the images.
        num_classes: Number of classes.
        scratch: Not used: these data sets fit into memory.

    Raises:
        ValueError: A file that is corrupt or of another form, or a label out of range; the message names the
            file, and the row of the label.
    """
    parts = [
        _read_mat(file, side, num_classes) if file.suffix == ".mat" else _read_pickle(file, side, num_classes)
        for file in files
    ]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _read_mat(file: Path, side: int, num_classes: int) -> Arrays:
    try:
        content = read_mat_arrays(file, ("X", "y"))
    except ValueError as error:
        raise damaged_file(file, error) from error
    images_HWCN = content["X"]
    if images_HWCN.shape[:-1] != (side, side, 3):
        raise damaged_file(file, f"X should be [{side}, {side}, 3, N], it is {list(images_HWCN.shape)}")
    # The files label the digit zero 10.
    labels = _check_labels(np.ravel(content["y"]), num_classes, file) % 10
    return _check_images(images_HWCN.transpose(3, 2, 0, 1), labels, file), labels


def _read_pickle(file: Path, side: int, num_classes: int) -> Arrays:
    try:
        content = _unpickle_arrays(file.read_bytes())
        data = content["data"].reshape(-1, 3, side, side)
        numbers = np.asarray(content["labels"] if "labels" in content else content["fine_labels"])
    except Exception as error:  # corrupt files raise errors of any kind
        raise damaged_file(file, error) from error
    labels = _check_labels(numbers, num_classes - 1, file)
    return _check_images(data, labels, file), labels


def _unpickle_arrays(content: bytes) -> Any:
    for opcode, argument, _ in pickletools.genops(content):
        # The unpickler would fill the memory up to the largest number under which an object is remembered.
        if "PUT" in opcode.name and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it numbers an object {argument:,}")
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays only, since a pickle could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in {"numpy.core.multiarray", "numpy._core.multiarray"}:
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")


def _check_images(images: NDArray[Any], labels: NDArray[np.int64], file: Path) -> NDArray[np.uint8]:
    if images.dtype != np.uint8 or len(images) != len(labels):
        raise damaged_file(
            file, f"{len(images):,} images of the type {images.dtype} and {len(labels):,} labels"
        )
    return images


def _check_labels(labels: NDArray[Any], largest: int, file: Path) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "iuf":
        raise damaged_file(file, f"its labels are {list(labels.shape)} of the type {labels.dtype}")
    with np.errstate(invalid="ignore"):  # infinity has no remainder, so it is wrong too
        wrong = np.flatnonzero(~((labels >= 0) & (labels <= largest) & (labels % 1 == 0)))
    if len(wrong):
        raise ValueError(
            f"The label of row {wrong[0]} of {file} should be an integer from 0 to {largest}, it is "
            f"{labels[wrong[0]]}. Fetch the file again."
        )
    return labels.astype(np.int64)
