"""Sealed records: JSON that says which format it has, what it was made with, and whether it is whole.

A record is an object with the keys `format`, `sha256` and `made_with` before its own. The hash covers all the
rest, so that a flipped bit or a change by hand never passes for a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = 1
"""Increment when a record changes its meaning; records of other formats are refused."""


@dataclass(frozen=True)
class Sealed:
    """A record and what it was made with.

    Attributes:
        values: JSON values of the record.
        made_with: The settings, as `Config.identity`, and other facts that the record depends on.
    """

    values: Mapping[str, Any]
    made_with: Mapping[str, Any]


def seal(record: Sealed) -> bytes:
    """The record as the text of a JSON file."""
    values = {**seal_of(record.values, record.made_with), **record.values}
    return (json.dumps(values, indent=1) + "\n").encode()


def unseal(data: bytes) -> Sealed:
    """The inverse of `seal`.

    Raises:
        ValueError: Not JSON, of another format, or changed since it was sealed; the message does not name the
            file.
    """
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError(f"it holds {type(values).__name__} instead of an object")
    seal_values = {key: values.pop(key, None) for key in ("format", "sha256", "made_with")}
    check_seal(seal_values, values)
    return Sealed(values, seal_values["made_with"])


def seal_bytes(data: bytes, made_with: Mapping[str, Any]) -> bytes:
    """Any bytes behind a line with their seal."""
    return json.dumps(seal_of(hashlib.sha256(data).hexdigest(), made_with)).encode() + b"\n" + data


def unseal_bytes(sealed: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """The bytes and what they were made with; the inverse of `seal_bytes`.

    Raises:
        ValueError: As for `unseal`.
    """
    line, _, data = sealed.partition(b"\n")
    seal_values = json.loads(line)
    check_seal(seal_values, hashlib.sha256(data).hexdigest())
    return data, seal_values["made_with"]


def seal_of(content: Any, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Format, hash and origin of any JSON values; an iterator counts as the list of what it yields."""
    origin = dict(made_with)
    return {"format": FORMAT, "sha256": _hash(content, origin), "made_with": origin}


def check_seal(seal_values: Any, content: Any) -> None:
    """Raises ValueError unless `seal_values` is what `seal_of` returned for this content."""
    values = seal_values if isinstance(seal_values, dict) else {}
    found = values.get("format")
    if found != FORMAT:
        raise ValueError(f"its format is {found}, this version reads format {FORMAT}")
    if values.get("sha256") != _hash(content, values.get("made_with")):
        raise ValueError("its content does not have the hash it was written with")


def _hash(content: Any, made_with: Any) -> str:
    """SHA-256 of the JSON text of [content, made_with]."""
    digest = hashlib.sha256(b"[")
    if isinstance(content, Iterator):
        digest.update(b"[")
        for number, value in enumerate(content):
            digest.update(f"{',' if number else ''}{_text(value)}".encode())
        digest.update(b"]")
    else:
        digest.update(_text(content).encode())
    digest.update(f",{_text(made_with)}]".encode())
    return digest.hexdigest()


def _text(values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
