"""Event-camera data sets on disk: where their recordings lie, which train and which test, what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from snn.data.image_files import TEN_DIGITS, Split
from snn.data.samples import exclusive_lock

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_GESTURES = (
    "hand clapping, right hand wave, left hand wave, right arm clockwise, right arm counter-clockwise, "
    "left arm clockwise, left arm counter-clockwise, arm roll, air drums, air guitar, other gestures"
)
_PLAIN_FORMS = ("aedat", "aedat4", "bin", "npy", "npz", "h5")


@dataclass(frozen=True)
class EventDataset:
    """What is known of a data set before any of its files is opened.

    Attributes:
        sensor_size: (W, H) in pixels; None is measured from the recordings.
        class_names: In the order of the labels; None takes the sorted names of the folders of classes.
        flips_allowed: Whether a mirrored recording still is of its class.
        licence: What the data are published under, "recalled" where we could not look it up.
        split: Where training and test come from.
        layout: Files below the data set's folder, for messages.
        folders: Names of the data set's folder below the root, besides the root itself.
        suffixes: Of the files that hold a recording.
        form: Form of the files where the suffix does not tell; see `snn.data.camera.recordings.FORMS`.
        tonic_class: Name of the class of tonic.datasets that downloads it; None: nobody does.
    """

    sensor_size: tuple[int, int] | None
    class_names: tuple[str, ...] | None
    flips_allowed: bool
    licence: str
    split: str
    layout: str
    folders: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    form: str | None = None
    tonic_class: str | None = None


EVENT_DATASETS: dict[str, EventDataset] = {
    "digits_events": EventDataset(
        sensor_size=(34, 34),
        class_names=TEN_DIGITS,
        flips_allowed=False,
        licence="CC BY 4.0 (the UCI digits that ship with scikit-learn, recalled); simulated events",
        split="ours: the fixed stratified 80 % of the digits",
        layout="nothing: simulated from scikit-learn's digits",
    ),
    "nmnist": EventDataset(
        sensor_size=(34, 34),
        class_names=TEN_DIGITS,
        flips_allowed=False,
        licence="CC BY-SA 4.0 (recalled)",
        split="official",
        layout="Train/<digit>/*.bin and Test/<digit>/*.bin",
        folders=("nmnist", "NMNIST", "N-MNIST"),
        suffixes=("bin",),
        tonic_class="NMNIST",
    ),
    "cifar10_dvs": EventDataset(
        sensor_size=(128, 128),
        class_names=tuple(_CIFAR10.split()),
        flips_allowed=True,
        licence="CC BY 4.0 (recalled)",
        split="there is none: by path, the first 90 % of each class train, the last 10 % test, as is usual",
        layout="<class>/*.aedat4 as tonic unpacks it, or *.npz as spikingjelly does",
        folders=("cifar10_dvs", "CIFAR10DVS", "CIFAR10-DVS"),
        suffixes=("aedat4", "npz"),
        tonic_class="CIFAR10DVS",
    ),
    "dvs128_gesture": EventDataset(
        sensor_size=(128, 128),
        class_names=tuple(_GESTURES.split(", ")),
        flips_allowed=False,  # left and right hand are different classes
        licence="CC BY 4.0 (recalled)",
        split="official, by person; cut into gestures by tonic: 1,077 train, 264 test (spikingjelly cuts "
        "1,176 and 288); times in whole milliseconds",
        layout="ibmGestureTrain/<user_light>/<label>.npy and ibmGestureTest/<user_light>/<label>.npy",
        folders=("dvs128_gesture", "DVSGesture", "DVS128Gesture"),
        suffixes=("npy",),
        form="npy_gesture",
        tonic_class="DVSGesture",
    ),
    "ncaltech101": EventDataset(
        sensor_size=(240, 180),
        class_names=None,
        flips_allowed=True,
        licence="CC BY 4.0 (recalled)",
        split="there is none: by path, the first 90 % of each class train, the last 10 % test; recordings of "
        "different sizes keep their top left corner",
        layout="Caltech101/<class>/*.bin",
        folders=("ncaltech101", "NCALTECH101", "N-Caltech101", "Caltech101"),
        suffixes=("bin",),
        tonic_class="NCALTECH101",
    ),
    "asl_dvs": EventDataset(
        sensor_size=(240, 180),
        class_names=tuple("abcdefghiklmnopqrstuvwxy"),  # j and z are movements
        flips_allowed=True,  # the mirrored sign is that of the other hand
        licence="not stated by its authors (recalled)",
        split="there is none: by path, the first 90 % of each class train, the last 10 % test",
        layout="<letter>/*.mat",
        folders=("asl_dvs", "ASLDVS", "ASL-DVS"),
        suffixes=("mat",),
        tonic_class="ASLDVS",
    ),
    "poker_dvs": EventDataset(
        sensor_size=(35, 35),
        class_names=("cl", "he", "di", "sp"),
        flips_allowed=True,  # the four suits are symmetric
        licence="not stated by its authors (recalled)",
        split="as tonic ships it: pips_train and pips_test",
        layout="pips_train/<cl|he|di|sp>/*.npy and pips_test/<cl|he|di|sp>/*.npy",
        folders=("poker_dvs", "POKERDVS"),
        suffixes=("npy",),
        form="npy_poker",  # no tonic_class: tonic 1.7.0 unpacks archives that its wheel lacks
    ),
    "recordings": EventDataset(
        sensor_size=None,
        class_names=None,
        flips_allowed=False,  # unknown, so no
        licence="that of your recordings",
        split="yours: the folders train and test",
        layout=f"train/<class>/* and test/<class>/* with the suffixes {', '.join(_PLAIN_FORMS)}",
        folders=("recordings",),
        suffixes=_PLAIN_FORMS,
    ),
}
"""Event data sets by name."""

FLIPS_ALLOWED: dict[str, bool] = {name: facts.flips_allowed for name, facts in EVENT_DATASETS.items()}
"""Whether `augment_frames` may mirror samples of a data set."""

_SPLIT_FOLDERS: dict[str, dict[Split, tuple[str, ...]]] = {
    "nmnist": {"train": ("Train", "train"), "test": ("Test", "test")},
    "dvs128_gesture": {"train": ("ibmGestureTrain",), "test": ("ibmGestureTest",)},
    "poker_dvs": {"train": ("pips_train",), "test": ("pips_test",)},
    "recordings": {"train": ("train", "Train"), "test": ("test", "Test")},
}


@dataclass(frozen=True)
class Recordings:
    """The recordings of one split, sorted by path, so that every node sees the same order.

    Attributes:
        folder: The folder the paths are below.
        files: Their paths.
        labels: Class of each.
        class_names: Name of each class.
        form: Form of the files; None: the suffix tells.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    form: str | None


