"""Somebody's own images: folders and parquet files, split, fitted and measured; broken ones are named."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from pipeline.config.tree import Config, DataConfig, NetworkConfig
from pipeline.data import RunData, load_data
from snn.data.images import load_images
from snn.data.samples import LabelledSamples

RNG = np.random.default_rng(0)
CLASSES = ("cat", "dog", "eel")


def picture(size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def write_folders(home: Path, number: int, classes: tuple[str, ...] = CLASSES) -> None:
    for name in classes:
        (home / name).mkdir(parents=True)
        for i in range(number):
            picture((40 + i, 30)).save(
                home / name / f"{i}.{'png' if i % 2 else 'JPG'}", "PNG" if i % 2 else "JPEG"
            )


def load(root: Path, split: str, **options: object) -> LabelledSamples:
    return load_images("images", split, root=root, **options)  # type: ignore[arg-type]


def test_folders_are_read_fitted_and_labelled(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", 4)
    write_folders(tmp_path / "val", 2, ("cat", "eel"))
    train, test = (load(tmp_path, split, image_size=16) for split in ("train", "test"))
    assert train.samples.shape == (12, 3, 16, 16) and train.class_names == test.class_names == CLASSES
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and test.labels.tolist() == [0, 0, 2, 2]
    one = Image.open(tmp_path / "train/cat/1.png").convert("RGB")
    whole = np.asarray(one.resize((21, 16), Image.Resampling.BILINEAR, box=(0, 0, 41, 30)))
    assert (
        abs(train.samples[1].transpose(1, 2, 0).astype(int) - whole[:, 2:18]).mean() < 30
    )  # about the middle


def test_image_of_the_size_is_kept_as_it_is(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        image = picture((32, 32))
        image.save(tmp_path / split / "a" / "0.png")
    assert np.array_equal(load(tmp_path, "test").samples[0].transpose(1, 2, 0), np.asarray(image))


def test_one_folder_is_split_by_class_without_overlap(tmp_path: Path) -> None:
    write_folders(tmp_path / "images", 10)
    train, test = (load(tmp_path, split, test_fraction=0.3) for split in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [7] * 3 and np.bincount(test.labels).tolist() == [3] * 3
    seen = {image.tobytes() for image in train.samples}
    assert not seen & {image.tobytes() for image in test.samples} and len(seen) == 21


def test_missing_split_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train/<class>"):
        load(tmp_path, "train")
    write_folders(tmp_path / "train", 2)
    with pytest.raises(ValueError, match=r"has no folder test or val beside train.*--data\.test-fraction"):
        load(tmp_path, "train")
    write_folders(tmp_path / "test", 2, ("cat", "fox"))
    with pytest.raises(ValueError, match=r"classes that .*train does not have: fox"):
        load(tmp_path, "test")
    with pytest.raises(ValueError, match=r"test is the test split: leave --data\.test-fraction out"):
        load(tmp_path, "train", test_fraction=0.2)


def test_broken_images_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folders(tmp_path / "train", 4)
    write_folders(tmp_path / "test", 2)
    whole = load(tmp_path, "train")
    (tmp_path / "train/dog/1.png").write_bytes((tmp_path / "train/dog/1.png").read_bytes()[:100])
    (tmp_path / "train/eel/0.JPG").write_text("no image")
    broken = load(tmp_path, "train")
    kept = [i for i in range(12) if i not in (5, 8)]
    assert np.array_equal(broken.samples, whole.samples[kept])
    assert broken.labels.tolist() == whole.labels[kept].tolist()
    assert "2 of 12 images could not be decoded" in broken.notes[1]
    assert "dog/1.png" in broken.notes[1] and "eel/0.JPG" in broken.notes[1] and "eel/0.JPG" in caplog.text


def test_changed_image_is_read_again(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", 2)
    write_folders(tmp_path / "test", 2)
    before = load(tmp_path, "train")
    picture().save(tmp_path / "train/cat/1.png")
    assert load(tmp_path, "train").fingerprint != before.fingerprint


def write_parquet(file: Path, labels: list[int], *, names: list[str] | None = None) -> None:
    def encoded() -> dict[str, bytes]:
        buffer = io.BytesIO()
        picture().save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": ""}

    columns = {"id": [f"{i}" for i in labels], "photo": [encoded() for _ in labels], "kind": labels}
    table = pa.table(columns)
    if names is not None:
        facts = {"info": {"features": {"kind": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(facts)})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, file)


def test_parquet_of_any_name_is_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data/mine-train-0.parquet", [0, 2, 1], names=list(CLASSES))
    write_parquet(tmp_path / "data/mine-validation.parquet", [2, 2])
    train, test = (load(tmp_path, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == CLASSES and train.labels.tolist() == [0, 2, 1]
    assert test.labels.tolist() == [2, 2] and test.samples.shape == (2, 3, 32, 32)
    write_parquet(tmp_path / "data/mine-train-0.parquet", [0, 1, 1])
    assert load(tmp_path, "train").class_names == ("0", "1")


def run_data(root: Path) -> RunData:
    return load_data(
        Config(data=DataConfig(dataset="images", root=root, test_fraction=0.2), network=NetworkConfig())
    )


def test_normalisation_is_measured_on_d_train(tmp_path: Path) -> None:
    write_folders(tmp_path / "images", 10)
    data = run_data(tmp_path)
    mean, std = data.normalisation
    chosen = data.train.samples[data.supernet_train().indices] / 255
    assert mean == pytest.approx(chosen.mean((0, 2, 3))) and std == pytest.approx(chosen.std((0, 2, 3)))
    inputs, _ = next(data.supernet_train().batches(1000, "cpu"))  # type: ignore[arg-type]
    assert inputs.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert inputs.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-3)
