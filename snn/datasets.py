"""The data sets: all that is known of each before a file is opened. A further data set is a further entry."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

Split = Literal["train", "test"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What image and event data sets have in common.

    Attributes:
        name: As in `--data.dataset`.
        class_names: In the order of the labels; None takes the sorted names of the class folders.
        num_train: Number of training samples (images or whole recordings); None if not published.
        licence: Terms of publication; "recalled" if they could not be looked up.
        split: Where training and test samples come from.
        layout: Files below the data set's folder, for messages.
        folders: Names of the data set's folder below the root.
    """

    name: str
    class_names: tuple[str, ...] | None
    num_train: int | None
    licence: str
    split: str
    layout: str
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageDataset(Dataset):
    """A data set of square still images.

    Attributes:
        mean: Of each channel over the training images, of values in [0, 1]; None is measured on D_train.
        std: Standard deviation of each channel, as `mean`.
        side: Height and width in pixels; None takes the setting `data.image_size`.
        label_column: Column of the labels in parquet files; None: not published as parquet.
        parquet_folders: Where parquet files may lie below the data set's folder.
        official_files: The authors' files of each split: .mat, or Python pickles of the CIFAR form.
        torchvision_class: Class of torchvision.datasets that downloads it; None: no automatic download.
        torchvision_split: Argument of that class that chooses the split: `train=True` or `split="train"`.
        obtain: How to get it by hand, if there is no automatic download.
    """

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    side: int | None = 32
    label_column: str | None = None
    parquet_folders: tuple[str, ...] = ("", "data", "plain_text")
    official_files: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    torchvision_class: str | None = None
    torchvision_split: Literal["train", "split"] = "train"
    obtain: str = ""


@dataclass(frozen=True, kw_only=True)
class EventDataset(Dataset):
    """A data set of event-camera recordings.

    Attributes:
        sensor_size: (W, H) in pixels; None is measured from the recordings.
        flips_allowed: Whether a mirrored recording still belongs to its class.
        suffixes: Of the files that hold a recording.
        form: Form of the files if the suffix does not tell; see `snn.data.camera.recordings.FORMS`.
        split_folders: Names of each split's folder; empty: the first 90 % of each class, by path, train.
        label_from: What names a recording's class: its folder, or its file as the number of the class.
        tonic_class: Class of tonic.datasets that downloads it; None: no automatic download.
    """

    sensor_size: tuple[int, int] | None
    flips_allowed: bool
    suffixes: tuple[str, ...] = ()
    form: str | None = None
    split_folders: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    label_from: Literal["folder", "file_number"] = "folder"
    tonic_class: str | None = None


_TEN_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
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
_GESTURES = (
    "hand clapping, right hand wave, left hand wave, right arm clockwise, right arm counter-clockwise, "
    "left arm clockwise, left arm counter-clockwise, arm roll, air drums, air guitar, other gestures"
)
_PARQUET = "parquet files such as train-00000-of-00001.parquet with the columns img (or image) and "
_FIRST_90_PERCENT = "there is none: by path, the first 90 % of each class train, the last 10 % test"
_PLAIN_FORMS = ("aedat", "aedat4", "raw", "dat", "bin", "npy", "npz", "h5")

