"""Labelled samples: stored once per node in an Arrow file, read by every process without a copy."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from snn.user_cache import user_cache

_FACTS = b"snn.samples"  # key of the schema's metadata
_SPARE_BYTES = 1 << 20  # generous estimate of the file's header and footer


@dataclass(frozen=True, eq=False)
class LabelledSamples:
    """Samples with their classes; `from_arrays` creates them, `open_samples` reads them from a file.

    Attributes:
        samples: [n, *shape] uint8, read-only; if read from a file, a view of the memory map.
        labels: [n] int64 classes in [0, num_classes), read-only.
        groups: [n] int64 ids; samples that share an id (windows of one recording, say) must stay on the
            same side of every split. Each image is its own group.
        class_names: Name of each class.
        fingerprint: SHA-256, as hex digits, of shape, samples, labels, groups and class names.
        notes: Facts for the report, such as files that were skipped.
        file: The file that they were read from.
        sensor_size: (W, H) in pixels of the camera of event recordings.
    """

    samples: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    class_names: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()
    file: Path | None = None
    sensor_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.samples.dtype != np.uint8 or self.samples.ndim < 2 or len(self.samples) == 0:
            raise ValueError(
                "samples must be uint8 [n, *shape] with n at least 1, "
                f"got {self.samples.dtype} {list(self.samples.shape)}."
            )
        for name, values in (("labels", self.labels), ("groups", self.groups)):
            if values.dtype != np.int64 or values.shape != self.samples.shape[:1]:
                raise ValueError(
                    f"{name} must be int64 [{len(self.samples)}], got {values.dtype} {list(values.shape)}."
                )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(f"labels must be in [0, {self.num_classes}), got {low} to {high}.")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has samples."""
        return len(self.class_names)

    @classmethod
    def from_arrays(
        cls,
        samples: NDArray[np.uint8],
        labels: NDArray[np.int64],
        class_names: Sequence[str],
        *,
        groups: NDArray[np.int64] | None = None,
        notes: Sequence[str] = (),
        sensor_size: tuple[int, int] | None = None,
    ) -> LabelledSamples:
        """Wraps arrays (without a copy if they are contiguous) and computes their fingerprint.

        Args:
            samples: [n, *shape] uint8.
            labels: [n] int64 in [0, number of class names).
            class_names: Name of each class.
            groups: [n] int64; None makes each sample its own group.
            notes: Facts for the report.
            sensor_size: (W, H) of the camera of event recordings.

        Raises:
            ValueError: Arrays of another type or shape, no samples, or a label without a class name.
        """
        groups = np.arange(len(samples)) if groups is None else groups
        samples, labels, groups = _read_only(samples), _read_only(labels), _read_only(groups)
        digest = hashlib.sha256(json.dumps([samples.shape, list(class_names)]).encode())
        for values in (samples, labels, groups):
            digest.update(values.data)
        return cls(
            samples,
            labels,
            groups,
            tuple(class_names),
            digest.hexdigest(),
            tuple(notes),
            sensor_size=sensor_size,
        )


def cached_samples(directory: Path, key: str, build: Callable[[], LabelledSamples]) -> LabelledSamples:
    """Opens `directory`/`key`.arrow, after building it if it does not exist.

    If several processes start together, one builds and the others wait for it.

    Args:
        directory: Folder of the file; created if it does not exist.
        key: Name that changes with the content; see `content_key`.
        build: Creates the samples. If it raises, no file is left behind and the next process tries.

    Raises:
        ValueError: The file exists but is truncated or corrupt.
        OSError: The folder cannot be written, the disk is too full, or what was written cannot be read back.
    """
    path = directory / f"{key}.arrow"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(directory / f"{key}.lock") as alone:
            if not path.exists():
                if alone:
                    _remove_partial(path)
                _write(build(), path)
    return open_samples(path)


def copied_samples(
    directory: Path,
    fingerprint: str,
    *,
    num_bytes: int,
    pieces: Callable[[], Iterable[bytes]],
    checked_for: str,
) -> LabelledSamples:
    """Opens this machine's copy of a file of samples, after fetching it if it is missing or damaged.

    If several processes start together, one fetches and the others wait for it.

    Args:
        directory: Folder of the copies; created if it does not exist.
        fingerprint: Of the samples.
        num_bytes: Size of the file.
        pieces: Fetches its content, in order.
        checked_for: Name of a run, for which the whole content is checked once.

    Raises:
        OSError: The disk is too full, or what arrived is not what was asked for.
    """
    path, checked = directory / f"{fingerprint}.arrow", directory / f"{fingerprint}.checked"
    directory.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(directory / f"{fingerprint}.lock") as alone:
        if checked.exists() and checked.read_text() == checked_for and path.stat().st_size == num_bytes:
            return open_samples(path)
        if not _is_copy(path, fingerprint):
            if alone:
                _remove_partial(path)
            _check_space(num_bytes, directory)
            with _replacing(path) as partial:
                with partial.open("wb") as file:
                    file.writelines(pieces())
                    file.flush()
                    os.fsync(file.fileno())
                if not _is_copy(partial, fingerprint):
                    reason = "The samples that were fetched are not those that were sent; try again"
                    raise OSError(errno.EIO, reason, str(path))
        checked.write_text(checked_for)
        return open_samples(path)


