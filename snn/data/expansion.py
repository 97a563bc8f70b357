"""A bound on what a compressed file may become in memory."""

from __future__ import annotations

from pathlib import Path

_ALWAYS = 64 << 20  # bytes
_TIMES = 100  # events hardly ever compress to a tenth


class Expansion:
    """What is left of the bytes that a file may expand to: 100 times its size, and always 64 MiB.

    A few kilobytes of compressed zeros would otherwise fill the memory.
    """

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        self._most = self.left = max(_ALWAYS, _TIMES * self._size)

    def add(self, num_bytes: int) -> None:
        """Counts bytes that the file expands to, preferably before they are read.

        Raises:
            ValueError: They are too many.
        """
        self.left -= num_bytes
        if self.left < 0:
            raise ValueError(
                f"its {self._size:,} bytes expand to more than {self._most / 2**20:,.0f} MiB, as those of "
                f"no data set do"
            )
