"""Settings as the flags of a command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.config.tree import Config
from snn.json_values import to_json


def flags_of(config: Config, base: Config) -> list[str]:
    """The flags that make `config` of `base`, such as `["--data.no-flip", "--retrain.seeds", "0", "1"]`."""
    return list(_flags(to_json(config), to_json(base), ""))


def _flags(values: Mapping[str, Any], base: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in values.items():
        flag = name.replace("_", "-")
        if value == base[name]:
            continue
        if isinstance(value, dict):
            yield from _flags(value, base[name], f"{prefix}{flag}.")
        elif isinstance(value, bool):
            yield f"--{prefix}{'' if value else 'no-'}{flag}"
        else:
            yield f"--{prefix}{flag}"
            yield from map(str, value if isinstance(value, list) else [value])
