"""Where a run's files are: a small protocol, and the local file system behind it."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Files by name below one root; a name is a relative path with "/" between its parts.

    A file is whole or absent: readers never meet half a file, and a writer that is killed leaves none.
    `str(files)` names the root in messages.
    """

    def open(self, name: str) -> BufferedIOBase:
        """The file, open for reading.

        Raises:
            FileNotFoundError: No such file.
        """

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, or replaces it.

        Raises:
            OSError: It cannot be written; the message names the file, and an earlier version is intact.
        """

    def list(self, folder: str) -> list[str]:
        """Names of all files below a folder, sorted; empty if there is no such folder."""

    def delete(self, name: str) -> None:
        """Removes a file; one that does not exist is no error."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def flush(self) -> None:
        """Returns when other processes see all that was written.

        Raises:
            OSError: Something could not be written.
        """


class LocalFiles:
    """Files below a folder of the local file system (or of one mounted there).

    A file is written under a temporary name, synced to the disk and renamed.

    Args:
        root: The folder; created by the first `put`.
    """

    def __init__(self, root: Path) -> None:
        self._shown = Path(root)
        self.root = Path(root).resolve()  # other processes have other working directories

    def __str__(self) -> str:
        return str(self._shown)

    def open(self, name: str) -> BufferedIOBase:
        return open(self.root / name, "rb")

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise OSError(
                f"'{self._shown / name}' cannot be written: {error}. Earlier files are intact; remove the "
                "cause and give the same command again."
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def list(self, folder: str) -> list[str]:
        paths = (path for path in (self.root / folder).rglob("*") if path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in paths if path.suffix != ".tmp")

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def flush(self) -> None:
        """Nothing waits."""


def read_bytes(files: Files, name: str) -> bytes:
    """The whole content of a file."""
    with files.open(name) as file:
        return file.read()


def sha256_of(files: Files, name: str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with files.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(files: Files, name: str, sha256: str, advice: str = "restore it") -> bytes:
    """The bytes of a weights file; `advice` says what to do about a damaged one.

    Raises:
        ValueError: The file does not have the hash it was written with.
    """
    data = read_bytes(files, name)
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise ValueError(
            f"Weights file '{files}/{name}' has SHA-256 {actual}, expected {sha256}: it was damaged or "
            f"replaced since it was written; {advice}."
        )
    return data
