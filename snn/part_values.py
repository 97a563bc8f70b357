"""A number for each part of a network, in little memory: large searches keep two of them per candidate."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache


class PartValues(Mapping[str, float]):
    """An immutable mapping of names to floats that shares the names with others of the same ones.

    Args:
        values: The names and their numbers.
    """

    __slots__ = ("_names", "_numbers")

    def __init__(self, values: Mapping[str, float]) -> None:
        self._names = _shared(tuple(values))
        self._numbers = array("d", values.values())

    def __getitem__(self, name: str) -> float:
        try:
            return self._numbers[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __reduce__(self) -> tuple[type[PartValues], tuple[dict[str, float]]]:
        return PartValues, (dict(self),)

    def __repr__(self) -> str:
        return repr(dict(self))


@lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    return names
