"""Whatever bytes a file of others holds: it is read within bounds or refused with its name, never worse."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from damage_strategies import damaged, examples
from data_files import LABELS, PIXELS, encode, write_parquet
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image
from pyarrow import parquet
from recording_files import WRITERS, write_in_ms
from scipy.io import savemat

from snn.data.camera.recordings import EVENT_DTYPE, FORMS, UnreadableRecording, make_events, read_recording
from snn.data.images import load_images
from snn.data.samples import LabelledSamples, cached_samples, open_samples

FORMS_ON_DISK: dict[str, tuple[str, Callable[[Path], object]]] = WRITERS | {
    "npy_gesture": ("npy", write_in_ms)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of this file."""
    return tmp_path_factory.mktemp("foreign")


def check_recording(path: Path, form: str | None) -> None:
    try:
        events = read_recording(path, form)
    except UnreadableRecording as error:
        assert f"{path.parent.name}/{path.name} (" in str(error) and not str(error).endswith("()")
        return
    assert events.dtype == EVENT_DTYPE and events.ndim == 1
    assert not len(events) or (events["x"].min() >= 0 and events["y"].min() >= 0 and events["p"].max() <= 1)
    assert not len(events) or int(events["t"].max()) - int(events["t"].min()) < 1 << 63


@pytest.mark.parametrize("form", FORMS_ON_DISK)
@given(data=st.data())
@examples(25)
def test_damaged_recording_is_read_within_bounds_or_refused(
    folder: Path, form: str, data: st.DataObject
) -> None:
    suffix, write = FORMS_ON_DISK[form]
    whole = folder / f"whole-{form}.{suffix}"
    if not whole.exists():
        write(whole)
    path = folder / f"damaged.{suffix}"
    path.write_bytes(data.draw(damaged(whole.read_bytes())))
    check_recording(path, form if form in FORMS else None)


@pytest.mark.parametrize("suffix", ["aedat", "aedat4", "raw", "dat", "bin", "npy", "npz", "h5", "mat"])
@given(content=st.binary(max_size=200))
@examples(25)
def test_bytes_of_any_kind_are_read_within_bounds_or_refused(
    folder: Path, suffix: str, content: bytes
) -> None:
    starts = {"aedat": b"#!AER-DAT2.0\r\n", "aedat4": b"#!AER-DAT4.0\r\n", "npy": b"\x93NUMPY\1\0"}
    path = folder / f"any.{suffix}"
    path.write_bytes(starts.get(suffix, b"") + content)
    check_recording(path, None)


COLUMN = st_numpy.arrays(
    st_numpy.scalar_dtypes() | st.just(np.dtype(object)), st_numpy.array_shapes(max_dims=2, max_side=3)
)


@given(x=COLUMN, y=COLUMN, t=COLUMN, p=COLUMN)
@example(*[np.zeros(2, np.float16)] * 4)
@examples(50)
def test_events_of_any_columns_are_within_bounds_or_refused(
    x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray
) -> None:
    try:
        events = make_events(x, y, t, p)
    except ValueError:
        return
    for name, column in {"x": x, "y": y, "t": t}.items():
        assert column.dtype.kind in "iuf"
        assert np.all(events[name] == np.trunc(column.astype(np.longdouble)).ravel())
    assert np.array_equal(events["p"], np.ravel(p) > 0)


