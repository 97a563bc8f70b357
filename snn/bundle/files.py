"""Reads the files of a bundle, wherever it is."""

from __future__ import annotations

from pathlib import Path

from snn.object_files import SCHEMES, ObjectFiles


def read_file(place: str, name: str) -> bytes:
    """The content of a file in a folder, or below a URI.

    Raises:
        FileNotFoundError: There is none.
        OSError: The store cannot be reached, or refuses.
    """
    if place.startswith(tuple(f"{scheme}:/" for scheme in SCHEMES)):
        try:
            with ObjectFiles(place).open(name) as file:
                return file.read()
        except FileNotFoundError as error:
            raise _missing(place, name) from error
    path = Path(place) / name
    if not path.is_file():
        raise _missing(place, name)
    return path.read_bytes()


def _missing(place: str, name: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"'{place}' is no trained network: it has no file {name}. Give the folder of one, such as "
        "RUN_DIR/retrained/0."
    )
