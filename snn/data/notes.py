"""Lists in the notes that a report shows."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES = 20


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more:,} more" if more > 0 else "")
