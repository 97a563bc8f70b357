"""What cannot be read in files of images is named: file, row, reason; a bomb is not unpacked."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import tracemalloc
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from data_files import LABELS, PIXELS, encode, write_pickle
from PIL import Image
from pyarrow import parquet
from scipy.io import savemat

from snn.data import image_decoding
from snn.data.images import load_images

PICTURE = encode(PIXELS[0], "PNG")


def png_of(width: int, height: int) -> bytes:
    """A black picture, valid to its last byte, whatever its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + -(-width // 8))) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_table(root: Path, images: Any, labels: Any) -> Path:
    path = root / "test.parquet"
    parquet.write_table(pa.table({"image": images, "label": labels}), path)
    return path


def message(dataset: str, root: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_images(dataset, "test", root=root)
    return str(caught.value)


@pytest.mark.parametrize("side", [33, 13_000, 20_000])
def test_picture_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = write_table(tmp_path, [{"bytes": PICTURE}, {"bytes": png_of(side, side)}], [0, 1])
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = message("cifar10", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"row 1 of {path} " in text
    assert f"should be 32x32, it is {side}x{side}" in text or "decompression bomb" in text
    assert peak < 20 << 20


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([{"bytes": PICTURE}, None], "The image of row 1 of FILE should be bytes, it is null"),
        ([{"bytes": PICTURE}, {"bytes": None}], "The image of row 1 of FILE should be bytes, it is null"),
        ([{"bytes": PICTURE}, {"bytes": b""}], "The image of row 1 of FILE cannot be decoded"),
        ([{"bytes": "text"}] * 2, "The image of row 0 of FILE should be bytes, it is str"),
        (
            [{"path": "a.png"}] * 2,
            "Column image of FILE should hold structs with bytes, it holds struct<path",
        ),
        ([PICTURE] * 2, "Column image of FILE should hold structs with bytes, it holds binary"),
        ([None, None], "Column image of FILE should hold structs with bytes, it holds null"),
        ([{"bytes": bytes(3 << 20)}] * 2, "The encoded images of FILE take 3 MiB each"),
    ],
)
def test_cell_that_is_no_image_is_named(tmp_path: Path, images: list[Any], reason: str) -> None:
    path = tmp_path / "test.parquet"
    table = pa.table({"image": images, "label": [0, 1]})
    parquet.write_table(table, path, use_dictionary=False, compression="none")
    assert reason.replace("FILE", str(path)) in message("svhn", tmp_path)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, None], "The label of row 1 of FILE should be an integer from 0 to 9, it is None"),
        ([0, 10], "The label of row 1 of FILE should be an integer from 0 to 9, it is 10"),
        ([-1, 0], "The label of row 0 of FILE should be an integer from 0 to 9, it is -1"),
        ([0.0, 0.5], "The label of row 1 of FILE should be an integer from 0 to 9, it is 0.5"),
        ([0.0, float("nan")], "The label of row 1 of FILE should be an integer from 0 to 9, it is nan"),
        ([[0], [1]], "Column label of FILE should hold integers, it holds list<element: int64>"),
        (["0", "1"], "Column label of FILE should hold integers, it holds string"),
        ([True, False], "Column label of FILE should hold integers, it holds bool"),
    ],
)
def test_cell_that_is_no_label_is_named(tmp_path: Path, labels: list[Any], reason: str) -> None:
    path = write_table(tmp_path, [{"bytes": PICTURE}] * 2, labels)
    assert reason.replace("FILE", str(path)) in message("cifar10", tmp_path)


def test_whole_numbers_in_a_column_of_floats_are_labels(tmp_path: Path) -> None:
    write_table(tmp_path, [{"bytes": PICTURE}] * 2, [3.0, 9.0])
    assert load_images("cifar10", "test", root=tmp_path).labels.tolist() == [3, 9]


def test_parquet_file_without_a_row_is_named(tmp_path: Path) -> None:
    images = pa.array([], pa.struct([("bytes", pa.binary())]))
    path = write_table(tmp_path, images, pa.array([], pa.int64()))
    assert message("cifar10", tmp_path) == f"{path} holds no image. Fetch it again."


def write_mat(path: Path, images: np.ndarray, labels: Sequence[Any] | np.ndarray) -> None:
    savemat(path, {"X": images, "y": np.array(labels)[:, None]}, do_compression=True)


IMAGES_HWCN = PIXELS.transpose(1, 2, 3, 0)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (
            IMAGES_HWCN,
            [11, *LABELS[1:]],
            "The label of row 0 of FILE should be an integer from 0 to 10, it is 11",
        ),
        (
            IMAGES_HWCN,
            [0.5, *LABELS[1:]],
            "The label of row 0 of FILE should be an integer from 0 to 10, it is 0.5",
        ),
        (IMAGES_HWCN, LABELS[1:], "FILE is truncated or corrupt (10 images of the type uint8 and 9 labels)"),
        (IMAGES_HWCN[:16], LABELS, "(X should be [32, 32, 3, N], it is [16, 32, 3, 10])"),
        (IMAGES_HWCN / 2, LABELS, "(10 images of the type float64 and 10 labels)"),
        (np.zeros((32, 32, 3, 60_000), np.uint8), LABELS, "expand to more than 64 MiB"),
        (PIXELS, [1j] * 10, "FILE is truncated or corrupt (y should be an array of real numbers)"),
    ],
)
def test_matlab_file_with_other_images_or_labels_is_named(
    tmp_path: Path, images: np.ndarray, labels: list[Any], reason: str
) -> None:
    write_mat(tmp_path / "test_32x32.mat", images, labels)
    assert reason.replace("FILE", str(tmp_path / "test_32x32.mat")) in message("svhn", tmp_path)


