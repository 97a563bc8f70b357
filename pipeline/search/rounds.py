"""Candidates of a search that are measured on growing parts of D_val and drop out in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pipeline.algorithms.elimination import SequentialElimination
from pipeline.algorithms.history import Candidate
from pipeline.storage.records import EvaluationRow, Shard
from snn.fitness import joined
from snn.search_space import count_block_runs


class Rounds:
    """Takes one generation after another through the looks of a sequential elimination.

    All candidates of a generation that are still in are measured on a part before the next one begins, so
    that who drops out depends neither on the number of workers nor on their speed.

    Args:
        elimination: Decides who drops out.
        known: Shards of an earlier attempt.
        store: Called with the shards of each trial.
        show: Called after each look but the last: candidates still in, samples so far.
    """

    def __init__(
        self,
        elimination: SequentialElimination,
        *,
        known: Iterable[Shard] = (),
        store: Callable[[Sequence[Shard]], None] = lambda shards: None,
        show: Callable[[int, int], None] = lambda number_in, num_samples: None,
    ) -> None:
        self.elimination = elimination
        self.store = store
        self.show = show
        self._runs = self._runs_of_all = 0
        self._known = {(shard.row.architecture, shard.look): shard for shard in known}
        self._look = 0
        self._in: dict[int, Candidate] = {}
        self._awaited: set[int] = set()
        self._rows: dict[int, EvaluationRow] = {}
        self._measured: set[int] = set()

    @property
    def idle(self) -> bool:
        """Whether the last generation is through."""
        return not self._in

    @property
    def share_saved(self) -> float:
        """Share of the block evaluations saved, in [0, 1]; common prefixes of a generation run once."""
        return 1 - self._runs / max(1, self._runs_of_all)

    @property
    def look(self) -> int:
        """Index of the part that is measured now."""
        return self._look

    @property
    def samples(self) -> tuple[int, int]:
        """The part that is measured now: first sample and end, in the order of the elimination."""
        looks = self.elimination.looks
        return (looks[self._look - 1] if self._look else 0), looks[self._look]

    def begin(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Starts a generation; returns whom to measure."""
        self._look = 0
        self._in = {candidate.id: candidate for candidate in candidates}
        self._rows = {}
        self._measured = set()
        self._runs_of_all += self._block_runs() * self.elimination.num_samples
        return self._next_part()

    def file(self, shards: Sequence[Shard]) -> None:
        """Files what was measured on this part."""
        self._measured |= {shard.row.candidate_id for shard in shards}
        self.store(shards)
        self._add(shards)

    def fail(self, candidate_id: int) -> None:
        """Takes out a candidate whose evaluation failed."""
        self._awaited.discard(candidate_id)
        self.elimination.forget(candidate_id)
        del self._in[candidate_id]
        self._rows.pop(candidate_id, None)

    def proceed(self) -> tuple[list[EvaluationRow], list[EvaluationRow], list[Candidate]]:
        """Goes on to the next part if all are measured on this one.

        Returns:
            Rows of the candidates that are through: measured now, and known from an earlier attempt; and
            whom to measure.
        """
        through: list[int] = []
        to_measure: list[Candidate] = []
        while self._in and not self._awaited:
            last = self._look == len(self.elimination.looks) - 1
            out = set(self._in) if last else self.elimination.dropped(self._look, self._in)
            through += sorted(out)
            self._in = {number: candidate for number, candidate in self._in.items() if number not in out}
            if self._in:
                self.show(len(self._in), self.samples[1])
                self._look += 1
                to_measure = self._next_part()
        rows = [self._rows.pop(number) for number in through]
        measured = [row for row in rows if row.candidate_id in self._measured]
        return measured, [row for row in rows if row.candidate_id not in self._measured], to_measure

    def _next_part(self) -> list[Candidate]:
        """Whom to measure on this part: those whose shard is not known."""
        start, end = self.samples
        self._runs += self._block_runs() * (end - start)
        self._awaited = set(self._in)
        if not self._known:
            return list(self._in.values())
        for number, candidate in self._in.items():
            shard = self._known.pop((str(candidate.architecture), self._look), None)
            if shard is not None:
                self._add([replace(shard, row=replace(shard.row, candidate_id=number))])
        return [candidate for number, candidate in self._in.items() if number in self._awaited]

    def _add(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            number = shard.row.candidate_id
            self._awaited.discard(number)
            before = self._rows.get(number)
            self._rows[number] = shard.row if before is None else _together(before, shard.row)
            self.elimination.add(self._look, number, shard.correct, shard.cost)

    def _block_runs(self) -> int:
        return count_block_runs(candidate.architecture for candidate in self._in.values())[0]


def _together(before: EvaluationRow, after: EvaluationRow) -> EvaluationRow:
    """A candidate's row over the parts of both."""
    assert before.evaluation is not None and after.evaluation is not None
    evaluation = joined([before.evaluation, after.evaluation])
    return replace(after, evaluation=evaluation, seconds=before.seconds + after.seconds)
