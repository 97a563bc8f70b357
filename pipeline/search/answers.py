"""What a trial of the search returns; light, so that a process that only answers starts fast."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.algorithms.history import Candidate
from pipeline.storage.records import EvaluationRow, Rung
from snn.fitness import Evaluation, SampleScores


@dataclass(frozen=True)
class Answer:
    """A trial's answer for one candidate.

    Attributes:
        candidate_id: The candidate.
        evaluation: Its measurement; None if the evaluation failed.
        error: Why it failed; empty if it did not.
        worker: Name of the process that evaluated it.
        seconds: Wall seconds of the evaluation in that process.
        rungs: As in EvaluationRow.
        scores: What each sample did, where the trial was to measure one part of D_val.
    """

    candidate_id: int
    evaluation: Evaluation | None = None
    error: str = ""
    worker: str = ""
    seconds: float = 0.0
    rungs: tuple[Rung, ...] = ()
    scores: SampleScores | None = None


LOST = Answer(-1, error="the trial ended without a result (its process died, hung or was stopped)")
"""Stands for the answers of a trial that returned none."""


def row_of(candidate: Candidate, answer: Answer, fitness: float | None) -> EvaluationRow:
    """A candidate with the answer that its trial gave."""
    return EvaluationRow(
        candidate_id=candidate.id,
        generation=candidate.generation,
        architecture=str(candidate.architecture),
        parents=candidate.parents,
        evaluation=answer.evaluation,
        fitness=fitness,
        error=answer.error,
        worker=answer.worker,
        seconds=answer.seconds,
        rungs=answer.rungs,
    )


def same_measurement(candidate: Candidate, known: EvaluationRow, fitness: float | None) -> EvaluationRow:
    """A candidate with the measurement that another row has of its architecture."""
    return replace(
        known,
        candidate_id=candidate.id,
        generation=candidate.generation,
        parents=candidate.parents,
        fitness=fitness,
    )
