"""A search as a Ray Tune searcher. It translates between the two and decides nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.history import Candidate
from pipeline.storage.records import EvaluationRow
from snn.fitness import Evaluation

OnRows = Callable[[list[EvaluationRow]], None]

# Candidates of one trial at most: what a lost process costs, and how often there is news.
_LARGEST_GROUP = 125


class EvolutionSearcher(Searcher):
    """Hands the candidates of an ask/tell search to Tune in groups and files their results by id.

    Candidates whose evaluation is already known are answered from `known` without a trial. That is how an
    interrupted search goes on: it is asked again from the start and runs through what it knows.

    While the search awaits results, free slots get extra architectures, one a trial, that it is likely to
    ask for next. So their processes stay warm and their results are known when they are asked for; what
    the search asks for does not depend on them.

    What `on_rows` raises ends the search; it is kept as `failure`, for whoever runs the trials to raise.

    Args:
        search: The search; deterministic given the results.
        num_workers: Trials at once; candidates are shared out among them.
        known: Evaluations of an earlier attempt, by architecture.
        on_rows: Called with the rows of each finished trial, and with those answered from `known`.
        on_extras: Called with the rows of extra architectures, whose candidate_id is below 0.
        racing: Candidates may be given up as soon as they can no longer become parents.
    """

    def __init__(
        self,
        search: ArchitectureSearch,
        *,
        num_workers: int,
        known: Mapping[str, EvaluationRow] | None = None,
        on_rows: OnRows | None = None,
        on_extras: OnRows | None = None,
        racing: bool = False,
    ) -> None:
        super().__init__()
        self.search = search
        self.num_workers = num_workers
        self.known = dict(known or {})
        self.on_rows = on_rows
        self.on_extras = on_extras
        self.racing = racing
        self.setup_error = ""
        self.failure: Exception | None = None
        self.num_known = 0
        self.num_extras = 0
        self._waiting: list[list[Candidate]] = []
        self._live: dict[str, list[Candidate]] = {}
        self._await_extra: dict[str, Candidate] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next group of candidates; None while results are awaited, FINISHED at the end."""
        if not self._waiting:
            self._waiting = self._groups(self._ask_unknown())
        if self.setup_error or self.failure or (not self._waiting and self.search.finished):
            return Searcher.FINISHED
        group = self._waiting.pop(0) if self._waiting else self._extra()
        if not group:
            return None
        self._live[trial_id] = group
        threshold = self.search.parent_threshold() if self.racing else None
        return {"candidates": [(c.id, str(c.architecture)) for c in group], "threshold": threshold}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to do: a trial reports once, when it is complete."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Files the results of a group; without a result every candidate of it counts as failed.

        A trial actor that could not load data or weights ends the search: no candidate is to blame.
        """
        group = self._live.pop(trial_id, [])
        if result and result.get("setup_error"):
            self.setup_error = result["setup_error"]
            return
        answers = {} if error or not result else {a["candidate_id"]: a for a in result["answers"]}
        lost = {"error": "the trial ended without a result (its process died, hung or was stopped)"}
        rows = [self._row(c, answers.get(c.id, lost)) for c in group]
        if group and group[0].id < 0:
            self._file_extra(rows[0])
        else:
            self._file(rows)

    def save(self, checkpoint_path: str) -> None:
        """Writes the search's state as JSON."""
        Path(checkpoint_path).write_text(json.dumps(self.search.state_dict()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Reads a state of `save`."""
        self.search.load_state_dict(json.loads(Path(checkpoint_path).read_text(encoding="utf-8")))

    def __getstate__(self) -> dict[str, Any]:
        # a terminal cannot be pickled with Tune's snapshots
        return {**self.__dict__, "on_rows": None, "on_extras": None}

    def _ask_unknown(self) -> list[Candidate]:
        """All candidates to be had now, less those whose evaluation is known."""
        unknown: list[Candidate] = []
        while not unknown:
            asked = list(iter(self.search.ask, None))
            if not asked:
                break
            under_way = {str(group[0].architecture) for group in self._live.values() if group[0].id < 0}
            self._await_extra |= {text: c for c in asked if (text := str(c.architecture)) in under_way}
            not_here = self.known.keys() | under_way
            unknown = [c for c in asked if str(c.architecture) not in not_here]
            answers = [(c, self.known.get(str(c.architecture))) for c in asked]
            known = [self._row(c, row.__dict__) for c, row in answers if row is not None]
            self.num_known += len(known)
            self._file(known)
        return unknown

    def _groups(self, candidates: list[Candidate]) -> list[list[Candidate]]:
        """Shares candidates out; those of a group have long prefixes in common."""
        ordered = sorted(candidates, key=lambda c: (c.generation, c.architecture.blocks))
        groups, start = [], 0
        for size in group_sizes(len(ordered), self.num_workers):
            groups.append(ordered[start : start + size])
            start += size
        return groups

    def _extra(self) -> list[Candidate]:
        """One architecture ahead of the search, if it awaits results and there is one left."""
        if self.on_extras is None or not self._live:
            return []
        busy = {str(c.architecture) for group in self._live.values() for c in group}
        for architecture in self.search.likely_next():
            if str(architecture) not in self.known and str(architecture) not in busy:
                self.num_extras += 1
                return [Candidate(-self.num_extras, self.search.generation, architecture)]
        return []

    def _file_extra(self, row: EvaluationRow) -> None:
        """Keeps what an extra trial found; the search may have asked for it meanwhile."""
        candidate = self._await_extra.pop(row.architecture, None)
        if row.error:
            if candidate is not None:
                self._waiting.append([candidate])
            return
        self.known[row.architecture] = row
        if self.on_extras is not None:
            self.on_extras([row])
        if candidate is not None:
            self.num_known += 1
            self._file([self._row(candidate, row.__dict__)])

    def _row(self, candidate: Candidate, answer: Mapping[str, Any]) -> EvaluationRow:
        row = EvaluationRow(
            candidate_id=candidate.id,
            generation=candidate.generation,
            architecture=str(candidate.architecture),
            parents=candidate.parents,
            error=answer["error"],
            worker=answer.get("worker", ""),
            seconds=answer.get("seconds", 0.0),
        )
        if row.error:
            return row
        evaluation = _evaluation(answer)
        measured = {name: value for name, value in vars(evaluation).items() if name != "macs"}
        return replace(row, fitness=self.search.fitness(evaluation), **measured)

    def _file(self, rows: list[EvaluationRow]) -> None:
        for row in rows:
            self.search.tell(row.candidate_id, None if row.error else _evaluation(row.__dict__))
        if not rows or self.on_rows is None:
            return
        try:
            self.on_rows(rows)
        except Exception as error:  # Tune would not tell of it, and try the trial again
            self.failure = self.failure or error


def group_sizes(number: int, num_workers: int) -> Iterable[int]:
    """Sizes of the groups that `number` candidates are handed out in: large ones first, then smaller ones.

    Each takes half of a worker's share of what is left, so that prefixes are shared while there is much to
    do and all workers finish together (guided self-scheduling, Polychronopoulos and Kuck, IEEE
    Transactions on Computers C-36(12), 1987).
    """
    while number > 0:
        size = min(_LARGEST_GROUP, -(-number // (2 * num_workers)))
        yield size
        number -= size


def _evaluation(values: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        accuracy=values["accuracy"],
        spikes=values["spikes"],
        firing_rate=values["firing_rate"],
        num_samples=values["num_samples"],
        synops=values.get("synops"),
        spikes_per_layer=values["spikes_per_layer"],
        firing_rate_per_layer=values["firing_rate_per_layer"],
    )
