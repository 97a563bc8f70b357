"""Reads the sealed files of a run folder and refuses those that are damaged or of other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pipeline.config.tree import list_differences
from pipeline.storage.evaluations import EvaluationTable, from_parquet, shards_from_parquet
from pipeline.storage.files import Files, read_bytes, read_weights
from pipeline.storage.location import join
from pipeline.storage.names import SHARDS
from pipeline.storage.records import EvaluationRow, Shard
from pipeline.storage.sealed import Sealed, unseal, unseal_bytes
from snn.json_values import from_json

_T = TypeVar("_T")


class SealedFiles:
    """The sealed files of a folder.

    Args:
        files: Where they are.
        folder: The folder, as it is shown to people.
    """

    def __init__(self, files: Files, folder: str) -> None:
        self.files = files
        self.folder = folder

    def shown(self, name: str) -> str:
        return join(self.folder, name)

    def record(self, name: str, advice: str) -> Sealed:
        """A sealed JSON file.

        Args:
            name: Its name.
            advice: What to do if it is missing or damaged.

        Raises:
            FileNotFoundError: It is missing.
            ValueError: It is damaged or of another version.
        """
        return self._parsed(name, advice, unseal)

    def read(self, name: str, kind: type[_T], advice: str, expected: Mapping[str, Any]) -> _T:
        """A record as a dataclass, made with what is expected; otherwise raises as `record` or ValueError."""
        sealed = self.record(name, advice)
        try:
            record = from_json(sealed.values, kind)
        except ValueError as error:
            raise self.damaged(name, error, advice) from error
        self.check_origin(name, sealed.made_with, expected)
        return record

    def state(self, name: str, advice: str) -> tuple[bytes, Mapping[str, Any]]:
        """Sealed bytes and what they were made with; as `record`."""
        return self._parsed(name, advice, unseal_bytes)

    def table(self, name: str, advice: str) -> EvaluationTable[EvaluationRow]:
        """A sealed table; as `record`."""
        return self._parsed(name, advice, from_parquet)

    def shards(self, name: str, advice: str) -> EvaluationTable[Shard]:
        """A sealed table of shards; as `record`."""
        return self._parsed(name, advice, shards_from_parquet)

    def weights(self, name: str, result: str, sha256: str) -> bytes:
        """Weights whose hash a result holds.

        Raises:
            FileNotFoundError: They are missing.
            ValueError: They do not have the hash.
        """
        advice = f"restore it, or delete '{self.shown(result)}' too and train again"
        if not self.files.exists(name):
            raise FileNotFoundError(f"'{self.shown(name)}' is missing; {advice}")
        return read_weights(self.files, name, sha256, advice)

    def made_with(self, name: str) -> Mapping[str, Any]:
        """What any sealed file was made with; raises as `record`."""
        advice = "delete it"
        if name.endswith(".json"):
            return self.record(name, advice).made_with
        if name.startswith(f"{SHARDS}/"):
            return self.shards(name, advice).made_with
        if name.endswith(".parquet"):
            return self.table(name, advice).made_with
        return self.state(name, advice)[1]

    def check_origin(self, name: str, made_with: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Raises ValueError, listing the differences, unless a file was made with what is expected."""
        if differences := list_differences(made_with, expected):
            raise ValueError(
                f"'{self.shown(name)}' was made with other settings than those of the run folder:\n"
                f"{differences}\nRestore the file that belongs to it, or delete this one."
            )

    def damaged(self, name: str, error: Exception, advice: str) -> ValueError:
        """The error for a file that cannot be read."""
        return ValueError(
            f"'{self.shown(name)}' is damaged or of another version: {error}. Restore it, or delete it and "
            f"{advice}"
        )

    def _parsed(self, name: str, advice: str, parse: Callable[[bytes], _T]) -> _T:
        if not self.files.exists(name):
            raise FileNotFoundError(f"'{self.shown(name)}' is missing; {advice}")
        try:
            return parse(read_bytes(self.files, name))
        except (ValueError, RecursionError) as error:  # neither text nor JSON, or not as it was written
            raise self.damaged(name, error, advice) from error