def find_recordings(dataset: str, split: Split, root: Path) -> Recordings:
    """Looks for a data set in its folder below `root`, then in `root` itself.

    Args:
        dataset: A key of EVENT_DATASETS, but "digits_events", which has no files.
        split: As EVENT_DATASETS[dataset].split says.
        root: Folder that holds the data set's folder, or is it.

    Raises:
        FileNotFoundError: There is no recording of this split.
        ValueError: A test recording is of a class that training does not have.
    """
    find = _find_official_split if dataset in _SPLIT_FOLDERS else _find_without_split
    for folder in _folders(dataset, root):
        found = find(dataset, split, folder)
        if found is not None and found.files:
            return found
    raise _missing_recordings(dataset, split, root)


def download_recordings(dataset: str, split: Split, root: Path) -> None:
    """Fetches a data set into `root` through tonic; one process at a time.

    Raises:
        OSError: The download failed.
    """
    facts = EVENT_DATASETS[dataset]
    if facts.tonic_class is None:
        raise _missing_recordings(dataset, split, root)
    from tonic import datasets

    root.mkdir(parents=True, exist_ok=True)
    by_split = {"train": split == "train"} if dataset in _SPLIT_FOLDERS else {}
    with exclusive_lock(root / f"{dataset}-download.lock"):
        try:
            getattr(datasets, facts.tonic_class)(str(root), **by_split)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"The download of {dataset} into {root} failed ({error}). Try again, or put there by hand: "
                f"{root / facts.folders[0]}/{facts.layout}."
            ) from error