def write_batches(root: Path) -> Path:
    content = {"data": PIXELS.transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": LABELS}
    (root / "cifar-10-batches-py").mkdir(parents=True, exist_ok=True)
    path = root / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def write_house_numbers(root: Path) -> Path:
    savemat(root / "test_32x32.mat", {"X": PIXELS.transpose(1, 2, 3, 0), "y": np.array(LABELS)[:, None]})
    return root / "test_32x32.mat"


def write_pictures(root: Path) -> Path:
    write_parquet(root / "test.parquet", range(10))
    return root / "test.parquet"


def write_annotations(root: Path) -> Path:
    home = root / "tiny-imagenet-200"
    (home / "val/images").mkdir(parents=True, exist_ok=True)
    (home / "wnids.txt").write_text("n02\nn01\n")
    Image.new("RGB", (64, 64), (7, 7, 7)).save(home / "val/images/val_0.JPEG")
    (home / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t63\t63\n")
    return home / "val/val_annotations.txt"


def write_classes(root: Path) -> Path:
    return write_annotations(root).parents[1] / "wnids.txt"


IMAGE_FORMS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "pickle": ("cifar10", write_batches),
    "mat": ("svhn", write_house_numbers),
    "parquet": ("cifar10", write_pictures),
    "annotations": ("tiny_imagenet", write_annotations),
    "class list": ("tiny_imagenet", write_classes),
}


def check_images(dataset: str, root: Path, path: Path) -> None:
    try:
        loaded = load_images(dataset, "test", root=root)
    except (ValueError, OSError) as error:
        assert path.name in str(error)
        return
    assert loaded.labels.min() >= 0 and loaded.labels.max() < loaded.num_classes


@pytest.mark.parametrize("form", IMAGE_FORMS)
@given(data=st.data())
@examples(25)
def test_damaged_images_are_read_or_refused_by_name(folder: Path, form: str, data: st.DataObject) -> None:
    dataset, write = IMAGE_FORMS[form]
    root = folder / form
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    path = write(root)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    check_images(dataset, root, path)


PICTURE = encode(PIXELS[0], "PNG")
CELLS = st.one_of(
    st.none(),
    st.binary(max_size=20),
    damaged(PICTURE),
    st.fixed_dictionaries({"bytes": st.none() | st.just(PICTURE) | damaged(PICTURE)}),
    st.fixed_dictionaries({"path": st.text(max_size=3)}),
)
NUMBERS = st.one_of(st.none(), st.integers(-3, 12), st.floats(width=32), st.booleans(), st.text(max_size=3))


@given(image=CELLS, label=NUMBERS | st.lists(NUMBERS, max_size=2), number=st.integers(1, 3))
@examples(100)
def test_parquet_cells_of_any_kind_are_read_or_refused_by_name(
    folder: Path, image: Any, label: Any, number: int
) -> None:
    try:
        table = pa.table({"image": [image] * number, "label": [label] * number})
    except pa.ArrowException:  # no column can hold such a list
        return
    root = folder / "cells"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    parquet.write_table(table, root / "test.parquet")
    check_images("cifar10", root, root / "test.parquet")


@given(content=damaged(PICTURE) | damaged(encode(PIXELS[0], "WEBP")) | damaged(encode(PIXELS[0], "JPEG")))
@examples(100)
def test_damaged_picture_is_decoded_or_refused_by_its_row(folder: Path, content: bytes) -> None:
    root = folder / "picture"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    rows = [{"bytes": PICTURE}, {"bytes": content}]
    parquet.write_table(pa.table({"image": rows, "label": [0, 1]}), root / "test.parquet")
    try:
        load_images("svhn", "test", root=root)
    except ValueError as error:
        assert "row 1 of" in str(error) and "test.parquet" in str(error)


@given(data=st.data())
@examples(100)
def test_damaged_file_of_samples_is_opened_or_refused_by_name(folder: Path, data: st.DataObject) -> None:
    directory = folder / "samples"
    if not directory.exists():
        samples = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
        cached_samples(
            directory, "whole", lambda: LabelledSamples.from_arrays(samples, np.array([0, 1, 1, 0]), "ab")
        )
    path = directory / "damaged.arrow"
    path.write_bytes(data.draw(damaged((directory / "whole.arrow").read_bytes())))
    try:
        opened = open_samples(path)
    except ValueError as error:
        assert "damaged.arrow" in str(error)
        return
    assert len(opened.samples) == len(opened.labels) == len(opened.groups)
    assert opened.labels.min() >= 0 and opened.labels.max() < opened.num_classes
