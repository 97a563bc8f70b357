"""An ask/tell search as a Ray Tune searcher. It translates between the two and decides nothing."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.halving import SuccessiveHalving
from pipeline.algorithms.history import Candidate
from pipeline.search.answers import LOST, Answer, row_of, same_measurement
from pipeline.search.results import Results
from pipeline.search.rounds import Rounds
from pipeline.search.speculation import Speculation
from pipeline.storage.records import EvaluationRow, Rung, Shard
from snn.fitness import Evaluation

# Largest number of candidates of one trial: what a lost process costs, and the interval between reports.
LARGEST_GROUP = 125
# Losses of a candidate, with its process or because it hung, after which it counts as failed.
_MOST_LOSSES = 3


class AskTellSearcher(Searcher):
    """Hands the candidates of a search to Tune in groups and files their results by id.

    Candidates whose evaluation is known are answered without a trial. That is how an interrupted search
    resumes: it is asked again from the start and runs through what it knows.

    An error while results are stored ends the search; it is kept as `failure`, for whoever runs the trials
    to raise.

    Args:
        search: The search; deterministic given the results.
        results: Known evaluations, and where new ones are stored.
        num_workers: Trials at once; candidates are shared out among them.
        largest_group: Largest number of candidates of one trial.
        racing: Candidates may be stopped as soon as they can no longer become parents.
        halving: Which candidates go on at the rungs of a short training; None if the trials have no rungs.
        rounds: Candidates are measured on one part of D_val after another, and who stays in between; None
            measures each on all of it at once.
        speculate: Evaluate architectures ahead of the search in slots that would wait.
    """

    def __init__(
        self,
        search: ArchitectureSearch,
        results: Results,
        *,
        num_workers: int,
        largest_group: int = LARGEST_GROUP,
        racing: bool = False,
        halving: SuccessiveHalving | None = None,
        rounds: Rounds | None = None,
        speculate: bool = False,
    ) -> None:
        super().__init__()
        self.search = search
        self.results = results
        self.num_workers = num_workers
        self.largest_group = largest_group
        self.racing = racing
        self.halving = halving
        self.rounds = rounds
        self.ahead = Speculation(search) if speculate else None
        self.setup_error = ""
        self.failure: Exception | None = None
        self._waiting: deque[list[Candidate]] = deque()
        self._held: list[Candidate] = []
        self._live: dict[str, list[Candidate]] = {}
        self._losses: Counter[int] = Counter()
        self._released: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next group of candidates; None while results are awaited, FINISHED at the end."""
        if not self._waiting:
            ask = self._ask_unknown if self.rounds is None else self._ask_rounds
            self._waiting.extend(self._grouped(ask()))
        if self.setup_error or self.failure or (not self._waiting and self.search.finished):
            return Searcher.FINISHED
        group = self._waiting.popleft() if self._waiting else self._ahead_of_search()
        if not group:
            return None
        self._live[trial_id] = group
        threshold = self.search.parent_threshold() if self.racing else None
        return {
            "candidates": [(c.id, str(c.architecture)) for c in group],
            "threshold": threshold,
            "part": self.rounds and self.rounds.samples,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing to do: what a trial reports at a rung is part of what it reports when it is complete."""

    def drops(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial ends at the rung that it reports."""
        answers: Sequence[Answer] = result.get("answers", ())
        if self.halving is None or not answers or not answers[0].rungs:
            return False
        return self.halving.drops(self._live[trial_id][0].generation, self._rung_values(answers[0].rungs))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Files the answers of a group; without a result its candidates are handed out again, one by one.

        A trial actor that could not load data or weights ends the search: no candidate is to blame.
        """
        group = self._live.pop(trial_id, [])
        if result and result.get("setup_error"):
            self.setup_error = result["setup_error"]
            return
        is_ahead = bool(group) and group[0].id < 0
        if (error or not result) and not is_ahead:
            self._hand_out_again(group, counted=trial_id not in self._released)
            return
        answers: Sequence[Answer] = () if error or not result else result["answers"]
        by_id = {answer.candidate_id: answer for answer in answers}
        if self.rounds is not None:
            self._file_shards(self.rounds, [(c, by_id.get(c.id, LOST)) for c in group])
            return
        rows = [self._row(candidate, by_id.get(candidate.id, LOST)) for candidate in group]
        if is_ahead:
            self._file_ahead(rows[0])
        else:
            self._file(rows)

    def release(self, trial_id: str) -> None:
        """Takes note that the loss of a trial, which follows, is not to be blamed on its candidates."""
        self._released.add(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Writes the search's state as JSON."""
        Path(checkpoint_path).write_text(json.dumps(self.search.state_dict()), encoding="utf-8")

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: Tune's snapshots are never read, and the state of a long search takes hundreds of MiB."""

    def restore(self, checkpoint_path: str) -> None:
        """Reads a state of `save`."""
        self.search.load_state_dict(json.loads(Path(checkpoint_path).read_text(encoding="utf-8")))

    def __getstate__(self) -> dict[str, Any]:
        # files and a terminal have no place in Tune's snapshots
        return {**self.__dict__, "results": None}

    def _ask_unknown(self) -> list[Candidate]:
        """All candidates that the search hands out now, less those whose evaluation is known or under way."""
        unknown: list[Candidate] = []
        while not unknown:
            asked = self._next_asked()
            if not asked:
                break
            known: list[EvaluationRow] = []
            for candidate in asked:
                row = self.results.known.get(str(candidate.architecture))
                if row is not None and self._is_usable(row, candidate):
                    known.append(self._as(candidate, row))
                elif self.ahead is None or not self.ahead.awaits(candidate):
                    unknown.append(candidate)
            self._file(known, measured=False)
        return unknown

    def _ask_rounds(self) -> list[Candidate]:
        """All candidates to measure on the next part; none while results of this one are awaited."""
        assert self.rounds is not None
        to_measure: list[Candidate] = []
        while not to_measure:
            if not self.rounds.idle:
                measured, known, to_measure = self.rounds.proceed()
                self._file([self._rated(row) for row in measured])
                self._file([self._rated(row) for row in known], measured=False)
                if not self.rounds.idle:
                    break
            elif asked := list(iter(self.search.ask, None)):
                to_measure = self.rounds.begin(asked)
            else:
                break
        return to_measure

    def _next_asked(self) -> list[Candidate]:
        """What the search hands out now. With rungs one generation, when all earlier ones have results."""
        asked = [*self._held, *iter(self.search.ask, None)]
        if self.halving is None or not asked:
            return asked
        generation = asked[0].generation
        waits = any(candidate.generation < generation for group in self._live.values() for candidate in group)
        now = [] if waits else [candidate for candidate in asked if candidate.generation == generation]
        self._held = asked[len(now) :]
        return now

    def _is_usable(self, row: EvaluationRow, candidate: Candidate) -> bool:
        """Whether a known row ends at the rung where this search would end it."""
        if self.halving is None:
            return True
        return self.halving.is_over(candidate.generation, self._rung_values(row.rungs))

    def _rung_values(self, rungs: Sequence[Rung]) -> list[float]:
        """What rungs are compared by: the fitness, or below 0 the excess over the budgets."""
        values = []
        for rung in rungs:
            evaluation = Evaluation(
                rung.accuracy,
                rung.spikes,
                firing_rate=0.0,
                num_samples=1,
                synops=rung.synops,
                energy=rung.energy,
                num_parameters=rung.num_parameters,
            )
            excess = self.search.history.excess(evaluation)
            values.append(-excess if excess else self.search.fitness(evaluation))
        return values

    def _ahead_of_search(self) -> list[Candidate]:
        """One architecture ahead of the search, if it awaits results and there is one left."""
        if self.ahead is None or not self._live:
            return []
        running = {str(candidate.architecture) for group in self._live.values() for candidate in group}
        candidate = self.ahead.start(self.results.known.keys(), running)
        return [] if candidate is None else [candidate]

    def _hand_out_again(self, group: Sequence[Candidate], *, counted: bool) -> None:
        """Puts the candidates of a lost trial first in line, unless they were lost too often."""
        if counted:
            self._losses.update(candidate.id for candidate in group)
        lost = [candidate for candidate in group if self._losses[candidate.id] >= _MOST_LOSSES]
        if self.rounds is not None:
            for candidate in lost:
                self.rounds.fail(candidate.id)
        self._waiting.extendleft([candidate] for candidate in reversed(group) if candidate not in lost)
        self._file([self._row(candidate, LOST) for candidate in lost])

    def _file_ahead(self, row: EvaluationRow) -> None:
        """Remembers the result of a trial ahead of the search, which may have asked for it meanwhile."""
        assert self.ahead is not None
        candidate = self.ahead.finish(row.architecture)
        if row.error:
            if candidate is not None:
                self._waiting.append([candidate])
            return
        self.results.add_ahead(row)
        if candidate is not None:
            self._file([self._as(candidate, row)], measured=False)

    def _file_shards(self, rounds: Rounds, answers: Sequence[tuple[Candidate, Answer]]) -> None:
        """Files what a trial measured on one part; candidates that failed are out."""
        shards, cost = [], self.search.settings.cost
        for candidate, answer in answers:
            row = self._row(candidate, answer)
            if answer.scores is None:
                rounds.fail(candidate.id)
                self._file([row])
            else:
                shards.append(Shard(row, rounds.look, answer.scores.correct, answer.scores.cost(cost)))
        if not shards:
            return
        try:
            rounds.file(shards)
        except Exception as error:  # Tune would swallow it and try the trial again
            self.failure = self.failure or error

    def _file(self, rows: Sequence[EvaluationRow], *, measured: bool = True) -> None:
        for row in rows:
            self.search.tell(row.candidate_id, row.evaluation)
            if self.halving is not None:
                self.halving.file(row.generation, self._rung_values(row.rungs))
        try:
            (self.results.add_measured if measured else self.results.add_known)(rows)
        except Exception as error:  # Tune would swallow it and try the trial again
            self.failure = self.failure or error

    def _grouped(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """Groups of candidates that have long prefixes in common."""
        ordered = sorted(candidates, key=lambda c: (c.generation, c.architecture.blocks))
        groups, start = [], 0
        for size in group_sizes(len(ordered), self.num_workers, self.largest_group):
            groups.append(ordered[start : start + size])
            start += size
        return groups

    def _row(self, candidate: Candidate, answer: Answer) -> EvaluationRow:
        return row_of(candidate, answer, self._fitness(answer.evaluation))

    def _as(self, candidate: Candidate, known: EvaluationRow) -> EvaluationRow:
        return same_measurement(candidate, known, self._fitness(known.evaluation))

    def _rated(self, row: EvaluationRow) -> EvaluationRow:
        return replace(row, fitness=self._fitness(row.evaluation))

    def _fitness(self, evaluation: Evaluation | None) -> float | None:
        return None if evaluation is None else self.search.fitness(evaluation)


def group_sizes(number: int, num_workers: int, largest: int = LARGEST_GROUP) -> Iterable[int]:
    """Sizes of the groups that `number` candidates are handed out in: large ones first, then smaller ones.

    Each is half of a worker's share of what is left, so that prefixes are shared while there is much to do
    and all workers finish together (guided self-scheduling, Polychronopoulos and Kuck, IEEE Transactions on
    Computers C-36(12), 1987).
    """
    while number > 0:
        size = min(largest, -(-number // (2 * num_workers)))
        yield size
        number -= size
