"""Which settings belong to a run's identity: said where a setting is declared."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any

from pipeline.json_values import to_json

NO_IDENTITY = MappingProxyType({"identity": False})
"""Metadata of a field on which no result depends: a run may be resumed with another value."""


def identity_of(settings: Any, prefix: str = "") -> dict[str, Any]:
    """The settings that results depend on, as `section.field` -> JSON value.

    Args:
        settings: A dataclass of settings and of further dataclasses, its sections.
        prefix: Name of the section with a dot behind it; empty for the whole tree.
    """
    values: dict[str, Any] = {}
    for setting in dataclasses.fields(settings):
        value = getattr(settings, setting.name)
        if NO_IDENTITY.items() <= setting.metadata.items():
            continue
        if dataclasses.is_dataclass(value):
            values |= identity_of(value, f"{prefix}{setting.name}.")
        else:
            values[prefix + setting.name] = to_json(value)
    return values