_IMAGES = (
    ImageDataset(
        name="digits",
        class_names=_TEN_DIGITS,
        num_train=1_438,
        licence="CC BY 4.0 (the UCI digits that ship with scikit-learn, recalled)",
        split="ours: a fixed stratified 80 %",
        layout="nothing: ships with scikit-learn",
        mean=(0.3051,),
        std=(0.3240,),
    ),
    ImageDataset(
        name="cifar10",
        class_names=_CIFAR10,
        num_train=50_000,
        licence="not stated by its authors; cite Krizhevsky 2009",
        split="official",
        layout=_PARQUET + "label; the folder cifar-10-batches-py",
        folders=("cifar10", "cifar-10", "CIFAR10", "CIFAR-10"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        label_column="label",
        parquet_folders=("", "data", "plain_text", "cifar10"),
        official_files={
            "train": tuple(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
            "test": ("cifar-10-batches-py/test_batch",),
        },
        torchvision_class="CIFAR10",
    ),
    ImageDataset(
        name="cifar100",
        class_names=tuple(_CIFAR100.split()),
        num_train=50_000,
        licence="not stated by its authors; cite Krizhevsky 2009",
        split="official",
        layout=_PARQUET + "fine_label; the folder cifar-100-python",
        folders=("cifar100", "cifar-100", "CIFAR100", "CIFAR-100"),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        label_column="fine_label",
        parquet_folders=("", "data", "plain_text", "cifar100"),
        official_files={"train": ("cifar-100-python/train",), "test": ("cifar-100-python/test",)},
        torchvision_class="CIFAR100",
    ),
    ImageDataset(
        name="svhn",
        class_names=_TEN_DIGITS,
        num_train=73_257,  # without the 531,131 extra digits
        licence="non-commercial use only",
        split="official",
        layout=_PARQUET + "label; train_32x32.mat and test_32x32.mat",
        folders=("svhn", "SVHN"),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        label_column="label",
        parquet_folders=("", "data", "plain_text", "cropped_digits"),
        official_files={"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
        torchvision_class="SVHN",
        torchvision_split="split",
    ),
    ImageDataset(
        name="tiny_imagenet",
        class_names=None,
        num_train=100_000,
        licence="ImageNet's terms: non-commercial research (recalled)",
        split="official; tests on the validation images, since the test images have no labels",
        layout="the folder tiny-imagenet-200 with wnids.txt, train/ and val/val_annotations.txt",
        folders=("tiny_imagenet", "tiny-imagenet", "tiny-imagenet-200"),
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        side=64,
        obtain="unpack tiny-imagenet-200.zip of Stanford's course CS231n there; it has no automatic download",
    ),
    ImageDataset(
        name="images",
        class_names=None,
        num_train=None,
        licence="that of your images",
        split="yours: the folders train and test (or val), or --data.test-fraction of each class",
        layout="train/<class>/* and test/<class>/* (or val), <class>/* with --data.test-fraction, or parquet "
        "files of both splits with a column of images and one of labels",
        folders=("images",),
        mean=None,
        std=None,
        side=None,
        obtain="put your images there",
    ),
)

_EVENTS = (
    EventDataset(
        name="digits_events",
        class_names=_TEN_DIGITS,
        num_train=1_438,
        licence="CC BY 4.0 (the UCI digits that ship with scikit-learn, recalled); simulated events",
        split="ours: the fixed stratified 80 % of the digits",
        layout="nothing: simulated from scikit-learn's digits",
        sensor_size=(34, 34),
        flips_allowed=False,
    ),
    EventDataset(
        name="nmnist",
        class_names=_TEN_DIGITS,
        num_train=60_000,
        licence="CC BY-SA 4.0 (recalled)",
        split="official",
        layout="Train/<digit>/*.bin and Test/<digit>/*.bin",
        folders=("nmnist", "NMNIST", "N-MNIST"),
        sensor_size=(34, 34),
        flips_allowed=False,
        suffixes=("bin",),
        split_folders={"train": ("Train", "train"), "test": ("Test", "test")},
        tonic_class="NMNIST",
    ),
    EventDataset(
        name="cifar10_dvs",
        class_names=_CIFAR10,
        num_train=9_000,  # of 10,000
        licence="CC BY 4.0 (recalled)",
        split=f"{_FIRST_90_PERCENT}, as is usual",
        layout="<class>/*.aedat4 as tonic unpacks it, or *.npz as spikingjelly does",
        folders=("cifar10_dvs", "CIFAR10DVS", "CIFAR10-DVS"),
        sensor_size=(128, 128),
        flips_allowed=True,
        suffixes=("aedat4", "npz"),
        tonic_class="CIFAR10DVS",
    ),
    EventDataset(
        name="dvs128_gesture",
        class_names=tuple(_GESTURES.split(", ")),
        num_train=1_077,
        licence="CC BY 4.0",
        split="official, by person; cut into gestures by tonic: 1,077 train, 264 test (spikingjelly cuts "
        "1,176 and 288); times in whole milliseconds",
        layout="ibmGestureTrain/<user_light>/<label>.npy and ibmGestureTest/<user_light>/<label>.npy",
        folders=("dvs128_gesture", "DVSGesture", "DVS128Gesture"),
        sensor_size=(128, 128),
        flips_allowed=False,  # left and right hand are different classes
        suffixes=("npy",),
        form="npy_gesture",
        split_folders={"train": ("ibmGestureTrain",), "test": ("ibmGestureTest",)},
        label_from="file_number",
        tonic_class="DVSGesture",
    ),
    EventDataset(
        name="ncaltech101",
        class_names=None,
        num_train=7_886,  # of 8,709; from the sizes of Caltech101's classes (recalled, but they add up)
        licence="CC BY 4.0",
        split=f"{_FIRST_90_PERCENT}; recordings of different sizes keep their top left corner",
        layout="Caltech101/<class>/*.bin",
        folders=("ncaltech101", "NCALTECH101", "N-Caltech101", "Caltech101"),
        sensor_size=(240, 180),
        flips_allowed=True,
        suffixes=("bin",),
        tonic_class="NCALTECH101",
    ),
    EventDataset(
        name="asl_dvs",
        class_names=tuple("abcdefghiklmnopqrstuvwxy"),  # j and z are movements
        num_train=90_720,  # of 100,800: 4,200 of each letter
        licence="not stated by its authors (recalled)",
        split=_FIRST_90_PERCENT,
        layout="<letter>/*.mat",
        folders=("asl_dvs", "ASLDVS", "ASL-DVS"),
        sensor_size=(240, 180),
        flips_allowed=True,  # the mirrored sign is that of the other hand
        suffixes=("mat",),
        tonic_class="ASLDVS",
    ),
    EventDataset(
        name="poker_dvs",
        class_names=("cl", "he", "di", "sp"),
        num_train=48,  # recalled; the test part has 20
        licence="free for non-commercial use that credits its authors",
        split="as tonic ships it: pips_train and pips_test",
        layout="pips_train/<cl|he|di|sp>/*.npy and pips_test/<cl|he|di|sp>/*.npy",
        folders=("poker_dvs", "POKERDVS"),
        sensor_size=(35, 35),
        flips_allowed=True,  # the four suits are symmetric
        suffixes=("npy",),
        form="npy_poker",
        split_folders={"train": ("pips_train",), "test": ("pips_test",)},
        # No tonic_class: tonic 1.7.0 unpacks archives that its wheel lacks.
    ),
    EventDataset(
        name="recordings",
        class_names=None,
        num_train=None,
        licence="that of your recordings",
        split="yours: the folders train and test",
        layout=f"train/<class>/* and test/<class>/* with the suffixes {', '.join(_PLAIN_FORMS)}",
        folders=("recordings",),
        sensor_size=None,
        flips_allowed=False,  # unknown, hence no
        suffixes=_PLAIN_FORMS,
        split_folders={"train": ("train", "Train"), "test": ("test", "Test")},
    ),
)

DATASETS: dict[str, ImageDataset | EventDataset] = {entry.name: entry for entry in (*_IMAGES, *_EVENTS)}
"""Every data set by its name."""

if TYPE_CHECKING:
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]  # the choices that the command line shows

_Kind = TypeVar("_Kind", bound=Dataset)


def look_up_dataset(name: str, kind: type[_Kind]) -> _Kind:
    """The entry of a data set.

    Args:
        name: A key of DATASETS.
        kind: `ImageDataset`, `EventDataset`, or `Dataset` for either.

    Raises:
        ValueError: No data set of this kind has this name; the message lists those that exist.
    """
    entry = DATASETS.get(name)
    if isinstance(entry, kind):
        return entry
    choices = [known.name for known in DATASETS.values() if isinstance(known, kind)]
    hints = [f" Did you mean '{close}'?" for close in difflib.get_close_matches(name, choices, n=1)]
    raise ValueError(f"data.dataset must be one of {', '.join(choices)}, got {name!r:.60}.{''.join(hints)}")
