"""Stage 2: the spike-aware search, a Tune run on warm trial actors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from safetensors.numpy import save_file

from pipeline.algorithms.choose import make_search
from pipeline.config.tree import Config
from pipeline.console import SearchProgress, say
from pipeline.data import RunData, load_data
from pipeline.formats import duration
from pipeline.networks import load_supernet
from pipeline.ray_session import Resources, ray_session
from pipeline.search.estimate import estimate_seconds
from pipeline.search.evaluation_cache import open_cache
from pipeline.search.evaluator import Evaluator
from pipeline.search.searcher import EvolutionSearcher
from pipeline.search.trials import run_trials
from pipeline.search.weights import start_weights_holder
from pipeline.storage.files import file_sha256, write_json, write_with
from pipeline.storage.records import Cost, EvaluationRow, SearchResult, SupernetResult
from pipeline.storage.run_folder import RunFolder
from snn.engines.device import Device, find_cpu, find_device
from snn.engines.engine import EngineSpec, choose_engine, make_inference, pack_weights
from snn.engines.inference import InferenceNetwork
from snn.model.network import SpikingNetwork


def search(run: RunFolder, config: Config) -> SearchResult:
    """Searches with the super-network of `run`; what was evaluated before is not evaluated again.

    Raises:
        FileNotFoundError: The run has no super-network yet.
        ValueError: Its weights do not have the hash they were written with.
        OSError: Results cannot be written.
        RuntimeError: An evaluator could not start, or every evaluation failed.
    """
    supernet = run.read_supernet()
    algorithm = make_search(config, supernet.spikes_reference)
    data = load_data(config)
    table: list[EvaluationRow] = []
    start = time.perf_counter()
    with ray_session(config) as resources:
        device = _worker_device(resources)
        spec = _choose_engine(config, device)
        cache = open_cache(config, data, weights_sha256=supernet.weights_sha256, engine=spec.identity(device))
        known = cache.read() if config.search.cache else {}
        known |= {row.architecture: row for row in run.read_evaluations() if not row.error}
        num_val = len(data.search_val())

        def keep(rows: list[EvaluationRow]) -> None:
            if config.search.cache:
                cache.append([row for row in rows if not row.error and row.num_samples == num_val])

        with SearchProgress(algorithm, start) as progress:

            def on_rows(rows: list[EvaluationRow]) -> None:
                run.append_evaluations(rows)
                keep([row for row in rows if row.architecture not in searcher.known])
                table.extend(rows)
                progress.update(rows)

            searcher = EvolutionSearcher(
                algorithm,
                num_workers=resources.num_workers,
                known=known,
                on_rows=on_rows,
                on_extras=keep,
                racing=config.search.racing,
            )
            network = load_supernet(run, config.network, data) if spec.repacks_weights else None
            with _weights_actor(run, spec, supernet, network) as weights_actor:
                if network and spec.scales_with_threads and config.search.algorithm == "exhaustive":
                    _say_how_long(config, data, make_inference(network, spec.name), resources, len(known))
                trainable = tune.with_parameters(
                    Evaluator,
                    run_config=config.to_json(),
                    weights_actor=weights_actor,
                    engine=spec,
                    device_type=device.type,
                    spikes_reference=supernet.spikes_reference,
                )
                trials = run_trials(
                    searcher,
                    trainable,
                    num_workers=resources.num_workers,
                    cpus=config.threads_per_worker,
                    gpus=resources.gpus_per_worker,
                )
        if searcher.failure:
            raise searcher.failure
        if searcher.setup_error:
            raise RuntimeError(f"An evaluator could not start or go on: {searcher.setup_error}")
    seconds = time.perf_counter() - start
    result = _result(searcher, config, resources, table, trials, seconds, engine=spec.name, num_val=num_val)
    run.close_evaluations(table)
    write_json(run.best_file, result)
    return result


def _worker_device(resources: Resources) -> Device:
    """The device of a worker. If it is a GPU a worker is asked, as the driver's node may have none."""
    if not resources.gpus_per_worker:
        return find_cpu()
    remote: Any = ray.remote(find_device)
    return ray.get(remote.options(num_cpus=0, num_gpus=resources.gpus_per_worker).remote())


