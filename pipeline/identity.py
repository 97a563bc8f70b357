"""Which settings belong to a run's identity: said where a setting is declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from snn.json_values import to_json

NO_IDENTITY = MappingProxyType({"identity": False})
"""Metadata of a field on which no result depends: a run may be resumed with another value."""


def added(neutral: Any) -> Mapping[str, Any]:
    """Metadata of a setting that earlier versions did not have.

    Args:
        neutral: The value at which results are those of the earlier versions. Identities leave it out, so
            that run folders and cached results of those versions stay valid.
    """
    return MappingProxyType({"neutral": neutral})


def identity_of(settings: Any, prefix: str = "") -> dict[str, Any]:
    """The settings that results depend on, as `section.field` -> JSON value.

    Args:
        settings: A dataclass of settings and of further dataclasses, its sections.
        prefix: Name of the section with a dot behind it; empty for the whole tree.
    """
    values: dict[str, Any] = {}
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if NO_IDENTITY.items() <= setting.metadata.items() or _is_neutral(setting, value):
            continue
        if dataclasses.is_dataclass(value):
            values |= identity_of(value, f"{prefix}{setting.name}.")
        else:
            values[prefix + setting.name] = to_json(value)
    return values


def with_added(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Settings that an earlier version wrote, completed by those added since, at their neutral values.

    Args:
        values: JSON values of `cls`, one nested object a section.
        cls: A dataclass of settings and of further dataclasses, its sections.
    """
    completed, kinds = dict(values), get_type_hints(cls)
    for setting in dataclasses.fields(cls):
        if "neutral" in setting.metadata:
            completed.setdefault(setting.name, to_json(setting.metadata["neutral"]))
        elif dataclasses.is_dataclass(kinds[setting.name]) and isinstance(values.get(setting.name), dict):
            completed[setting.name] = with_added(values[setting.name], kinds[setting.name])
    return completed


def _is_neutral(setting: dataclasses.Field[Any], value: Any) -> bool:
    return "neutral" in setting.metadata and value == setting.metadata["neutral"]
