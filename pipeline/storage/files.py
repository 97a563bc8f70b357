"""Files that are whole or not there, and their hashes.

Every file is written under a temporary name and renamed, so that a reader never meets half a file and a
killed writer leaves none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; renames it to `path` if nothing was raised.

    Raises:
        OSError: It cannot be written; the message names `path`, which libraries leave out.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"'{path}' cannot be written: {error}. What was written before is kept; when the cause is "
            "removed, give the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Writes a dataclass or plain values as JSON."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    write_with(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a binary file."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file, then renames it to `path`."""
    with written_atomically(path) as temporary:
        write(temporary)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raises ValueError unless the file has the hash it was written with."""
    found = file_sha256(path)
    if found != expected:
        raise ValueError(
            f"Weights file '{path}' has SHA-256 {found}, expected {expected}: it was damaged or replaced "
            "since it was written. Restore it, or delete it with supernet.json and train again."
        )
