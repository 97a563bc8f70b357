"""The evaluations of a search: known before, or measured by its trials; stored as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.storage.records import EvaluationRow

if TYPE_CHECKING:  # they need torch, which a process that only answers trials does without
    from pipeline.search.evaluation_cache import EvaluationCache
    from pipeline.storage.run_folder import RunFolder


class Results:
    """Collects the rows of a search and stores them in the run folder and the user's cache.

    Args:
        known: Evaluations of an earlier attempt or of other runs, by architecture.
        run: Where rows are stored; None stores none.
        cache: Where complete evaluations are shared with other runs; None shares none.
        num_samples: Samples of a complete evaluation; racing stops some candidates earlier.
        num_rungs: Rungs of a complete short training; halving drops some candidates earlier.
        show: Called with the rows of each trial once they are stored.

    Attributes:
        table: Rows of the search's candidates, in the order of their arrival.
        num_known: How many of them were not measured by a trial of their own.
    """

    def __init__(
        self,
        known: Mapping[str, EvaluationRow] | None = None,
        *,
        run: RunFolder | None = None,
        cache: EvaluationCache | None = None,
        num_samples: int = 0,
        num_rungs: int = 0,
        show: Callable[[Sequence[EvaluationRow]], None] = lambda rows: None,
    ) -> None:
        self.known = dict(known or {})
        self.run = run
        self.cache = cache
        self.num_samples = num_samples
        self.num_rungs = num_rungs
        self.show = show
        self.table: list[EvaluationRow] = []
        self.num_known = 0

    def add_measured(self, rows: Sequence[EvaluationRow]) -> None:
        """Stores the rows of a finished trial.

        Raises:
            OSError: They cannot be written to the run folder.
        """
        self._add(rows)
        self._share(rows)

    def add_known(self, rows: Sequence[EvaluationRow]) -> None:
        """Stores rows of candidates whose architecture had been evaluated before.

        Raises:
            OSError: They cannot be written to the run folder.
        """
        self.num_known += len(rows)
        self._add(rows)

    def add_ahead(self, row: EvaluationRow) -> None:
        """Remembers the evaluation of an architecture that the search has not asked for."""
        self.known[row.architecture] = row
        self._share([row])

    def _add(self, rows: Sequence[EvaluationRow]) -> None:
        if not rows:
            return
        if self.run is not None:
            self.run.append_evaluations(rows)
        self.table.extend(rows)
        self.show(rows)

    def _share(self, rows: Sequence[EvaluationRow]) -> None:
        if self.cache is not None:
            whole = (self.num_samples, self.num_rungs)
            self.cache.append(
                [r for r in rows if r.evaluation and (r.evaluation.num_samples, len(r.rungs)) == whole]
            )
