"""Replays of search algorithms on the table of a whole space: how close to its optimum do they come?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.history import History
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.algorithms.settings import AlgorithmName, SearchSettings
from pipeline.analysis.exact import holds_whole_space
from pipeline.config.tree import Config
from pipeline.storage.records import EvaluationRow, ReplayResult
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation
from snn.options import Range
from snn.search_space import Architecture, CategoricalSpace

ALGORITHMS: tuple[AlgorithmName, ...] = get_args(AlgorithmName)
# `optuna` takes seconds a seed, the others hundredths; `exhaustive` always finds the optimum.
DEFAULT_ALGORITHMS = ("evolution", "random", "aging", "nsga2")
_CURVE_STEP = 20  # evaluations between two points of the curve


def replay_run(
    run: RunFolder, *, num_seeds: int, algorithms: Sequence[str], **changes: Any
) -> list[ReplayResult]:
    """Replays on the table of a run and writes replay.json.

    Args:
        run: A finished exhaustive run.
        num_seeds: Searches of each algorithm.
        algorithms: Names as in `search.algorithm`.
        changes: Settings of the search (the fields of SearchSettings) that differ from the run's.

    Raises:
        FileNotFoundError: The run's search is not finished.
        ValueError: Its table does not hold the whole space, or an argument is out of range.
    """
    check_num_seeds(num_seeds)
    config, chosen, rows = run.read_config(), run.read_best(), run.read_evaluations()
    config = dataclasses.replace(config, search=dataclasses.replace(config.search, **changes))
    space = config.network.search_space()
    if not holds_whole_space(rows, space):
        raise ValueError(
            f"'{run}' holds {len(rows):,} evaluations of {len(space):,} architectures; a replay needs "
            "a finished run with --search.algorithm exhaustive"
        )
    if config.search.elimination_risk is not None:
        raise ValueError(
            f"'{run}' dropped candidates early, so that its table is not exact; a replay needs an exhaustive "
            "run without --search.elimination-risk"
        )
    reference = chosen.spikes_reference
    results = replay(rows, config, range(num_seeds), algorithms, spikes_reference=reference)
    run.write_replay(results)
    return results


def replay(
    rows: Sequence[EvaluationRow],
    config: Config,
    seeds: Sequence[int],
    algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
    *,
    spikes_reference: float,
) -> list[ReplayResult]:
    """Runs each algorithm with each seed; evaluations are looked up in the table.

    Args:
        rows: One row for each architecture of the space.
        config: Settings of the searches, except for algorithm and seed.
        seeds: Seeds of the searches.
        algorithms: Names as in `search.algorithm`.
        spikes_reference: N_avg of the fitness.

    Raises:
        ValueError: An unknown algorithm, or no architecture is within the budgets.
    """
    scores = {Architecture.parse(row.architecture): row.evaluation for row in rows}
    return replay_scores(
        scores,
        config.network.search_space(),
        config.search,
        seeds,
        algorithms,
        spikes_reference=spikes_reference,
    )


def replay_scores(
    scores: Mapping[Architecture, Evaluation | None],
    space: CategoricalSpace,
    settings: SearchSettings,
    seeds: Sequence[int],
    algorithms: Sequence[str] = DEFAULT_ALGORITHMS,
    *,
    spikes_reference: float,
) -> list[ReplayResult]:
    """Runs each algorithm with each seed on any categorical space; for the other arguments see `replay`.

    Args:
        scores: The evaluation of each architecture of the space, None for a failed one.
        space: The space.
        settings: Settings of the searches, except for the algorithm.
    """
    names = [_known(name) for name in algorithms]
    optimum = _optimum_fitness(History(space, settings, spikes_reference=spikes_reference), scores.values())
    results = []
    for name in names:
        chosen = dataclasses.replace(settings, algorithm=name)
        searches = [
            build_search(space, chosen, seed=seed, spikes_reference=spikes_reference) for seed in seeds
        ]
        for search in searches:
            run_in_process(search, scores.__getitem__)
        results.append(_result(name, [best_so_far(search) for search in searches], optimum))
    return results


def check_num_seeds(num_seeds: int) -> None:
    """Raises ValueError unless a replay can take that many seeds."""
    if expected := Range(1, 100_000).expected(num_seeds):
        raise ValueError(f"--seeds must be {expected}, got {num_seeds}.")


def best_so_far(search: ArchitectureSearch) -> list[float]:
    """The best fitness after each evaluation of a finished search, in the order of the ids.

    It is 0 before the first candidate that did not fail and is within the budgets.
    """
    curve, best = [], 0.0
    for candidate in search.candidates:
        best = max(best, _fitness_within_budget(search.history, search.results[candidate.id]))
        curve.append(best)
    return curve


def replay_table(results: Sequence[ReplayResult]) -> str:
    """The results as text of at most 100 columns."""
    lines = [
        f"{'':<11} {'evalua-':>7}  {'regret of the best fitness found':^34}  {'optimum':>7}  "
        f"{'evaluations up to it':^24}",
        f"{'algorithm':<11} {'tions':>7}  {'median':>8} {'(quartiles)':^19} {'of it':>5}  {'found':>7}  "
        f"{'median':>8} {'(quartiles)':^15}".rstrip(),
    ]
    for result in results:
        low, median, high = (f"{value:.5f}" for value in result.regret_quartiles)
        share = result.regret_quartiles[1] / result.optimum_fitness if result.optimum_fitness else 0.0
        first, middle, last = (until_text(number, result.budget) for number in result.evaluations_quartiles)
        lines.append(
            f"{result.algorithm:<11} {result.budget:>7,}  {median:>8} {f'({low} - {high})':^19} "
            f"{share:>5.1%}  {result.found_share:>7.0%}  {middle:>8} {f'({first} - {last})':^15}"
        )
    return "\n".join(lines)


def until_text(number: int | None, budget: int) -> str:
    """Evaluations up to the optimum; "more than the budget" if it was not found."""
    return f">{budget:,}" if number is None else f"{number:,}"


def _known(name: str) -> AlgorithmName:
    for algorithm in ALGORITHMS:
        if name == algorithm:
            return algorithm
    raise ValueError(f"Unknown algorithm '{name}'; choose from: {', '.join(ALGORITHMS)}.")


def _fitness_within_budget(history: History, evaluation: Evaluation | None) -> float:
    """The fitness; 0 for a failed evaluation or one above a budget."""
    if evaluation is None or history.excess(evaluation):
        return 0.0
    return history.fitness(evaluation)


def _optimum_fitness(history: History, evaluations: Iterable[Evaluation | None]) -> float:
    """The highest fitness of a whole space, under the settings of `history`."""
    scored = [evaluation for evaluation in evaluations if evaluation is not None]
    if scored and all(history.excess(evaluation) for evaluation in scored):
        raise ValueError(
            f"No architecture of the table is within {history.settings.budgets_text}; "
            f"the fewest spikes are {min(evaluation.spikes for evaluation in scored):,}."
        )
    return max((_fitness_within_budget(history, evaluation) for evaluation in scored), default=0.0)


def _result(algorithm: str, curves: Sequence[Sequence[float]], optimum: float) -> ReplayResult:
    budget = len(curves[0])
    points = [*range(_CURVE_STEP, budget, _CURVE_STEP), budget]
    regrets = [optimum - curve[-1] for curve in curves]
    first = [next((i for i, best in enumerate(c, start=1) if best >= optimum), None) for c in curves]
    return ReplayResult(
        algorithm=algorithm,
        num_seeds=len(curves),
        budget=budget,
        optimum_fitness=optimum,
        regrets=tuple(regrets),
        relative_regrets=tuple(regret / optimum if optimum else 0.0 for regret in regrets),
        regret_quartiles=_quartiles(regrets),
        found_share=sum(number is not None for number in first) / len(first),
        evaluations_to_optimum=tuple(first),
        evaluations_quartiles=_integers(
            _quartiles([math.inf if number is None else number for number in first])
        ),
        curve_evaluations=tuple(points),
        mean_regret=tuple(
            sum(optimum - curve[point - 1] for curve in curves) / len(curves) for point in points
        ),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, each one of the values, so that infinity is allowed."""
    ordered = sorted(values)
    low, middle, high = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.25, 0.5, 0.75))
    return low, middle, high


def _integers(values: tuple[float, float, float]) -> Any:
    return tuple(None if math.isinf(value) else int(value) for value in values)
