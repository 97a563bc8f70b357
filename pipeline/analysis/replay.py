"""Replays search algorithms on the table of a whole space: how near to its optimum do they come?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import make_search
from pipeline.analysis.exact import holds_whole_space
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config
from pipeline.storage.records import EvaluationRow, ReplayResult
from pipeline.storage.run_folder import RunFolder
from snn.fitness import Evaluation

ALGORITHMS: tuple[str, ...] = get_args(get_type_hints(SearchConfig)["algorithm"])
# `optuna` takes seconds a seed, the others hundredths; `exhaustive` finds everything.
DEFAULT_ALGORITHMS = ("evolution", "random", "aging", "nsga2")
_CURVE_STEP = 20  # evaluations from one point of the curve to the next


def replay_run(
    run: RunFolder, *, num_seeds: int, algorithms: Sequence[str], budget: int | None = None
) -> list[ReplayResult]:
    """Replays on the table of a run and writes replay.json; `budget` replaces search.max_evaluations.

    Raises:
        FileNotFoundError: The run's search is not finished.
        ValueError: Its table does not hold the whole space, or an argument is out of range.
    """
    if num_seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {num_seeds}.")
    config, chosen, rows = run.read_config(), run.read_best(), run.read_evaluations()
    if budget is not None:
        settings = dataclasses.replace(config.search, max_evaluations=budget)
        config = dataclasses.replace(config, search=settings)
    space = config.network.search_space()
    if not holds_whole_space(rows, space):
        raise ValueError(
            f"'{run.path}' holds {len(rows):,} evaluations of {len(space):,} architectures; a replay needs "
            "a finished run with --search.algorithm exhaustive"
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
    """Runs each algorithm with each seed; the table answers in place of an evaluation.

    Args:
        rows: A row for each architecture of the space.
        config: Settings of the searches, but for algorithm and seed.
        seeds: Seeds of the searches.
        algorithms: Names as in `search.algorithm`.
        spikes_reference: N_avg of the fitness.

    Raises:
        ValueError: An unknown algorithm, or no architecture keeps the spike budget.
    """
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown:
        raise ValueError(f"Unknown algorithm '{unknown[0]}'; choose from: {', '.join(ALGORITHMS)}.")
    table = {row.architecture: row.evaluation for row in rows}
    results = []
    for name in algorithms:
        search_config = dataclasses.replace(config.search, algorithm=name)  # type: ignore[arg-type]
        configs = [dataclasses.replace(config, seed=seed, search=search_config) for seed in seeds]
        courses = [best_so_far(make_search(c, spikes_reference), table) for c in configs]
        optimum = _optimum_fitness(make_search(config, spikes_reference), table)
        results.append(_result(name, courses, optimum))
    return results


def best_so_far(search: ArchitectureSearch, table: Mapping[str, Evaluation | None]) -> list[float]:
    """Runs a search to its end; the best fitness after each evaluation, in the order of the ids.

    Before the first candidate that did not fail and keeps the spike budget it is 0.
    """
    while asked := list(iter(search.ask, None)):
        for candidate in asked:
            search.tell(candidate.id, table[str(candidate.architecture)])
    course, best = [], 0.0
    for candidate in search.candidates:
        best = max(best, _worth(search, search.results[candidate.id]))
        course.append(best)
    return course


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
    """Evaluations up to the optimum; more than the budget if it was not found."""
    return f">{budget:,}" if number is None else f"{number:,}"


def _worth(search: ArchitectureSearch, evaluation: Evaluation | None) -> float:
    """The fitness; 0 for one that failed or is above the spike budget."""
    budget = search.settings.max_spikes
    if evaluation is None or (budget is not None and evaluation.spikes > budget):
        return 0.0
    return search.fitness(evaluation)


def _optimum_fitness(search: ArchitectureSearch, table: Mapping[str, Evaluation | None]) -> float:
    budget, spikes = search.settings.max_spikes, [e.spikes for e in table.values() if e is not None]
    if budget is not None and spikes and min(spikes) > budget:
        raise ValueError(
            f"No architecture of the table keeps search.max_spikes = {budget:,}; "
            f"the fewest spikes are {min(spikes):,}."
        )
    return max(_worth(search, evaluation) for evaluation in table.values())


def _result(algorithm: str, courses: Sequence[Sequence[float]], optimum: float) -> ReplayResult:
    budget = len(courses[0])
    points = [*range(_CURVE_STEP, budget, _CURVE_STEP), budget]
    regrets = [optimum - course[-1] for course in courses]
    found = [next((i for i, best in enumerate(c, start=1) if best >= optimum), None) for c in courses]
    until = [math.inf if number is None else number for number in found]
    return ReplayResult(
        algorithm=algorithm,
        num_seeds=len(courses),
        budget=budget,
        optimum_fitness=optimum,
        regrets=tuple(regrets),
        relative_regrets=tuple(regret / optimum if optimum else 0.0 for regret in regrets),
        regret_quartiles=_quartiles(regrets),
        found_share=sum(number is not None for number in found) / len(found),
        evaluations_to_optimum=tuple(found),
        evaluations_quartiles=_whole(_quartiles(until)),
        curve_evaluations=tuple(points),
        mean_regret=tuple(
            sum(optimum - course[point - 1] for course in courses) / len(courses) for point in points
        ),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, each one of the values, so that infinity is allowed."""
    ordered = sorted(values)
    low, middle, high = (ordered[math.ceil(len(ordered) * share) - 1] for share in (0.25, 0.5, 0.75))
    return low, middle, high


def _whole(values: tuple[float, float, float]) -> Any:
    return tuple(None if math.isinf(value) else int(value) for value in values)
