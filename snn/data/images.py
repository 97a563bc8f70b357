"""Static data sets: digits, CIFAR-10, CIFAR-100, SVHN and Tiny-ImageNet; their augmentation and scaling."""

# N samples, C channels, H height, W width, P = H * W pixels of an image

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snn.data.image_files import TEN_DIGITS, Source, Split, download_files, find_files, missing_files
from snn.data.samples import LabelledSamples, cache_directory, cached_samples, content_key
from snn.data.splits import stratified_split

IMAGE_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "digits": ((0.3051,), (0.3240,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "tiny_imagenet": ((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)),
}
"""Mean and standard deviation of each channel over the training images, of values in [0, 1]."""

_READER_VERSION = 1  # count up when a reader gives other samples for the same files


def load_images(dataset: str, split: Split, *, root: Path, download: bool = False) -> LabelledSamples:
    """Loads one split of a data set as uint8 [N, C, H, W].

    The first call turns the files into one Arrow file (`snn.data.samples`), the next ones map it into memory.
    `digits` ships with scikit-learn (8x8, enlarged to 32x32) and needs no file; its split is ours: a fixed
    stratified 80 % for training. Tiny-ImageNet is tested on its official validation images, as is usual: its
    test images have no labels. The order is the files' own, or that of their sorted names.

    Args:
        dataset: A key of IMAGE_STATISTICS.
        split: The official one, but for the two cases above.
        root: Folder that holds the data set's folder, or is it.
        download: Fetch a missing CIFAR or SVHN into `root`/`dataset` through torchvision.

    Raises:
        FileNotFoundError: Nothing that can be read lies below `root`.
        ValueError: An unknown data set, or a file that is truncated, corrupt or of another form.
        OSError: The download failed, or there is no room for the Arrow file.
    """
    if dataset not in IMAGE_STATISTICS:
        raise ValueError(f"Unknown data set '{dataset}'; choose from: {', '.join(IMAGE_STATISTICS)}.")
    if dataset == "digits":
        return _digits(split)
    source = find_files(dataset, split, root)
    if source is None and download:
        download_files(dataset, split, root)
        source = find_files(dataset, split, root)
    if source is None:
        raise missing_files(dataset, split, root)
    return _load_files(source, f"{dataset}-{split}", root)


def augment_images(
    images_NCHW: Tensor, *, flip: bool, crop_padding: int, cutout: int, generator: torch.Generator
) -> Tensor:
    """Crops, mirrors and blanks each image by itself, at random; call it before `normalise_images`.

    As in the authors' code the crop pads with black, before normalising. Cutout blanks to black as well;
    code that cuts out after normalising blanks to the mean.

    Args:
        images_NCHW: Raw images, uint8 or float, on any device.
        flip: Mirror left to right with probability 1/2.
        crop_padding: Pixels of black added on each side, from which a window of H x W is cut; 0 is off.
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
    places_NHW = rows_NH[:, :, None] * (W + 2 * crop_padding) + columns_NW[:, None, :]
    places_NCP = places_NHW.view(N, 1, H * W).to(device).expand(N, C, H * W)
    padded = functional.pad(images_NCHW, (crop_padding,) * 4).flatten(2)
    cropped = padded.gather(2, places_NCP).view(N, C, H, W)
    if cutout == 0:
        return cropped
    kept_NH = _outside_square(N, H, cutout, generator)
    kept_NW = _outside_square(N, W, cutout, generator)
    kept = (kept_NH[:, None, :, None] | kept_NW[:, None, None, :]).to(device)
    return cropped * kept.to(cropped.dtype)


def normalise_images(images_NCHW: Tensor, dataset: str) -> Tensor:
    """(x / 255 - mean) / std of each channel, as float32 on the images' device.

    Args:
        images_NCHW: uint8 images of the data set, C as in IMAGE_STATISTICS.
        dataset: A key of IMAGE_STATISTICS.
    """
    mean_C11, std_C11 = torch.tensor(IMAGE_STATISTICS[dataset], device=images_NCHW.device)[..., None, None]
    normalised: Tensor = (images_NCHW.float() / 255 - mean_C11) / std_C11
    return normalised


def _outside_square(N: int, length: int, side: int, generator: torch.Generator) -> Tensor:
    """[N, length] bool: whether a row (or column) lies outside the square of each image."""
    start = torch.randint(0, length, (N, 1), generator=generator) - side // 2
    place = torch.arange(length)
    return (place < start) | (place >= start + side)


def _digits(split: Split) -> LabelledSamples:
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    small_NCHW = torch.from_numpy(small.reshape(-1, 1, 8, 8).astype(np.float32))
    # Exact in float32 (16 grey levels, weights of 1/8): the bytes are the same on every machine.
    large = functional.interpolate(small_NCHW, size=(32, 32), mode="bilinear") * (255 / 16)
    chosen = stratified_split(labels, fraction=0.8, seed=0)[0 if split == "train" else 1]
    images = large.round().to(torch.uint8).numpy()[chosen]
    return LabelledSamples.from_arrays(images, labels[chosen].astype(np.int64), TEN_DIGITS)


def _load_files(source: Source, name: str, root: Path) -> LabelledSamples:
    def build() -> LabelledSamples:
        images, labels = source.read()
        return LabelledSamples.from_arrays(images, labels, source.class_names)

    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in source.files]
    key = f"{name}-{content_key(_READER_VERSION, facts)}"
    return cached_samples(cache_directory(root, key), key, build)
