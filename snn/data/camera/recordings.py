"""Readers for recordings of event cameras, one per file form."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.aedat import Columns, read_aedat, read_aedat4
from snn.data.camera.prophesee import read_dat, read_raw
from snn.data.expansion import Expansion
from snn.data.mat_files import read_mat_arrays

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.uint8)])
"""An event: column x and row y in pixels from the top left, time t in us, polarity p (0 OFF, 1 ON)."""

Events = NDArray[np.void]  # [number of events] of EVENT_DTYPE

FORMS = {
    "aedat": "AEDAT 2.0 of a DVS128 or DAVIS",
    "aedat4": "AEDAT 4.0",
    "raw": "Prophesee's EVT 2.0 or 3.0",
    "dat": "Prophesee's DAT",
    "bin": "N-MNIST's 40 bits per event",
    "npy": "a structured array with the fields x, y, t, p, or [n, 4] with the columns x, y, t, p",
    "npz": "arrays x, y, t and p, or one array events as in npy",
    "h5": "data sets x, y, t and p, at the top level or in the group events",
    "mat": "ASL-DVS: arrays x, y, ts and pol, rows counted from the bottom",
    "npy_gesture": "tonic's DVS128-Gesture: [n, 4] with the columns x, y, p, t in milliseconds",
    "npy_poker": "tonic's POKER-DVS: [n, 4] with the columns t, x, y, p",
}
"""File forms; t is in microseconds unless stated otherwise, and a polarity above 0 is ON."""

MAX_SIDE = 1 << 15
"""Pixels beyond which no side of a sensor is read."""

_LONGEST_US = 1 << 62  # differences of times fit into int64


class UnreadableRecording(ValueError):
    """A recording that is truncated, corrupt or of another form; the message names it and the reason."""


def read_recording(path: Path, form: str | None = None) -> Events:
    """Reads all events of a file, in the order of the file.

    Args:
        path: The file.
        form: A key of FORMS; None uses the file's suffix.

    Returns:
        Events of EVENT_DTYPE; empty if the file holds none.

    Raises:
        UnreadableRecording: The file is missing, truncated, corrupt or of another form.
        ImportError: The package that reads this form is not installed.
    """
    read = _READERS[form or path.suffix.removeprefix(".")]
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise ValueError("it is not a file")
        return make_events(*read(path))
    except ImportError:
        raise
    except Exception as error:  # corrupt files raise errors of any kind
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()).removesuffix(".")
        raise UnreadableRecording(f"{short_name(path)} ({reason or type(error).__name__})") from error


def short_name(path: Path) -> str:
    """A recording's folder and file for messages, printable even if its name is not valid UTF-8."""
    return f"{path.parent.name}/{path.name}".encode(errors="backslashreplace").decode()


def make_events(x: Any, y: Any, t: Any, p: Any) -> Events:
    """Combines columns of numbers into events.

    Args:
        x, y: Pixels, integers in [0, 32767].
        t: Times in microseconds, above -2^62 and below 2^62; fractions are cut off.
        p: Polarities; above 0 is ON.

    Raises:
        ValueError: Columns of different lengths or of something else than numbers, values outside their
            range, or pixels between two pixels.
    """
    columns = {name: np.ravel(values) for name, values in (("x", x), ("y", y), ("t", t), ("p", p))}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"its columns have different lengths: {lengths}")
    events = np.empty(lengths["x"], EVENT_DTYPE)
    events["x"], events["y"] = _pixels("x", columns["x"]), _pixels("y", columns["y"])
    events["t"] = _times(columns["t"])
    events["p"] = _numbers("polarities", columns["p"], kinds="biuf") > 0
    return events


def _pixels(name: str, values: NDArray[Any]) -> NDArray[Any]:
    _numbers(name, values)
    if len(values) and not 0 <= values.min() <= values.max() < MAX_SIDE:
        raise ValueError(f"{name} runs from {values.min()} to {values.max()}, which no sensor has")
    fractions = values[values % 1 != 0] if values.dtype.kind == "f" else []
    if len(fractions):
        raise ValueError(f"{name} should be whole numbers, {len(fractions):,} are not, as {fractions[0]}")
    return values


