"""The evaluations of a search: a file per trial while it runs, one table at the end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.storage.evaluations import shards_to_parquet, to_parquet
from pipeline.storage.names import BEST, EVALUATION_PARTS, EVALUATIONS, SHARDS
from pipeline.storage.origin import SealedFiles
from pipeline.storage.records import EvaluationRow, Shard

logger = logging.getLogger(__name__)


class EvaluationFiles:
    """Writes and reads the evaluations of a run folder.

    Args:
        sealed: The folder's files.
    """

    def __init__(self, sealed: SealedFiles) -> None:
        self.sealed = sealed

    def append(self, rows: Sequence[EvaluationRow], made_with: Mapping[str, Any]) -> None:
        """Stores the rows of one trial; each call adds a file, so that nothing earlier can be harmed."""
        content = hashlib.sha256("/".join(row.architecture for row in rows).encode()).hexdigest()
        name = f"{rows[0].candidate_id:06d}-{content[:8]}.parquet"
        self.sealed.files.put(f"{EVALUATION_PARTS}/{name}", to_parquet(rows, made_with))

    def append_shards(self, shards: Sequence[Shard], made_with: Mapping[str, Any]) -> None:
        """Stores the shards of one trial; as `append`."""
        texts = "/".join(shard.row.architecture for shard in shards)
        content = hashlib.sha256(texts.encode()).hexdigest()
        name = f"{shards[0].look:02d}-{shards[0].row.candidate_id:06d}-{content[:8]}.parquet"
        self.sealed.files.put(f"{SHARDS}/{name}", shards_to_parquet(shards, made_with))

    def read_shards(self, made_with: Mapping[str, Any]) -> Iterator[Shard]:
        """The shards of a search that is not finished; damaged files are skipped.

        Raises:
            ValueError: A file is of another origin.
        """
        for name in self._names(SHARDS):
            try:
                table = self.sealed.shards(name, "its candidates are measured again")
            except ValueError as error:
                logger.warning("%s", error)
                continue
            self.sealed.check_origin(name, table.made_with, made_with)
            yield from table.rows

    def read(self, made_with: Mapping[str, Any], *, finished: bool) -> list[EvaluationRow]:
        """All rows by candidate id; failures of an earlier attempt after the others.

        Args:
            made_with: What they must have been made with.
            finished: Whether the search is; damaged files of an unfinished one are skipped.

        Raises:
            FileNotFoundError: The table of a finished search is missing.
            ValueError: It is damaged, or a file is of another origin.
        """
        if finished or self.sealed.files.exists(EVALUATIONS):
            advice = f"delete '{self.sealed.shown(BEST)}' too to search again"
            table = self.sealed.table(EVALUATIONS, advice)
            self.sealed.check_origin(EVALUATIONS, table.made_with, made_with)
            rows = table.rows
        else:
            rows = [row for name in self.parts() for row in self._part(name, made_with)]
        return sorted(rows, key=lambda row: (bool(row.error), row.candidate_id))

    def parts(self) -> list[str]:
        """Names of the files of trials."""
        return self._names(EVALUATION_PARTS)

    def close(self, rows: Sequence[EvaluationRow], made_with: Mapping[str, Any]) -> None:
        """Writes the table of a finished search and removes the parts."""
        table = sorted(rows, key=lambda row: row.candidate_id)
        self.sealed.files.put(EVALUATIONS, to_parquet(table, made_with))
        for part in (*self.parts(), *self._names(SHARDS)):
            self.sealed.files.delete(part)

    def _names(self, folder: str) -> list[str]:
        return [name for name in self.sealed.files.list(folder) if name.endswith(".parquet")]

    def _part(self, name: str, made_with: Mapping[str, Any]) -> list[EvaluationRow]:
        try:
            table = self.sealed.table(name, "its candidates are evaluated again")
        except ValueError as error:
            logger.warning("%s", error)
            return []
        self.sealed.check_origin(name, table.made_with, made_with)
        return table.rows
