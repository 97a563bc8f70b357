"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A mistake in a file.

    Attributes:
        file: Name of the file.
        line: Its line, from 1.
        key: Path of the key, parts joined by dots; empty where the file has no keys.
        expected: What belongs there.
        got: What stands there.
        cure: What to do.
    """

    file: str
    line: int
    key: str
    expected: str
    got: str
    cure: str

    def __str__(self) -> str:
        what = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}: {what}expected {self.expected}, got {self.got}. {self.cure}"
