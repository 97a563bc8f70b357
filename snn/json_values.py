"""Frozen dataclasses as JSON values and back, with every type checked."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from cattrs import Converter

_T = TypeVar("_T")

_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def to_json(value: Any) -> Any:
    """A dataclass, and whatever it holds, as values that `json` writes; paths become text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(values: Any, cls: type[_T]) -> _T:
    """Rebuilds a dataclass from `to_json`; fields with a default may be missing.

    Raises:
        ValueError: Unknown or missing fields, values of another type, or values that the dataclass itself
            refuses; the message names every one of them.
    """
    from cattrs import BaseValidationError  # a tenth of a second, which `--help` need not pay

    try:
        return _converter().structure(values, cls)
    except (BaseValidationError, TypeError) as error:  # TypeError: not even an object
        raise ValueError("; ".join(dict.fromkeys(_messages(error, "")))) from error


def field_names(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Names of all values in nested objects, joined by dots."""
    names: set[str] = set()
    for key, value in values.items():
        names |= field_names(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return names


@cache
def _converter() -> Converter:
    """cattrs with forbidden unknown keys and without its conversions, which turn "5" into 5."""
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn

    converter = Converter(forbid_extra_keys=True)
    for kind in _EXPECTED:
        converter.register_structure_hook(kind, _checked)
    converter.register_structure_hook(Path, lambda value, _: Path(_checked(value, str)))
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_func(_is_tuple, _tuple)
    converter.register_structure_hook_factory(
        dataclasses.is_dataclass,
        lambda cls: _of_object(make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)),
    )
    return converter


def _of_object(structure: Any) -> Any:
    def structure_object(values: Any, cls: Any) -> Any:
        if not isinstance(values, dict):
            raise TypeError(f"must be an object, got {values!r:.100}")
        return structure(values, cls)

    return structure_object


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple(value: Any, kind: Any) -> Any:
    """A tuple of any length, or of a fixed number of entries of one type."""
    parts = get_args(kind)
    length = None if parts[1:] == (...,) else len(parts)
    if not isinstance(value, list | tuple) or length not in (None, len(value)):
        number = "" if length is None else f" of {length}"
        raise TypeError(f"must be a list{number}, got {value!r:.100}")
    assert length is None or len(set(parts)) == 1, kind
    return tuple(_converter().structure(value, list[parts[0]]))  # type: ignore[valid-type]


def _checked(value: Any, kind: Any) -> Any:
    """The value, if it is of the kind already; a whole number is a number too."""
    allowed = (float, int) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"must be {_EXPECTED[kind]}, got {value!r:.100}")
    return value


def _is_choice(kind: Any) -> bool:
    """A Literal, or a union of Literals."""
    if get_origin(kind) in (Union, types.UnionType):
        return all(get_origin(part) is Literal for part in get_args(kind))
    return get_origin(kind) is Literal


def _choice(value: Any, kind: Any) -> Any:
    parts = [kind] if get_origin(kind) is Literal else get_args(kind)
    choices = [choice for part in parts for choice in get_args(part)]
    if value not in choices:
        raise ValueError(f"must be one of {', '.join(map(str, choices))}, got {value!r:.100}")
    return value


def _messages(error: BaseException, path: str) -> list[str]:
    """What is wrong, a message for each value, from the nested errors of cattrs."""
    from cattrs import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

    if isinstance(error, ForbiddenExtraKeysError):
        return [f"{_joined(path, key)} is unknown" for key in sorted(error.extra_fields)]
    if isinstance(error, ClassValidationError):
        inner, others = error.group_exceptions()
        messages = [m for one, note in inner for m in _messages(one, _joined(path, note.name))]
        return messages + [m for one in others for m in _messages(one, path)]
    if isinstance(error, IterableValidationError):
        inner_items, others = error.group_exceptions()
        messages = [m for one, note in inner_items for m in _messages(one, f"{path}[{note.index}]")]
        return messages + [m for one in others for m in _messages(one, path)]
    if isinstance(error, KeyError):
        return [f"{path or 'a field'} is missing"]
    text = str(error)
    if not text.startswith("must be"):
        if isinstance(error, ValueError):  # of the dataclass, which names its field
            return [text]
        text = f"has another form ({text})"
    return [f"{path} {text}" if path else text]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