def _folders(dataset: str, root: Path) -> list[Path]:
    return [*(root / name for name in EVENT_DATASETS[dataset].folders), root]


def _missing_recordings(dataset: str, split: Split, root: Path) -> FileNotFoundError:
    facts = EVENT_DATASETS[dataset]
    cure = ", or pass --data.download to fetch them through tonic" if facts.tonic_class else ""
    return FileNotFoundError(
        f"Found no recordings for the {split} split of {dataset} in "
        f"{', '.join(map(str, _folders(dataset, root)))}. Understood there is: {facts.layout}. "
        f"Set --data.root to the folder that holds them{cure}."
    )


def _find_official_split(dataset: str, split: Split, folder: Path) -> Recordings | None:
    places = {
        side: next((folder / name for name in names if (folder / name).is_dir()), None)
        for side, names in _SPLIT_FOLDERS[dataset].items()
    }
    place = places[split]
    if place is None:
        return None
    facts = EVENT_DATASETS[dataset]
    class_of = _gesture if dataset == "dvs128_gesture" else _folder_name
    files = _files_below(place, facts.suffixes)
    names = facts.class_names
    if names is None:
        trained = _files_below(places["train"], facts.suffixes) if places["train"] else files
        names = tuple(sorted({class_of(file) for file in trained}))
    return _labelled(dataset, folder, files, class_of, names)


def _find_without_split(dataset: str, split: Split, folder: Path) -> Recordings | None:
    """By path, the first 90 % of each class (rounded up, but for one) train and the others test."""
    facts = EVENT_DATASETS[dataset]
    if facts.class_names is None and folder.name != facts.folders[-1]:
        folder = folder / facts.folders[-1]
    by_class: dict[str, list[Path]] = {}
    for file in _files_below(folder, facts.suffixes):
        if facts.class_names is None or file.parent.name in facts.class_names:  # a root may hold much else
            by_class.setdefault(file.parent.name, []).append(file)
    chosen = []
    for files in by_class.values():
        num_train = max(1, min(-(-9 * len(files) // 10), len(files) - 1))
        chosen += files[:num_train] if split == "train" else files[num_train:]
    names = facts.class_names or tuple(sorted(by_class))
    return _labelled(dataset, folder, sorted(chosen), _folder_name, names)


def _files_below(place: Path, suffixes: Iterable[str]) -> list[Path]:
    """Recordings one folder (that of their class or person) below, sorted by path."""
    return sorted(path for suffix in suffixes for path in place.glob(f"*/*.{suffix}"))


def _folder_name(file: Path) -> str:
    return file.parent.name


def _gesture(file: Path) -> str:
    names = EVENT_DATASETS["dvs128_gesture"].class_names or ()
    return {str(i): name for i, name in enumerate(names)}.get(file.stem, file.stem)


def _labelled(
    dataset: str,
    folder: Path,
    files: list[Path],
    class_of: Callable[[Path], str],
    class_names: tuple[str, ...],
) -> Recordings:
    number = {name: i for i, name in enumerate(class_names)}
    unknown = sorted({class_of(file) for file in files} - number.keys())
    if unknown:
        raise ValueError(
            f"Recordings of {dataset} in {folder} are of classes that it does not have: "
            f"{', '.join(unknown)}. Known are: {', '.join(class_names)}. Remove or rename those folders."
        )
    labels = tuple(number[class_of(file)] for file in files)
    return Recordings(folder, tuple(files), labels, class_names, EVENT_DATASETS[dataset].form)
