"""Joins what stage 2 left: candidates, Pareto front, generations, the chosen network, exact answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipeline.algorithms.settings import SearchSettings
from pipeline.analysis.effects import effects_of
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
    FrontOf,
    Generation,
    Part,
    Search,
)
from pipeline.storage.records import EvaluationRow, ReplayResult, SearchResult, SupernetResult, complete_rows
from snn.fitness import Evaluation, cost_of, pareto_front
from snn.options import COSTS, CostName
from snn.search_space import Architecture, Pool, SearchedLayer

_MOST_LISTED = 20_000


def join_search(
    config: Config,
    supernet: SupernetResult | None,
    result: SearchResult | None,
    rows: Sequence[EvaluationRow],
) -> Search:
    """The search so far; `result` is None while it is unfinished."""
    reference = result.spikes_reference if result else supernet.spikes_reference if supernet else None
    fronts = _fronts(rows, config.search.spike_exponent)
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
        cost=config.search.cost,
        pareto_front=_front(rows, config.search.cost),
        fronts=fronts,
        course=_course(result) if result else None,
        generations=_generations(rows),
        evaluations=tuple(_candidate(row) for row in _listed(rows, fronts)),
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
    settings, complete = config.search, complete_rows(rows)
    answers = ExactAnswers(
        num_failed=sum(row.evaluation is None for row in rows),
        num_dropped=sum(row.evaluation is not None for row in rows) - len(complete),
        cost=settings.cost,
        front_size=len(exact_front(complete, settings.cost)),
        optima=tuple(exact_optima(complete, spikes_reference, studied_exponents(settings), settings.cost)),
        budgets=settings.budgets_text,
        best_within=best_within(complete, settings) if settings.budgets else None,
        lambda_intervals=tuple(lambda_intervals(complete, settings.cost)),
        effects=effects_of(rows, config.network.search_space(), settings.cost),
    )
    return Exact(answers, tuple(replayed))


def _listed(rows: Sequence[EvaluationRow], fronts: Sequence[FrontOf]) -> Sequence[EvaluationRow]:
    """The rows that the report lists one by one: all, unless they are very many."""
    if len(rows) <= _MOST_LISTED:
        return rows
    on_front = {number for front in fronts for number in front.candidates}
    step = -(-len(rows) // _MOST_LISTED)
    return [row for i, row in enumerate(rows) if i % step == 0 or row.error or row.candidate_id in on_front]


def _candidate(row: EvaluationRow) -> Candidate:
    return Candidate(
        row.candidate_id,
        row.generation,
        row.architecture,
        row.evaluation.accuracy if row.evaluation else None,
        row.evaluation.spikes if row.evaluation else None,
        row.evaluation.synops if row.evaluation else None,
        row.evaluation.energy if row.evaluation else None,
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
        energy=evaluation.energy,
        num_parameters=evaluation.num_parameters,
    )


def _measured(row: EvaluationRow) -> Evaluation:
    """The evaluation of a candidate that cannot have failed."""
    assert row.evaluation is not None, f"candidate {row.candidate_id} has no evaluation"
    return row.evaluation


def _front(rows: Sequence[EvaluationRow], cost: CostName) -> tuple[int, ...]:
    """Ids of the Pareto front of the candidates that were not given up early."""
    measured = [(row.candidate_id, _measured(row)) for row in complete_rows(rows)]
    finite = [(number, evaluation) for number, evaluation in measured if _is_finite(evaluation)]
    front = pareto_front([(evaluation.accuracy, cost_of(evaluation, cost)) for _, evaluation in finite])
    return tuple(finite[index][0] for index in front)


def _fronts(rows: Sequence[EvaluationRow], exponent: float) -> tuple[FrontOf, ...]:
    """The fronts of all costs that every candidate has."""
    complete = [row for row in complete_rows(rows) if _is_finite(_measured(row))]
    of_spikes = set(_front(complete, "spikes"))
    fronts = []
    for cost in COSTS if complete else ():
        if any(getattr(row.evaluation, cost) is None for row in complete):
            continue
        front, settings = _front(complete, cost), SearchSettings(spike_exponent=exponent, cost=cost)
        best = max(complete, key=lambda row: settings.fitness(_measured(row), settings.reference(1.0)))
        in_common = len(of_spikes.intersection(front))
        evaluation = _measured(best)
        fronts.append(
            FrontOf(cost, front, in_common, best.architecture, evaluation.accuracy, cost_of(evaluation, cost))
        )
    return tuple(fronts)


def _is_finite(evaluation: Evaluation) -> bool:
    return math.isfinite(evaluation.accuracy) and math.isfinite(evaluation.spikes)


def _course(result: SearchResult) -> Course:
    return Course(
        result.engine,
        result.num_known,
        result.num_extras,
        result.num_stopped,
        result.samples_saved,
        result.block_runs_saved,
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
