"""Image data sets in every published form; augmentation and normalisation of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_files import BATCH, LABELS, PIXELS, encode, write_parquet, write_pickle
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

from snn.data import images
from snn.data.images import augment_images, load_images, normalise_images
from snn.datasets import DATASETS, ImageDataset, look_up_dataset


def planes(rows: slice = slice(None)) -> np.ndarray:
    """Images as the CIFAR files hold them: [n, 3072], all red first."""
    return PIXELS[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("dataset", "place", "image", "label"),
    [
        ("cifar10", "cifar10/train-00000-of-00001.parquet", "img", "label"),
        ("cifar10", "cifar10-train.parquet", "image", "label"),
        ("cifar10", "CIFAR-10/plain_text/train/0000.parquet", "img", "label"),
        ("cifar100", "cifar100/data/train-00000-of-00001.parquet", "img", "fine_label"),
        ("svhn", "svhn/cropped_digits/train-00000-of-00001.parquet", "image", "label"),
    ],
)
def test_parquet_files_are_read_exactly(
    tmp_path: Path, dataset: str, place: str, image: str, label: str
) -> None:
    write_parquet(tmp_path / place, range(10), image=image, label=label)
    data = load_images(dataset, "train", root=tmp_path)
    assert torch.equal(torch.tensor(data.samples), BATCH)
    assert data.labels.tolist() == LABELS
    assert data.groups.tolist() == list(range(10))
    assert data.num_classes == (100 if dataset == "cifar100" else 10)


def test_second_load_maps_the_same_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar10/train-00000-of-00001.parquet", range(10))
    first, second = (load_images("cifar10", "train", root=tmp_path) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert not second.samples.flags.writeable
    assert len(list((tmp_path / "snn-cache").glob("cifar10-train-*.arrow"))) == 1


def test_changed_source_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "cifar10/train-00000-of-00001.parquet"
    write_parquet(path, range(10))
    assert len(load_images("cifar10", "train", root=tmp_path)) == 10
    write_parquet(path, range(7))
    assert len(load_images("cifar10", "train", root=tmp_path)) == 7


def test_order_does_not_depend_on_the_directory_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, rows in enumerate([(0, 1, 2), (3, 4), (5, 6, 7), (8, 9)]):
        write_parquet(tmp_path / f"cifar10/train-0000{part}-of-00004.parquet", rows)
    plain_glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *args: reversed(sorted(plain_glob(*args))))
    assert load_images("cifar10", "train", root=tmp_path).labels.tolist() == LABELS


def test_files_of_another_data_set_below_the_same_root_are_not_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar10/train-00000-of-00001.parquet", range(10))
    for other in ("svhn", "cifar100"):
        with pytest.raises(FileNotFoundError, match=f"No train images of {other}"):
            load_images(other, "train", root=tmp_path)


def test_missing_parquet_part_is_detected(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar10/train-00000-of-00002.parquet", range(5))
    with pytest.raises(ValueError, match="should hold 2 files"):
        load_images("cifar10", "train", root=tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_error_for_a_truncated_parquet_file_names_it(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "cifar10/test-00000-of-00001.parquet"
    write_parquet(path, range(10))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match=r"test-00000-of-00001\.parquet is truncated or corrupt"):
        load_images("cifar10", "test", root=tmp_path)


def test_error_for_an_undecodable_image_names_it(tmp_path: Path) -> None:
    rows = [{"bytes": encode(PIXELS[0], "PNG"), "path": ""}, {"bytes": b"no image", "path": ""}]
    (tmp_path / "svhn").mkdir()
    parquet.write_table(pa.table({"image": rows, "label": [0, 1]}), tmp_path / "svhn/test.parquet")
    with pytest.raises(ValueError, match=r"row 1 of .*test\.parquet cannot be decoded"):
        load_images("svhn", "test", root=tmp_path)


def test_parquet_with_other_columns_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "cifar100/train.parquet", range(3), label="coarse_label")
    with pytest.raises(ValueError, match="fine_label, it has img, coarse_label"):
        load_images("cifar100", "train", root=tmp_path)


def test_official_cifar10_batches_are_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10/cifar-10-batches-py"
    for i in range(5):
        rows = slice(2 * i, 2 * i + 2)
        write_pickle(folder / f"data_batch_{i + 1}", data=planes(rows), labels=LABELS[rows])
    write_pickle(folder / "test_batch", data=planes()[:3], labels=LABELS[:3])
    data = load_images("cifar10", "train", root=tmp_path)
    assert np.array_equal(data.samples, BATCH.numpy())
    assert data.labels.tolist() == LABELS
    assert len(load_images("cifar10", "test", root=tmp_path)) == 3


def test_official_cifar100_uses_the_fine_labels(tmp_path: Path) -> None:
    content = {"data": planes(), "fine_labels": [10 * label for label in LABELS], "coarse_labels": [0] * 10}
    write_pickle(tmp_path / "cifar-100-python/train", **content)
    data = load_images("cifar100", "train", root=tmp_path)
    assert data.labels.tolist() == [10 * label for label in LABELS]
    assert np.array_equal(data.samples, BATCH.numpy())


def test_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    write_pickle(tmp_path / "cifar-10-batches-py/test_batch", data=print, labels=[0])
    with pytest.raises(ValueError, match=r"test_batch is truncated or corrupt .*print, which is not an"):
        load_images("cifar10", "test", root=tmp_path)


def test_label_ten_of_official_svhn_is_the_digit_zero(tmp_path: Path) -> None:
    from scipy.io import savemat

    labels = np.array([label or 10 for label in LABELS], np.uint8)[:, None]
    savemat(tmp_path / "train_32x32.mat", {"X": PIXELS.transpose(1, 2, 3, 0), "y": labels})
    data = load_images("svhn", "train", root=tmp_path)
    assert np.array_equal(data.samples, BATCH.numpy())
    assert data.labels.tolist() == LABELS


def test_tiny_imagenet_is_read_from_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "tiny-imagenet-200"
    for wnid, grey in (("n02", 200), ("n01", 100)):
        folder = home / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in (1, 0):
            Image.new("L", (64, 64), grey + i).save(folder / f"{wnid}_{i}.JPEG")
    (home / "wnids.txt").write_text("n02\nn01\n")
    (home / "val/images").mkdir(parents=True)
    Image.new("RGB", (64, 64), (7, 7, 7)).save(home / "val/images/val_0.JPEG")
    (home / "val/val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t63\t63\n")
    train, test = (load_images("tiny_imagenet", split, root=tmp_path) for split in ("train", "test"))
    assert train.samples.shape == (4, 3, 64, 64)
    assert train.class_names == ("n01", "n02")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.samples[:, 0, 0, 0].tolist() == [100, 101, 200, 201]
    assert (test.labels.tolist(), int(test.samples.max())) == ([1], 7)


def test_error_for_missing_data_names_folders_files_and_remedies(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_images("cifar10", "train", root=tmp_path / "nowhere")
    for words in (str(tmp_path / "nowhere/cifar10"), "parquet", "cifar-10-batches-py", "--data.root"):
        assert words in str(caught.value)
    assert "--data.download" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="CS231n"):
        load_images("tiny_imagenet", "train", root=tmp_path, download=True)


def test_missing_split_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(folder: str, *, train: bool, download: bool) -> None:
        calls.append((train, download))
        if train:
            raise RuntimeError("no network")
        write_pickle(Path(folder) / "cifar-10-batches-py/test_batch", data=planes(), labels=LABELS)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fetch)
    for _ in range(2):
        assert len(load_images("cifar10", "test", root=tmp_path / "new", download=True)) == 10
    assert calls == [(False, True)]
    with pytest.raises(OSError, match=r"download of cifar10 into .* failed \(no network\)"):
        load_images("cifar10", "train", root=tmp_path / "new", download=True)


def test_error_for_an_unknown_data_set_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.dataset must be one of digits, cifar10.*, got 'mnist'"):
        load_images("mnist", "train", root=tmp_path)
    with pytest.raises(ValueError, match="got 'nmnist'"):  # a data set, but not of images
        load_images("nmnist", "train", root=tmp_path)


def test_digits_need_no_folder_and_are_split_by_class(tmp_path: Path) -> None:
    train, test = (load_images("digits", split, root=tmp_path / "none") for split in ("train", "test"))
    assert train.samples.shape[1:] == test.samples.shape[1:] == (1, 32, 32)
    assert len(train) + len(test) == 1797
    assert set(train.labels) == set(test.labels) == set(range(10))
    entry = look_up_dataset("digits", ImageDataset)
    assert len(train) == entry.num_train
    assert train.samples.mean() / 255 == pytest.approx(entry.mean[0], abs=1e-4)
    assert train.samples.std() / 255 == pytest.approx(entry.std[0], abs=1e-4)
    assert train.fingerprint.startswith("19aaccefc05576c5")  # the same bytes on every machine
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmentation_preserves_shape_type_and_input(dtype: torch.dtype) -> None:
    images = BATCH.to(dtype)[:, :, :20]  # not square
    before = images.clone()
    augmented = augment_images(images, flip=True, crop_padding=4, cutout=8, generator=seeded())
    assert (augmented.shape, augmented.dtype) == (images.shape, images.dtype)
    assert torch.equal(images, before)


def test_augmentation_depends_only_on_its_generator() -> None:
    settings: dict[str, Any] = {"flip": True, "crop_padding": 4, "cutout": 8}
    one = augment_images(BATCH, generator=seeded(1), **settings)
    torch.manual_seed(123)
    assert torch.equal(one, augment_images(BATCH, generator=seeded(1), **settings))
    assert not torch.equal(one, augment_images(BATCH, generator=seeded(2), **settings))


def test_disabled_augmentation_changes_nothing() -> None:
    same = augment_images(BATCH, flip=False, crop_padding=0, cutout=0, generator=seeded())
    assert torch.equal(same, BATCH)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = BATCH[:1].expand(400, -1, -1, -1)
    flipped = augment_images(images, flip=True, crop_padding=0, cutout=0, generator=seeded())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    unchanged = (flipped == images).flatten(1).all(1)
    assert torch.all(mirrored ^ unchanged)
    assert 150 < int(mirrored.sum()) < 250


def test_crops_are_windows_of_the_padded_image_and_differ_between_samples() -> None:
    images = BATCH[:1].expand(300, -1, -1, -1)
    padded = torch.nn.functional.pad(BATCH[0], (2, 2, 2, 2))
    windows = {
        padded[:, y : y + 32, x : x + 32].contiguous().numpy().tobytes(): (y, x)
        for y in range(5)
        for x in range(5)
    }
    cropped = augment_images(images, flip=False, crop_padding=2, cutout=0, generator=seeded())
    found = {windows[image.numpy().tobytes()] for image in cropped}  # no mirror image among them
    assert found == set(windows.values())


def test_cutout_blanks_one_square_of_each_image() -> None:
    images = torch.full((200, 3, 32, 32), 9, dtype=torch.uint8)
    blanked = (augment_images(images, flip=False, crop_padding=0, cutout=8, generator=seeded()) == 0).all(1)
    rows, columns = blanked.any(2).sum(1), blanked.any(1).sum(1)
    assert torch.equal(blanked.sum((1, 2)), rows * columns)
    assert (int(rows.max()), int(columns.max())) == (8, 8)
    assert (int(rows.min()), int(columns.min())) == (4, 4)  # a centre at the border leaves half of it


IMAGE_ENTRIES = [entry for entry in DATASETS.values() if isinstance(entry, ImageDataset) and entry.mean]


@pytest.mark.parametrize("entry", IMAGE_ENTRIES, ids=lambda entry: entry.name)
def test_normalised_images_follow_the_statistics(entry: ImageDataset) -> None:
    mean, std = (torch.tensor(values)[:, None, None] for values in (entry.mean, entry.std))
    images = BATCH[:, : len(mean)]
    normalised = normalise_images(images, entry.mean, entry.std)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close((normalised * std + mean) * 255, images.float(), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_real_cifar10_has_its_published_sizes_and_means(shared: Path, tmp_path: Path) -> None:
    if not (shared / "data/cifar10").is_dir():
        pytest.skip("the real CIFAR-10 is absent: no folder data/cifar10 in the reference data")
    (tmp_path / "cifar10").symlink_to(shared / "data/cifar10")  # keeps our cache out of that folder
    train, test = (load_images("cifar10", split, root=tmp_path) for split in ("train", "test"))
    entry = look_up_dataset("cifar10", ImageDataset)
    assert (len(train), len(test)) == (entry.num_train, 10_000)
    assert np.bincount(train.labels).tolist() == [5_000] * 10
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert train.samples.mean((0, 2, 3)) / 255 == pytest.approx(entry.mean, abs=1e-4)


def test_digits_are_those_of_scikit_learn() -> None:
    pixels, labels = load_digits(return_X_y=True)
    ours, classes = images._scikit_learns_digits()
    assert (ours == pixels).all() and (classes == labels).all() and classes.dtype == np.int64
