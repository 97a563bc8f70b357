"""Encoded images and their labels as arrays; what is wrong is named by file, row and reason."""

# N samples, C channels, H height, W width

from __future__ import annotations

import errno
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [N, C, H, W] and labels [N]."""

Entry = tuple[str, Path | IO[bytes], Any]
"""Where an image comes from, such as "row 3 of FILE", the encoded image, its label."""

_SHARD = 256  # images that a thread decodes in one go
_LARGEST_IN_MEMORY = 256 << 20  # bytes of decoded images; more of them go to a file
_KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # to read EPS, Pillow would start a program


def decode_images(
    entries: Iterable[Entry],
    *,
    num_images: int,
    side: int,
    num_classes: int,
    source: Path,
    scratch: Path,
    unreadable: list[str] | None = None,
) -> Arrays:
    """Decodes images, shard by shard on all CPUs; on a terminal, shows progress if it takes over two seconds.

    What does not fit well into memory is decoded into a file without a name, which the result maps.

    Args:
        entries: Each image and its label.
        num_images: How many there should be.
        side: Their height and width.
        num_classes: Labels are integers below it.
        source: File or folder for messages on their number.
        scratch: Folder of that file.
        unreadable: If given, images of any size are resized and centre-cropped; those that cannot be decoded
            are left out, and the reasons added here in their order.

    Raises:
        ValueError: An image that cannot be decoded or has another size, a label that is none, or another
            number of images.
        OSError: The disk of `scratch` is too full.
    """
    from PIL import Image
    from tqdm import tqdm

    if num_images == 0:
        raise ValueError(f"{source} holds no image. Fetch it again.")
    try:
        images, labels = _space((num_images, 3, side, side), scratch), np.empty(num_images, np.int64)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"{source} is said to hold {num_images:,} images ({error}). Fetch it again."
        ) from error

    failed: dict[int, str] = {}

    def decode(first: int, shard: Sequence[Entry]) -> None:
        for number, (origin, encoded, label) in enumerate(shard, first):
            try:
                images[number] = _decode(encoded, side, origin, fit=unreadable is not None)
            except ValueError as error:
                if unreadable is None:
                    raise
                failed[number] = str(error)
            labels[number] = check_label(label, num_classes, origin)

    num_read, num_threads = 0, os.cpu_count() or 1
    shards = tqdm(entries, "Decoding images", num_images, delay=2, leave=False, disable=None)
    remaining, running = iter(shards), deque[Future[None]]()
    with warnings.catch_warnings(), ThreadPoolExecutor(num_threads, "decode") as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked here
        try:
            while shard := list(islice(remaining, _SHARD)):
                if num_read + len(shard) <= num_images:
                    running.append(pool.submit(decode, num_read, shard))
                num_read += len(shard)
                if len(running) > 2 * num_threads:
                    running.popleft().result()  # the first error, whichever thread is first to meet one
            while running:
                running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
    if num_read != num_images:
        raise ValueError(
            f"{source} should hold {num_images:,} images, it holds {num_read:,}. Fetch it again."
        )
    if unreadable is not None:
        unreadable += [failed[number] for number in sorted(failed)]
    return _without(failed, images), _without(failed, labels)


def _without(failed: Container[int], values: NDArray[Any]) -> NDArray[Any]:
    """The other values, moved up in place."""
    end = 0
    for number in range(len(values)):
        if number not in failed:
            if end < number:
                values[end] = values[number]
            end += 1
    return values[:end]


def _space(shape: tuple[int, ...], scratch: Path) -> NDArray[np.uint8]:
    """Room for images: in memory, or in a file of its own if they are many."""
    num_bytes = int(np.prod(shape, dtype=object))
    if num_bytes <= _LARGEST_IN_MEMORY:
        return np.empty(shape, np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        except OSError as error:
            raise OSError(
                error.errno or errno.ENOSPC,
                f"Too little space to decode {shape[0]:,} images: twice {num_bytes / 2**20:,.0f} MiB are "
                "needed while they are stored. Free some space, or set --data.root to a larger disk",
                str(scratch),
            ) from error
        return np.memmap(file, np.uint8, "r+", shape=shape)


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """The image resized and centre-cropped; itself if it has this size."""
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def check_label(value: Any, num_classes: int, origin: str) -> int:
    """The label as an integer.

    Raises:
        ValueError: It is none in [0, `num_classes`).
    """
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if type(whole) is not int or not 0 <= whole < num_classes:
        raise ValueError(
            f"The label of {origin} should be an integer from 0 to {num_classes - 1}, it is {value!r}. "
            f"Fetch the file again."
        )
    return whole


def damaged_file(file: Path, error: Exception | str) -> ValueError:
    """The error for a file that its reader cannot make sense of."""
    return ValueError(f"{file} is truncated or corrupt ({error}). Fetch it again.")


def _decode(encoded: Path | IO[bytes], side: int, origin: str, *, fit: bool) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        if isinstance(encoded, Path) and not encoded.is_file():  # opening a pipe would wait for ever
            raise FileNotFoundError("there is no such file")
        with Image.open(encoded, formats=_KINDS) as image:
            size, pixels_HWC = image.size, None
            if size == (side, side):  # known from the header: a larger one is not decoded
                pixels_HWC = np.asarray(image.convert("RGB"))
            elif fit:
                pixels_HWC = np.asarray(fitted(image.convert("RGB"), side, side))
    except Exception as error:  # Pillow raises errors of any kind for broken images
        raise ValueError(f"The image of {origin} cannot be decoded ({error}). Fetch it again.") from error
    if pixels_HWC is None:
        raise ValueError(f"The image of {origin} should be {side}x{side}, it is {size[0]}x{size[1]}.")
    return pixels_HWC.transpose(2, 0, 1)
