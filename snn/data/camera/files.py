"""Event-camera data sets on disk: where their recordings lie, of which split and class each one is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from snn.data.samples import exclusive_lock
from snn.datasets import EventDataset, Split, look_up_dataset


@dataclass(frozen=True)
class Recordings:
    """The recordings of one split, sorted by path, so that the order is the same on every node.

    Attributes:
        folder: The folder above all files.
        files: Path of each recording.
        labels: Class of each recording.
        class_names: Name of each class.
        form: Form of the files; None: each file's suffix.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    form: str | None


def find_recordings(dataset: str, split: Split, root: Path) -> Recordings:
    """Searches a data set's folders below `root`, then `root` itself.

    Args:
        dataset: Name of an event data set in `snn.datasets.DATASETS`, except "digits_events", which has no
            files.
        split: As the `split` of its entry says.
        root: The folder above the data set's folder, or that folder itself.

    Raises:
        FileNotFoundError: There is no recording of this split.
        ValueError: An unknown data set, a test recording of a class without training recordings, or the name
            of a class that is not UTF-8.
        OSError: A folder may not be listed.
    """
    entry = look_up_dataset(dataset, EventDataset)
    find = _find_official_split if entry.split_folders else _find_without_split
    for folder in _folders(entry, root):
        recordings = find(entry, split, folder)
        if recordings is not None and recordings.files:
            return recordings
    raise _missing_recordings(entry, split, root)


def download_recordings(dataset: str, split: Split, root: Path) -> None:
    """Downloads a data set into `root` through tonic; one process at a time.

    Raises:
        FileNotFoundError: tonic does not download this data set.
        OSError: The download failed.
    """
    entry = look_up_dataset(dataset, EventDataset)
    if entry.tonic_class is None:
        raise _missing_recordings(entry, split, root)
    from tonic import datasets

    root.mkdir(parents=True, exist_ok=True)
    by_split = {"train": split == "train"} if entry.split_folders else {}
    with exclusive_lock(root / f"{dataset}-download.lock"):
        try:
            getattr(datasets, entry.tonic_class)(str(root), **by_split)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"The download of {dataset} into {root} failed ({error}). Try again, or put these files "
                f"there by hand: {root / entry.folders[0]}/{entry.layout}."
            ) from error


def _folders(entry: EventDataset, root: Path) -> list[Path]:
    return [*(root / name for name in entry.folders), root]


def _missing_recordings(entry: EventDataset, split: Split, root: Path) -> FileNotFoundError:
    remedy = ", or pass --data.download to fetch them through tonic" if entry.tonic_class else ""
    return FileNotFoundError(
        f"Found no recordings for the {split} split of {entry.name} in "
        f"{', '.join(map(str, _folders(entry, root)))}. Expected files: {entry.layout}. "
        f"Set --data.root to the folder that holds them{remedy}."
    )


def _find_official_split(entry: EventDataset, split: Split, folder: Path) -> Recordings | None:
    split_folders = {
        name: next((folder / option for option in options if (folder / option).is_dir()), None)
        for name, options in entry.split_folders.items()
    }
    here, train = split_folders[split], split_folders["train"]
    if here is None:
        return None
    files = _files_below(here, entry.suffixes)
    names = entry.class_names
    if names is None:
        training_files = _files_below(train, entry.suffixes) if train else files
        names = tuple(sorted({_class_of(file, entry) for file in training_files}))
    return _labelled(entry, folder, files, names)


def _find_without_split(entry: EventDataset, split: Split, folder: Path) -> Recordings | None:
    """By path, the first 90 % of each class (rounded up, but at most all but one) train, the others test."""
    if entry.class_names is None and folder.name != entry.folders[-1]:
        folder = folder / entry.folders[-1]
    by_class: dict[str, list[Path]] = {}
    # `folder` may be a root that holds other data sets too.
    for file in _files_below(folder, entry.suffixes, entry.class_names):
        by_class.setdefault(file.parent.name, []).append(file)
    chosen = []
    for files in by_class.values():
        num_train = max(1, min(-(-9 * len(files) // 10), len(files) - 1))
        chosen += files[:num_train] if split == "train" else files[num_train:]
    names = entry.class_names or tuple(sorted(by_class))
    return _labelled(entry, folder, sorted(chosen), names)


def _files_below(
    folder: Path, suffixes: Iterable[str], subfolders: Collection[str] | None = None
) -> list[Path]:
    """Recordings in the subfolders (of classes or persons), sorted by path.

    Raises:
        OSError: A subfolder may not be listed; `glob` would pass over it.
    """
    for subfolder in folder.glob("*/"):
        if subfolders is None or subfolder.name in subfolders:
            os.scandir(subfolder).close()
    files = (path for suffix in suffixes for path in folder.glob(f"*/*.{suffix}"))
    return sorted(path for path in files if subfolders is None or path.parent.name in subfolders)


def _class_of(file: Path, entry: EventDataset) -> str:
    """Name of a recording's class; of an unknown class, the name of its folder or file."""
    if entry.label_from == "folder":
        return file.parent.name
    return {str(i): name for i, name in enumerate(entry.class_names or ())}.get(file.stem, file.stem)


def _labelled(
    entry: EventDataset, folder: Path, files: list[Path], class_names: tuple[str, ...]
) -> Recordings:
    for name in class_names:
        if name != name.encode(errors="replace").decode():  # files that hold the name would be broken
            raise ValueError(
                f"The name of the class folder {name!r} of {entry.name} in {folder} is not UTF-8. Rename it."
            )
    label_of = {name: i for i, name in enumerate(class_names)}
    unknown = sorted({_class_of(file, entry) for file in files} - label_of.keys())
    if unknown:
        raise ValueError(
            f"Recordings of {entry.name} in {folder} are of unknown classes: {', '.join(unknown)}. Known "
            f"classes: {', '.join(class_names)}. Remove or rename those folders."
        )
    labels = tuple(label_of[_class_of(file, entry)] for file in files)
    return Recordings(folder, tuple(files), labels, class_names, entry.form)
