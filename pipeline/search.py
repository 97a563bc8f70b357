"""Stage 2: the spike-aware search, a Tune run on warm trial actors."""

from __future__ import annotations

import dataclasses
import tempfile
import time
import uuid
from typing import Any

import ray
from ray import tune

from pipeline.artifacts import RunFolder, write_json
from pipeline.config import Config
from pipeline.console import SearchProgress
from pipeline.evaluator import Evaluator
from pipeline.evolution import RandomSearch, SearchSettings, SpikeAwareEvolution
from pipeline.ray_session import Resources, ray_session
from pipeline.records import Cost, EvaluationRow, SearchResult
from pipeline.searcher import EvolutionSearcher
from pipeline.weights import start_weights_holder

_TRIES_PER_TRIAL = 3


def search(run: RunFolder, config: Config) -> SearchResult:
    """Searches with the super-network of `run`; what was evaluated before is not evaluated again.

    Raises:
        FileNotFoundError: The run has no super-network yet.
        ValueError: Its weights do not have the hash they were written with.
        RuntimeError: An evaluator could not start, or every evaluation failed.
    """
    supernet = run.read_supernet()
    algorithm = make_search(config, supernet.spikes_reference)
    known = {row.architecture: row for row in run.read_evaluations() if not row.error}
    table: list[EvaluationRow] = []
    start = time.perf_counter()
    with ray_session(config) as resources, SearchProgress(algorithm, start) as progress:

        def on_rows(rows: list[EvaluationRow]) -> None:
            run.append_evaluations(rows)
            table.extend(rows)
            progress.update(rows)

        name = f"weights-{uuid.uuid4().hex}"
        holder = start_weights_holder(run.supernet_weights_file, supernet.weights_sha256, name=name)
        searcher = EvolutionSearcher(
            algorithm, num_workers=resources.num_workers, known=known, on_rows=on_rows
        )
        try:
            cpu_seconds = _run_trials(searcher, config, resources, weights_actor=name)
        finally:
            ray.kill(holder)
    seconds = time.perf_counter() - start
    gpu_seconds = seconds * resources.num_workers * resources.gpus_per_worker
    result = _result(algorithm, config, resources, table, Cost(seconds, cpu_seconds, gpu_seconds))
    run.close_evaluations(table)
    write_json(run.best_file, result)
    return result


def make_search(config: Config, spikes_reference: float) -> SpikeAwareEvolution:
    """The search algorithm of a run's settings."""
    fields = {field.name for field in dataclasses.fields(SearchSettings)} - {"spikes_reference"}
    values: dict[str, Any] = {name: getattr(config.search, name) for name in fields}
    kind = SpikeAwareEvolution if config.search.algorithm == "evolution" else RandomSearch
    settings = SearchSettings(**values, spikes_reference=spikes_reference)
    return kind(config.network.search_space(), settings, seed=config.seed)


def _run_trials(
    searcher: EvolutionSearcher, config: Config, resources: Resources, *, weights_actor: str
) -> float:
    """Runs trials until the searcher is finished; returns the CPU seconds of the evaluations."""
    trainable = tune.with_parameters(Evaluator, run_config=config.to_json(), weights_actor=weights_actor)
    per_worker = {"cpu": config.threads_per_worker, "gpu": resources.gpus_per_worker}
    with tempfile.TemporaryDirectory(prefix="tune-") as storage:
        tuner = tune.Tuner(
            tune.with_resources(trainable, per_worker),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=resources.num_workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_TRIES_PER_TRIAL),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        grid = tuner.fit()
        if searcher.setup_error:
            raise RuntimeError(f"An evaluator could not start on {searcher.setup_error}")
        trials = [grid[i].metrics or {} for i in range(len(grid))]
        return sum(metrics.get("cpu_seconds", 0.0) for metrics in trials)


def _result(
    algorithm: SpikeAwareEvolution,
    config: Config,
    resources: Resources,
    rows: list[EvaluationRow],
    cost: Cost,
) -> SearchResult:
    assert algorithm.finished, "Tune ended the run before the search was finished"
    ranking = algorithm.ranking()
    if not ranking:
        errors = sorted({row.error for row in rows})
        raise RuntimeError(f"All {len(algorithm.results)} evaluations failed: {'; '.join(errors)[:1000]}")
    best = next(row for row in rows if row.candidate_id == ranking[0].id)
    return SearchResult(
        best=best,
        algorithm=config.search.algorithm,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=algorithm.settings.spikes_reference,
        num_evaluations=len(rows),
        num_failed=sum(bool(row.error) for row in rows),
        space_size=len(algorithm.space),
        num_workers=resources.num_workers,
        cost=cost,
    )