def _choose_engine(config: Config, device: Device) -> EngineSpec:
    return choose_engine(
        config.search.engine,
        device.type,
        batch_size=config.search.batch_size,
        num_threads=config.threads_per_worker,
        precision=config.search.precision,
        recalibrate=config.search.recalibrate,
    )


@contextmanager
def _weights_actor(
    run: RunFolder, spec: EngineSpec, supernet: SupernetResult, network: SpikingNetwork | None
) -> Iterator[str]:
    """The name of the actor that hands out the weights: as stored, or packed if there is a `network`."""
    name = f"weights-{uuid.uuid4().hex}"
    file, sha256 = run.supernet_weights_file, supernet.weights_sha256
    try:
        if network is not None:
            arrays = pack_weights(spec, network)
            file = run.folded_weights_file
            write_with(file, lambda path: save_file(arrays, path))
            sha256 = file_sha256(file)
        holder = start_weights_holder(file, sha256, name=name)
        try:
            yield name
        finally:
            ray.kill(holder)
    finally:
        run.folded_weights_file.unlink(missing_ok=True)


def _say_how_long(
    config: Config, data: RunData, network: InferenceNetwork, resources: Resources, num_known: int
) -> None:
    """An estimate for an exhaustive search, before it starts."""
    space, samples = config.network.search_space(), data.search_val()
    seconds = estimate_seconds(network, space, samples)
    seconds *= max(0.0, 1 - num_known / len(space))
    say(
        f"  {len(space):,} architectures on {len(samples):,} samples with {resources.num_workers} workers: "
        f"about {duration(seconds / (resources.num_workers * config.threads_per_worker))}"
    )


def _result(
    searcher: EvolutionSearcher,
    config: Config,
    resources: Resources,
    rows: list[EvaluationRow],
    trials: list[dict[str, Any]],
    seconds: float,
    *,
    engine: str,
    num_val: int,
) -> SearchResult:
    algorithm = searcher.search
    assert algorithm.finished, "Tune ended the run before the search was finished"
    chosen = algorithm.best()
    if chosen is None:
        errors = sorted({row.error for row in rows})
        raise RuntimeError(f"All {len(algorithm.results)} evaluations failed: {'; '.join(errors)[:1000]}")
    best = next(row for row in rows if row.candidate_id == chosen.id)
    budget = config.search.max_spikes
    if budget is not None and best.spikes is not None and best.spikes > budget:
        say(f"  no candidate keeps search.max_spikes = {budget:,.0f}; the chosen one has the fewest spikes")
    scored = [row for row in rows if not row.error]
    total = {name: sum(trial.get(name, 0.0) for trial in trials) for name in ("busy_seconds", "cpu_seconds")}
    gpu_seconds = seconds * resources.num_workers * resources.gpus_per_worker
    workers = {answer["worker"] for trial in trials for answer in trial.get("answers", ())}
    return SearchResult(
        best=best,
        algorithm=config.search.algorithm,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=algorithm.spikes_reference,
        num_evaluations=len(rows),
        num_failed=sum(bool(row.error) for row in rows),
        space_size=len(algorithm.space),
        num_workers=resources.num_workers,
        cost=Cost(seconds, total["cpu_seconds"], gpu_seconds),
        engine=engine,
        num_known=searcher.num_known,
        num_extras=searcher.num_extras,
        num_stopped=sum(row.num_samples < num_val for row in scored),
        samples_saved=1 - sum(row.num_samples for row in scored) / (num_val * len(scored)),
        evaluators_started=len(workers),
        busy_share=total["busy_seconds"] / (seconds * resources.num_workers),
    )