PLANES = PIXELS.transpose(0, 3, 1, 2).reshape(-1, 3072)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            {"data": PLANES, "labels": [10, *LABELS[1:]]},
            "The label of row 0 of FILE should be an integer from 0 to 9",
        ),
        (
            {"data": PLANES, "labels": [0.5] * 10},
            "The label of row 0 of FILE should be an integer from 0 to 9",
        ),
        (
            {"data": PLANES, "labels": ["a"] * 10},
            "FILE is truncated or corrupt (its labels are [10] of the type <U1)",
        ),
        ({"data": PLANES, "labels": LABELS[:9]}, "(10 images of the type uint8 and 9 labels)"),
        ({"data": PLANES / 2, "labels": LABELS}, "(10 images of the type float64 and 10 labels)"),
        ({"data": PLANES[:, 1:], "labels": LABELS}, "cannot reshape array of size 30710"),
        ({"data": PLANES}, "FILE is truncated or corrupt ('fine_labels')"),
        ([1, 2], "FILE is truncated or corrupt ("),
    ],
)
def test_pickle_with_other_images_or_labels_is_named(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps(content, protocol=2))
    assert reason.replace("FILE", str(path)) in message("cifar10", tmp_path)


def test_pickle_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """One flipped bit in the number of an object made the unpickler reserve 32 GiB."""
    write_pickle(tmp_path / "cifar-10-batches-py/test_batch", data=PLANES, labels=LABELS)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"}r\xff\xff\xff\x7f0" + content[2:])
    assert "test_batch is truncated or corrupt (it numbers an object 2,147,483,647)" in message(
        "cifar10", tmp_path
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny-ImageNet with two classes and one validation image."""
    home = tmp_path / "tiny-imagenet-200"
    for folder in ("val/images", "train/n01/images", "train/n02/images"):
        (home / folder).mkdir(parents=True)
    (home / "wnids.txt").write_text("n02\nn01\n")
    Image.new("RGB", (64, 64), (7, 7, 7)).save(home / "val/images/val_0.JPEG")
    (home / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t63\t63\n")
    return home


def test_many_images_are_decoded_into_a_file(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, on several threads, put each image and label into its place."""
    shades = {f"n0{1 + i % 2}/images/{i:03d}.JPEG": 5 * i for i in range(40)}
    for name, shade in shades.items():
        Image.new("RGB", (64, 64), (shade, 255 - shade, 0)).save(tiny / "train" / name, quality=95)
    in_memory = load_images("tiny_imagenet", "train", root=tmp_path)
    shutil.rmtree(tmp_path / "snn-cache")
    monkeypatch.setattr(image_decoding, "_LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(image_decoding, "_SHARD", 3)
    in_file = load_images("tiny_imagenet", "train", root=tmp_path)
    assert in_file.fingerprint == in_memory.fingerprint
    found = in_file.samples[:, 0, 32, 32].astype(int)
    assert np.abs(found - [shades[name] for name in sorted(shades)]).max() <= 2
    assert in_file.labels.tolist() == [0] * 20 + [1] * 20
    assert [path.suffix for path in (tmp_path / "snn-cache").iterdir()].count(".arrow") == 1


def test_disk_without_room_for_decoded_images_is_named(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image_decoding, "_LARGEST_IN_MEMORY", 1000)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="Too little space to decode 1 images: twice 0 MiB") as caught:
        load_images("tiny_imagenet", "test", root=tmp_path)
    assert caught.value.errno == errno.ENOSPC and str(tmp_path) in str(caught.value.filename)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "val_0.JPEG\tn03\n",
            "Row 0 of FILE should be an image, a tab and a class of wnids.txt, it is 'val_0",
        ),
        ("val_0.JPEG\tn02\n\nval_1.JPEG", "Row 2 of FILE should be an image, a tab and a class of wnids.txt"),
        ("../../secret.JPEG\tn02\n", "Row 0 of FILE should be an image"),
        (
            "val_9.JPEG\tn02\n",
            "val_9.JPEG (row 0 of val_annotations.txt) cannot be decoded (there is no such file)",
        ),
        ("\xff\t\n", "Row 0 of FILE should be an image"),
        ("", "FILE holds no image"),
    ],
)
def test_row_of_annotations_that_is_wrong_is_named(
    tmp_path: Path, tiny: Path, text: str, reason: str
) -> None:
    path = tiny / "val/val_annotations.txt"
    path.write_text(text, encoding="latin1")
    assert reason.replace("FILE", str(path)) in message("tiny_imagenet", tmp_path)


@pytest.mark.parametrize("text", ["n01 n01", "", "n01 ../x", "n01\0 n02", "n01 \xff"])
def test_list_of_classes_that_is_wrong_is_named(tmp_path: Path, tiny: Path, text: str) -> None:
    (tiny / "wnids.txt").write_text(text, encoding="latin1")
    assert f"{tiny / 'wnids.txt'} should list different WordNet ids" in message("tiny_imagenet", tmp_path)


def test_missing_folder_and_what_is_no_file_are_named(tmp_path: Path, tiny: Path) -> None:
    (tiny / "train/n02/images").rmdir()
    with pytest.raises(FileNotFoundError, match=r"n02/images is missing, a dangling link or no file"):
        load_images("tiny_imagenet", "train", root=tmp_path)
    os.mkfifo(tmp_path / "test.parquet")
    with pytest.raises(FileNotFoundError, match=r"test\.parquet is missing, a dangling link or no file"):
        load_images("cifar10", "test", root=tmp_path)
    (tiny / "val/images/val_0.JPEG").unlink()
    os.mkfifo(tiny / "val/images/val_0.JPEG")
    assert "there is no such file" in message("tiny_imagenet", tmp_path)
