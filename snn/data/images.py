"""Data sets of still images: loading, augmentation and normalisation."""

# N samples, C channels, H height, W width, P = H * W pixels of an image

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from snn.data.image_files import Source, download_files, find_files, missing_files
from snn.data.notes import listed
from snn.data.own_images import find_own_images
from snn.data.samples import LabelledSamples, cache_directory, cached_samples, content_key
from snn.data.splits import stratified_split
from snn.datasets import ImageDataset, Split, look_up_dataset

logger = logging.getLogger(__name__)

_READER_VERSION = 2  # increment when a reader returns other samples for the same files


def load_images(
    dataset: str,
    split: Split,
    *,
    root: Path,
    download: bool = False,
    image_size: int = 32,
    test_fraction: float | None = None,
) -> LabelledSamples:
    """Loads one split of a data set as uint8 [N, C, H, W].

    The first call converts the files into one Arrow file (`snn.data.samples`); later calls map it into
    memory. `digits` ships with scikit-learn (8x8, enlarged to 32x32) and needs no file. Samples are in the
    order of the files, or of their sorted names.

    Args:
        dataset: Name of an image data set in `snn.datasets.DATASETS`.
        split: As the `split` of its entry says.
        root: The folder above the data set's folder, or that folder itself.
        download: Download missing files into `root`/`dataset` through torchvision, if it has the data set.
        image_size: For "images" only: side in pixels to which they are resized and centre-cropped. The notes
            name those that cannot be decoded; they are left out.
        test_fraction: For "images" only: as for `find_own_images`.

    Raises:
        FileNotFoundError: There are no readable files below `root`.
        ValueError: An unknown data set, or a file that is truncated, corrupt or of another form.
        OSError: The download failed, or the disk is too full for the Arrow file.
    """
    entry = look_up_dataset(dataset, ImageDataset)
    if dataset == "digits":
        return _digits(entry, split)
    if dataset == "images":
        return _own_images(entry, split, root, image_size, test_fraction)
    source = find_files(entry, split, root)
    if source is None and download:
        download_files(entry, split, root)
        source = find_files(entry, split, root)
    if source is None:
        raise missing_files(entry, split, root)
    return _load_files(source, f"{dataset}-{split}", root)


def augment_images(
    images_NCHW: Tensor, *, flip: bool, crop_padding: int, cutout: int, generator: torch.Generator
) -> Tensor:
    """Crops, mirrors and blanks each image independently, at random; call it before `normalise_images`.

    As in the authors' code, the crop pads with black before normalisation. Cutout also blanks to black;
    code that applies cutout after normalisation blanks to the mean.

    Args:
        images_NCHW: Raw images, uint8 or float, on any device.
        flip: Mirror left to right with probability 1/2.
        crop_padding: Pixels of black added on each side before a window of H x W is cut out; 0 is off.
        cutout: Side in pixels of a black square whose centre lies anywhere in the image; 0 is off.
        generator: On the CPU, so that the draws do not depend on the device.

    Returns:
        New images of the same shape, type and device.
    """
    N, C, H, W = images_NCHW.shape
    device = images_NCHW.device
    shift = torch.randint(0, 2 * crop_padding + 1, (2, N, 1), generator=generator)
    mirror = torch.rand(N, 1, generator=generator) < (0.5 if flip else 0.0)
    rows_NH = shift[0] + torch.arange(H)
    columns_NW = shift[1] + torch.where(mirror, torch.arange(W - 1, -1, -1), torch.arange(W))
    source_NHW = rows_NH[:, :, None] * (W + 2 * crop_padding) + columns_NW[:, None, :]
    source_NCP = source_NHW.view(N, 1, H * W).to(device).expand(N, C, H * W)
    padded = functional.pad(images_NCHW, (crop_padding,) * 4).flatten(2)
    cropped = padded.gather(2, source_NCP).view(N, C, H, W)
    if cutout == 0:
        return cropped
    outside_NH = _outside_square(N, H, cutout, generator)
    outside_NW = _outside_square(N, W, cutout, generator)
    mask = (outside_NH[:, None, :, None] | outside_NW[:, None, None, :]).to(device)
    return cropped * mask.to(cropped.dtype)


def normalise_images(images_NCHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std of each channel, as float32 on the images' device.

    Args:
        images_NCHW: uint8 images.
        mean: Of each channel, of values in [0, 1].
        std: Standard deviation of each channel, likewise.
    """
    mean_C11, std_C11 = torch.tensor([mean, std], device=images_NCHW.device)[..., None, None]
    normalised: Tensor = (images_NCHW.float() / 255 - mean_C11) / std_C11
    return normalised


def _outside_square(N: int, length: int, side: int, generator: torch.Generator) -> Tensor:
    """[N, length] bool: whether a row (or column) lies outside the square of each image."""
    start = torch.randint(0, length, (N, 1), generator=generator) - side // 2
    index = torch.arange(length)
    return (index < start) | (index >= start + side)


def _digits(entry: ImageDataset, split: Split) -> LabelledSamples:
    small, labels = _scikit_learns_digits()
    small_NCHW = torch.from_numpy(small.reshape(-1, 1, 8, 8).astype(np.float32))
    # Exact in float32 (16 grey levels, weights of 1/8): the bytes are the same on every machine.
    large = functional.interpolate(small_NCHW, size=(32, 32), mode="bilinear") * (255 / 16)
    chosen = stratified_split(labels, fraction=0.8, seed=0)[0 if split == "train" else 1]
    images = large.round().to(torch.uint8).numpy()[chosen]
    return LabelledSamples.from_arrays(images, labels[chosen].astype(np.int64), entry.class_names or ())


def _scikit_learns_digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixels [n, 64] and labels [n]; from the package's file, as importing the package takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, np.uint8, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def _own_images(
    entry: ImageDataset, split: Split, root: Path, side: int, test_fraction: float | None
) -> LabelledSamples:
    source = find_own_images(split, root, test_fraction)
    if source is None:
        raise missing_files(entry, split, root)

    def build() -> LabelledSamples:
        unreadable: list[str] = []
        images, labels = source.read(side=side, scratch=directory, unreadable=unreadable)
        notes = [f"Split: {entry.split}."]
        if unreadable:
            num_files = len(images) + len(unreadable)
            notes.append(
                f"{len(unreadable):,} of {num_files:,} images could not be decoded and were left out: "
                f"{listed(unreadable)}"
            )
            logger.warning("%s: %s", root, notes[-1])
        if not len(images):
            raise ValueError(f"None of the images of {root} can be decoded: {listed(unreadable)}")
        return LabelledSamples.from_arrays(images, labels, source.class_names, notes=notes)

    key = f"images-{split}-{content_key(_READER_VERSION, side, source.identity, source.class_names)}"
    directory = cache_directory(root, key)
    return cached_samples(directory, key, build)


def _load_files(source: Source, name: str, root: Path) -> LabelledSamples:
    def build() -> LabelledSamples:
        images, labels = source.read(scratch=directory)
        return LabelledSamples.from_arrays(images, labels, source.class_names)

    absent = [path for path in source.files if not path.is_file() and not path.is_dir()]
    if absent:
        raise FileNotFoundError(f"{absent[0]} is missing, a dangling link or no file. Fetch it again.")
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in source.files]
    key = f"{name}-{content_key(_READER_VERSION, facts)}"
    directory = cache_directory(root, key)
    return cached_samples(directory, key, build)