def _is_copy(path: Path, fingerprint: str) -> bool:
    """Whether a file holds the samples of this fingerprint; reads all of it."""
    try:
        found = open_samples(path)
    except (FileNotFoundError, ValueError):
        return False
    read = LabelledSamples.from_arrays(found.samples, found.labels, found.class_names, groups=found.groups)
    return read.fingerprint == fingerprint


def open_samples(path: Path) -> LabelledSamples:
    """Maps a file of `cached_samples` into memory; nothing is copied, all processes share the pages.

    Checks that the file is complete and consistent but does not read the samples: a flipped bit on the disk
    is detected only by recomputing `fingerprint`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is truncated, corrupt or not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of samples at {path}.")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        facts = json.loads((reader.schema.metadata or {})[_FACTS])
        if reader.num_record_batches != 1:
            raise ValueError(f"{reader.num_record_batches} record batches instead of 1")
        batch = reader.get_batch(0)
        batch.validate(full=True)
        if batch.num_rows != facts["shape"][0]:
            raise ValueError(f"{batch.num_rows} rows instead of {facts['shape'][0]}")
        return LabelledSamples(
            _view(batch, "sample", np.uint8).reshape(facts["shape"]),
            _view(batch, "label", np.int64),
            _view(batch, "group", np.int64),
            tuple(facts["class_names"]),
            facts["fingerprint"],
            tuple(facts["notes"]),
            path,
            None if facts["sensor_size"] is None else tuple(facts["sensor_size"]),
        )
    except Exception as error:  # corrupt files raise errors of any kind
        raise ValueError(
            f"The file of samples {path} is truncated or corrupt ({error}). Delete it; it will be rebuilt."
        ) from error


def content_key(*parts: object) -> str:
    """A short name for values, the same in every process: 16 hex digits of the SHA-256 of their JSON.

    Args:
        parts: JSON values, tuples and paths; for example names, sizes and times of files, and settings.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cache_directory(root: Path, key: str) -> Path:
    """Folder of the file `key`.arrow: beside the data if possible, else the user's cache.

    Beside the data (`root`/snn-cache), all users and nodes that see `root` share it. A folder that its owner
    may not write to is left unchanged, even by the superuser, who could. Otherwise writing is attempted, as
    nothing else reveals a read-only mount.
    """
    beside = root / "snn-cache"
    protected = root.is_dir() and not root.stat().st_mode & stat.S_IWUSR
    if (beside / f"{key}.arrow").exists() or (not protected and _is_writable(beside)):
        return beside
    return user_cache()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[bool]:
    """Waits for the lock of the file `path`, then holds it; the file is not deleted.

    Yields:
        False on a file system without locks, where other processes may be doing the same work.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            locked = True
        except OSError:
            locked = False
        yield locked  # closing the file releases the lock


def _write(data: LabelledSamples, path: Path) -> None:
    """Writes to a temporary name, then renames: readers see the whole file or none."""
    needed = data.samples.nbytes + data.labels.nbytes + data.groups.nbytes + _SPARE_BYTES
    _check_space(needed, path.parent)
    with _replacing(path) as partial:
        _write_batch(_to_batch(data), partial)
        _check_readable(partial, data)


def _remove_partial(path: Path) -> None:
    """Removes what killed processes left in `_replacing`."""
    for partial in path.parent.glob(f"{path.stem}.*.partial"):
        partial.unlink()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name, of this process alone, that becomes `path` unless the block raises."""
    partial = path.with_name(f"{path.stem}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_space(needed: int, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"Too little space for the samples: they need {needed / 2**20:,.0f} MiB, "
            f"{free / 2**20:,.0f} MiB are free. Free some space, or set --data.root to a larger disk",
            str(directory),
        )


def _write_batch(batch: pa.RecordBatch, path: Path) -> None:
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:  # Arrow's names no file
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(
            error.errno,
            f"The samples cannot be stored: {reason}. Free some space, or set --data.root to another disk",
            str(path.parent),
        ) from error


def _check_readable(path: Path, data: LabelledSamples) -> None:
    """Keeps a file that cannot be opened from being found, deleted and built again, for ever."""
    try:
        open_samples(path)
    except ValueError as error:
        raise OSError(
            errno.EIO,
            f"{len(data):,} samples of {list(data.samples.shape[1:])} were stored but cannot be read back: "
            f"{error.__cause__}. If they are too large, raise data.downsample or correct data.sensor_size; "
            f"if the disk is failing, set --data.root to another one",
            str(path.parent),
        ) from error


def _to_batch(data: LabelledSamples) -> pa.RecordBatch:
    """One record batch that shares the arrays' memory."""
    facts = {
        "shape": data.samples.shape,
        "class_names": data.class_names,
        "fingerprint": data.fingerprint,
        "notes": data.notes,
        "sensor_size": data.sensor_size,
    }
    sample_bytes = data.samples[0].size
    columns = {
        "sample": (pa.binary(sample_bytes), data.samples),
        "label": (pa.int64(), data.labels),
        "group": (pa.int64(), data.groups),
    }
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()], {_FACTS: json.dumps(facts)})
    arrays = [
        pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(np.ascontiguousarray(values))])
        for kind, values in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _view(batch: pa.RecordBatch, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """A column without missing values as a flat, read-only view of the batch's memory."""
    column = batch.column(name)
    if column.null_count:
        raise ValueError(f"{column.null_count} missing values in column {name}")
    used = column.buffers()[1].slice(0, batch.num_rows * column.type.bit_width // 8)
    return np.frombuffer(used, dtype)


def _is_writable(directory: Path) -> bool:
    try:
        directory.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
