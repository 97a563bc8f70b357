"""Joins what stage 2 left: candidates, Pareto front, generations, the chosen network, exact answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.analysis.exact import (
    best_within,
    exact_front,
    exact_optima,
    holds_whole_space,
    lambda_intervals,
    studied_exponents,
)
from pipeline.config.tree import Config
from pipeline.report.contents_search import (
    Candidate,
    ChosenCandidate,
    Course,
    Exact,
    ExactAnswers,
    Generation,
    Part,
    Search,
)
from pipeline.storage.records import EvaluationRow, ReplayResult, SearchResult, SupernetResult, complete_rows
from snn.fitness import Evaluation, pareto_front
from snn.search_space import Architecture, Pool, SearchedLayer


def join_search(
    config: Config,
    supernet: SupernetResult | None,
    result: SearchResult | None,
    rows: Sequence[EvaluationRow],
) -> Search:
    """The search so far; `result` is None while it is unfinished."""
    reference = result.spikes_reference if result else supernet.spikes_reference if supernet else None
    return Search(
        scoring=config.search.scoring,
        algorithm=config.search.algorithm,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=reference,
        space_size=len(config.network.search_space()),
        num_workers=result.num_workers if result else None,
        num_evaluations=len(rows),
        num_failed=sum(bool(row.error) for row in rows),
        best=_chosen(result.best) if result else None,
        network=_network(config, result.best) if result else (),
        pareto_front=_front(rows),
        course=_course(result) if result else None,
        generations=_generations(rows),
        evaluations=tuple(_candidate(row) for row in rows),
        probability_best=result.probability_best if result else None,
        doubts=result.doubts if result else (),
    )


def join_exact(
    config: Config,
    rows: Sequence[EvaluationRow],
    replayed: Sequence[ReplayResult],
    spikes_reference: float | None,
) -> Exact | None:
    """The exact answers of a table and the replays on it; None if there are neither."""
    if spikes_reference is None or not holds_whole_space(rows, config.network.search_space()):
        return Exact(None, tuple(replayed)) if replayed else None
    budget = config.search.max_spikes
    answers = ExactAnswers(
        num_failed=sum(row.evaluation is None for row in rows),
        front_size=len(exact_front(rows)),
        optima=tuple(exact_optima(rows, spikes_reference, studied_exponents(config.search))),
        max_spikes=budget,
        best_within=None if budget is None else best_within(rows, budget),
        lambda_intervals=tuple(lambda_intervals(rows)),
    )
    return Exact(answers, tuple(replayed))


def _candidate(row: EvaluationRow) -> Candidate:
    return Candidate(
        row.candidate_id,
        row.generation,
        row.architecture,
        row.evaluation.accuracy if row.evaluation else None,
        row.evaluation.spikes if row.evaluation else None,
        row.fitness,
        row.worker,
        row.error,
    )


def _chosen(row: EvaluationRow) -> ChosenCandidate:
    evaluation = _measured(row)
    return ChosenCandidate(
        candidate_id=row.candidate_id,
        generation=row.generation,
        architecture=row.architecture,
        parents=row.parents,
        accuracy=evaluation.accuracy,
        spikes=evaluation.spikes,
        fitness=row.fitness,
        firing_rate=evaluation.firing_rate,
        num_samples=evaluation.num_samples,
        spikes_per_layer=evaluation.spikes_per_layer,
        firing_rate_per_layer=evaluation.firing_rate_per_layer,
        error=row.error,
        worker=row.worker,
        seconds=row.seconds,
        synops=evaluation.synops,
    )


def _measured(row: EvaluationRow) -> Evaluation:
    """The evaluation of a candidate that cannot have failed."""
    assert row.evaluation is not None, f"candidate {row.candidate_id} has no evaluation"
    return row.evaluation


def _front(rows: Sequence[EvaluationRow]) -> tuple[int, ...]:
    """Ids of the Pareto front of the candidates that were not given up early."""
    measured = [(row.candidate_id, _measured(row)) for row in complete_rows(rows)]
    finite = [(number, evaluation) for number, evaluation in measured if _is_finite(evaluation)]
    front = pareto_front([(evaluation.accuracy, evaluation.spikes) for _, evaluation in finite])
    return tuple(finite[index][0] for index in front)


def _is_finite(evaluation: Evaluation) -> bool:
    return math.isfinite(evaluation.accuracy) and math.isfinite(evaluation.spikes)


def _course(result: SearchResult) -> Course:
    return Course(
        result.engine,
        result.num_known,
        result.num_extras,
        result.num_stopped,
        result.samples_saved,
        result.evaluators_started,
        result.busy_share,
    )


def _generations(rows: Sequence[EvaluationRow]) -> tuple[Generation, ...]:
    """Best and mean fitness of each generation, and the best up to it."""
    generations = []
    best_so_far: float | None = None
    for number in sorted({row.generation for row in rows}):
        members = [row for row in rows if row.generation == number]
        fitness = [row.fitness for row in members if row.fitness is not None and math.isfinite(row.fitness)]
        best = max(fitness, default=None)
        mean = sum(fitness) / len(fitness) if fitness else None
        best_so_far = max((value for value in (best_so_far, best) if value is not None), default=None)
        generations.append(Generation(number, len(members), best, mean, best_so_far))
    return tuple(generations)


def _network(config: Config, row: EvaluationRow) -> tuple[Part, ...]:
    """Parts of a candidate's network from input to output; one that counts no spikes has 0."""
    evaluation = _measured(row)
    return tuple(
        Part(
            name,
            block,
            channels,
            evaluation.spikes_per_layer.get(name, 0.0),
            evaluation.firing_rate_per_layer.get(name),
        )
        for name, block, channels in _parts(config, row.architecture, evaluation.spikes_per_layer)
    )


def _parts(
    config: Config, architecture: str, spikes_per_layer: Mapping[str, float]
) -> list[tuple[str, str, int | None]]:
    """Name, block and output channels of each part."""
    backbone = config.network.make_backbone("image")
    channels: int | None = backbone.stem_channels
    parts = [("stem", "3x3 convolution", channels)]
    if "stem_reduction" in spikes_per_layer:
        parts.append(("stem_reduction", "pooling, 3x3 convolution", channels))
    blocks = iter(Architecture.parse(architecture, len(backbone.layers)).blocks)
    for part in backbone.body:
        if isinstance(part, SearchedLayer):
            channels = part.out_channels
            parts.append((part.name, next(blocks), channels))
        else:
            parts.append((part.name, _pool_text(part), part.channels))
    if backbone.spiking_global_pool:
        parts.append(("global_pool", "global average pool", channels))
    return [*parts, ("head", "voting neurons", None)]


def _pool_text(pool: Pool) -> str:
    return "2x2 max-pool" if pool.kind == "max" else "2x2 average pool"
