"""YAML documents that know the line of every key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cluster.check.finding import Finding

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """One document of a YAML file.

    Attributes:
        file: Name of the file.
        values: What it holds.
        lines: Line, from 1, of each key or list item by its path.
    """

    file: str
    values: Any
    lines: Mapping[Path, int]

    def get(self, *path: str | int) -> Any:
        """The value at a path; None if there is none."""
        value = self.values
        for part in path:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value

    def finding(self, path: Sequence[str | int], *, expected: str, got: str, cure: str) -> Finding:
        """A finding at a path, or at the nearest key above it that is there."""
        there = tuple(path)
        while there not in self.lines and there:
            there = there[:-1]
        key = ".".join(map(str, path))
        return Finding(self.file, self.lines.get(there, 1), key, expected, got, cure)


def read_documents(file: str, text: str) -> list[Document]:
    """The documents of a YAML file.

    Raises:
        ValueError: It is no YAML; the message names the line.
    """
    loader = yaml.SafeLoader(text)
    documents = []
    try:
        while loader.check_node():
            node: Any = loader.get_node()  # type: ignore[no-untyped-call]
            if node is None:
                continue
            lines: dict[Path, int] = {}
            _note_lines(node, (), lines)
            documents.append(Document(file, loader.construct_document(node), lines))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{file}:{line}: expected YAML, got {error.problem}. Correct the line.") from error
    return documents


def _note_lines(node: yaml.Node, path: Path, lines: dict[Path, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[(*path, number)] = item.start_mark.line + 1
            _note_lines(item, (*path, number), lines)