def _times(values: NDArray[Any]) -> NDArray[Any]:
    _numbers("times", values)
    # As Python's numbers, which compare without a cast.
    if len(values) and not -_LONGEST_US < values.min().item() <= values.max().item() < _LONGEST_US:
        raise ValueError(f"its times run from {values.min()} to {values.max()} us, which no clock shows")
    return values


def _numbers(name: str, values: NDArray[Any], *, kinds: str = "iuf") -> NDArray[Any]:
    if values.dtype.kind not in kinds:
        raise ValueError(f"{name} should be real numbers, they are of the type {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"some {name} are not finite")
    return values


def _read_bin(path: Path) -> Columns:
    """N-MNIST and N-Caltech101: x, y, then 1 bit polarity and 23 bits time in us.

    An entry with y = 240 is not an event: it adds 2^13 us to its own and all later times.
    """
    content = path.read_bytes()
    if len(content) % 5:
        raise ValueError(f"{len(content)} bytes are not a whole number of events of 5 bytes")
    x, y, high, middle, low = np.frombuffer(content, np.uint8).reshape(-1, 5).T.astype(np.int64)
    is_event = y != 240
    t = ((high & 127) << 16 | middle << 8 | low) + (np.cumsum(~is_event) << 13)
    return x[is_event], y[is_event], t[is_event], high[is_event] >> 7


def _read_npy(path: Path) -> Columns:
    return _from_array(_load_npy(path), "xytp")


def _read_npy_gesture(path: Path) -> Columns:
    x, y, t, p = _from_array(_load_npy(path), "xypt")
    whole_ms = np.trunc(_times(np.ravel(t)).astype(np.float64))  # int64 might overflow
    return x, y, 1000 * whole_ms, p


def _read_npy_poker(path: Path) -> Columns:
    return _from_array(_load_npy(path), "txyp")


def _load_npy(path: Path) -> NDArray[Any]:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds several arrays, as npz files do")
    return array


def _read_npz(path: Path) -> Columns:
    expansion = Expansion(path)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            expansion.add(entry.file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return _from_array(arrays["events"], "xytp") if "events" in arrays else _from_named(arrays)


def _read_h5(path: Path) -> Columns:
    import h5py

    expansion = Expansion(path)

    def whole(entry: Any) -> Any:
        if not isinstance(entry, h5py.Dataset):
            raise ValueError("x, y, t and p should be data sets, one is something else")
        expansion.add(entry.size * entry.dtype.itemsize)
        return entry[()]

    with h5py.File(path, "r") as file:
        events = file.get("events", file)
        if isinstance(events, h5py.Dataset):
            return _from_array(whole(events), "xytp")
        _check_names(events)
        return whole(events["x"]), whole(events["y"]), whole(events["t"]), whole(events["p"])


def _read_mat(path: Path) -> Columns:
    columns = read_mat_arrays(path, ("x", "y", "ts", "pol"))
    rows = 179 - _pixels("y", np.ravel(columns["y"])).astype(np.int64)
    return columns["x"], rows, columns["ts"], columns["pol"]


def _from_array(events: NDArray[Any], columns: str) -> Columns:
    if events.dtype.names is not None:
        return _from_named(events)
    if events.ndim != 2 or events.shape[1] != 4:
        raise ValueError(
            f"its array should be [n, 4] with the columns {', '.join(columns)}, it is {list(events.shape)}"
        )
    x, y, t, p = (events[:, columns.index(name)] for name in "xytp")
    return x, y, t, p


def _from_named(source: Any) -> Columns:
    """From a structured array, or a mapping, with the columns x, y, t and p."""
    _check_names(source.dtype.names if isinstance(source, np.ndarray) else source)
    return source["x"], source["y"], source["t"], source["p"]


def _check_names(present: Container[str]) -> None:
    missing = [name for name in "xytp" if name not in present]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)} of x, y, t and p")


_READERS: dict[str, Callable[[Path], Columns]] = {
    "aedat": read_aedat,
    "aedat4": read_aedat4,
    "raw": read_raw,
    "dat": read_dat,
    "bin": _read_bin,
    "npy": _read_npy,
    "npz": _read_npz,
    "h5": _read_h5,
    "mat": _read_mat,
    "npy_gesture": _read_npy_gesture,
    "npy_poker": _read_npy_poker,
}
