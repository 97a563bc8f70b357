"""The evolution as a Ray Tune searcher. It translates between the two and decides nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from pipeline.evolution import Candidate, SpikeAwareEvolution
from pipeline.records import EvaluationRow
from snn.fitness import Evaluation

OnRows = Callable[[list[EvaluationRow]], None]


class EvolutionSearcher(Searcher):
    """Hands the candidates of an ask/tell search to Tune in groups and files their results by id.

    Candidates whose evaluation is already known are answered from `known` without a trial. That is how an
    interrupted search goes on: it is asked again from the start and runs through what it knows.

    Args:
        search: The search; deterministic given the results.
        num_workers: Trials at once; a generation is shared out among them.
        known: Evaluations of an earlier attempt, by architecture.
        on_rows: Called with the rows of each finished trial, and with those answered from `known`.
    """

    def __init__(
        self,
        search: SpikeAwareEvolution,
        *,
        num_workers: int,
        known: Mapping[str, EvaluationRow] | None = None,
        on_rows: OnRows | None = None,
    ) -> None:
        super().__init__()
        self.search = search
        self.num_workers = num_workers
        self.known = dict(known or {})
        self.on_rows = on_rows
        self.setup_error = ""
        self._waiting: list[list[Candidate]] = []
        self._live: dict[str, list[Candidate]] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next group of candidates; None while results are awaited, FINISHED at the end."""
        if not self._waiting:
            self._waiting = self._groups(self._ask_unknown())
        if self.setup_error or (not self._waiting and self.search.finished):
            return Searcher.FINISHED
        if not self._waiting:
            return None
        group = self._waiting.pop(0)
        self._live[trial_id] = group
        return {"candidates": [(c.id, str(c.architecture)) for c in group]}

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
        lost = {"error": "the trial ended without a result (its process died or was stopped)"}
        self._file([self._row(c, answers.get(c.id, lost)) for c in group])

    def save(self, checkpoint_path: str) -> None:
        """Writes the search's state as JSON."""
        Path(checkpoint_path).write_text(json.dumps(self.search.state_dict()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Reads a state of `save`."""
        self.search.load_state_dict(json.loads(Path(checkpoint_path).read_text(encoding="utf-8")))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "on_rows": None}  # a terminal cannot be pickled with Tune's snapshots

    def _ask_unknown(self) -> list[Candidate]:
        """All candidates to be had now, less those whose evaluation is known."""
        unknown: list[Candidate] = []
        while not unknown:
            asked = list(iter(self.search.ask, None))
            if not asked:
                break
            unknown = [c for c in asked if str(c.architecture) not in self.known]
            answers = [(c, self.known.get(str(c.architecture))) for c in asked]
            self._file([self._row(c, row.__dict__) for c, row in answers if row is not None])
        return unknown

    def _groups(self, candidates: list[Candidate]) -> list[list[Candidate]]:
        """Shares candidates out evenly; those of a group have long prefixes in common."""
        most = max(1, self.search.settings.population_size // self.num_workers)
        number = math.ceil(len(candidates) / most)
        number = min(len(candidates), math.ceil(number / self.num_workers) * self.num_workers)
        ordered = sorted(candidates, key=lambda c: (c.generation, c.architecture.blocks))
        bounds = [round(i * len(ordered) / number) for i in range(number + 1)] if number else []
        return [ordered[a:b] for a, b in pairwise(bounds)]

    def _row(self, candidate: Candidate, answer: Mapping[str, Any]) -> EvaluationRow:
        evaluation = None if answer["error"] else _evaluation(answer)
        return EvaluationRow(
            candidate_id=candidate.id,
            generation=candidate.generation,
            architecture=str(candidate.architecture),
            parents=candidate.parents,
            accuracy=evaluation.accuracy if evaluation else None,
            spikes=evaluation.spikes if evaluation else None,
            fitness=self.search.fitness(evaluation) if evaluation else None,
            firing_rate=evaluation.firing_rate if evaluation else None,
            num_samples=evaluation.num_samples if evaluation else 0,
            spikes_per_layer=evaluation.spikes_per_layer if evaluation else {},
            firing_rate_per_layer=evaluation.firing_rate_per_layer if evaluation else {},
            error=answer["error"],
            worker=answer.get("worker", ""),
            seconds=answer.get("seconds", 0.0),
        )

    def _file(self, rows: list[EvaluationRow]) -> None:
        for row in rows:
            self.search.tell(row.candidate_id, None if row.error else _evaluation(row.__dict__))
        if rows and self.on_rows is not None:
            self.on_rows(rows)


def _evaluation(values: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        accuracy=values["accuracy"],
        spikes=values["spikes"],
        firing_rate=values["firing_rate"],
        num_samples=values["num_samples"],
        spikes_per_layer=values["spikes_per_layer"],
        firing_rate_per_layer=values["firing_rate_per_layer"],
    )
