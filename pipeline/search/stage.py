"""Stage 2: the spike-aware search, a Tune run on warm trial actors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import ray
from ray import tune

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import build_search
from pipeline.analysis.trust import judge
from pipeline.config.tree import Config
from pipeline.console import SearchProgress, say
from pipeline.data import RunData, load_data
from pipeline.formats import duration
from pipeline.interruption import at_end
from pipeline.networks import load_supernet, network_structure
from pipeline.node_facts import describe_this_node
from pipeline.ray.session import Resources
from pipeline.ray.waiting import Waiting, get_when_started
from pipeline.search.engine import choose_search_engine
from pipeline.search.estimate import estimate_seconds
from pipeline.search.evaluation_cache import EvaluationCache, open_cache
from pipeline.search.evaluator import Evaluator
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.trials import Trials, run_trials
from pipeline.search.weights import start_weights_holder
from pipeline.storage.names import FOLDED_WEIGHTS, SUPERNET_WEIGHTS
from pipeline.storage.records import Cost, EvaluationRow, SearchResult, SupernetResult
from pipeline.storage.run_folder import RunFolder
from snn.engines.device import Device, find_cpu, find_device
from snn.engines.engine import EngineSpec, make_inference, pack_weights
from snn.engines.event_driven import check_fits_kernels
from snn.engines.inference import InferenceNetwork
from snn.kernels.library import KernelsUnavailable, check_available
from snn.model.network import SpikingNetwork


def search(run: RunFolder, config: Config, resources: Resources) -> SearchResult:
    """Searches with the super-network of `run`; what was evaluated before is not evaluated again.

    Raises:
        FileNotFoundError: The run has no super-network yet.
        ValueError: Its weights do not have the hash they were written with.
        OSError: Results cannot be written.
        RuntimeError: An evaluator could not start, or every evaluation failed.
    """
    start = time.perf_counter()
    prepared = _prepare(run, config, resources)
    resources = replace(resources, num_workers=_num_workers(config, resources, prepared.algorithm))
    with SearchProgress(prepared.algorithm, start) as progress:
        searcher = AskTellSearcher(
            prepared.algorithm,
            Results(
                prepared.known,
                run=run,
                cache=prepared.cache,
                num_samples=len(prepared.data.search_val()),
                show=progress.update,
            ),
            num_workers=resources.num_workers,
            racing=config.search.racing,
            speculate=True,
        )
        trials = _run(run, config, resources, prepared, searcher)
    result = _conclude(config, resources, prepared, searcher, trials, time.perf_counter() - start)
    run.close_evaluations(searcher.results.table)
    run.write_best(result)
    return result


def check_search(config: Config, data: RunData, device_type: str) -> None:
    """Checks before a training what the search and all later evaluations need.

    Args:
        config: Settings of the run.
        data: Samples of the run.
        device_type: torch's type of the device that will evaluate, `cpu` or `cuda`.

    Raises:
        ValueError: The samples are too small for the backbone, the engine of the settings cannot evaluate a
            network of the run, or the search algorithm is not installed.
    """
    choose_search_engine(config, device_type, data)
    if config.search.engine == "event_driven":
        for text in config.retrain.architectures:
            if text != "best":
                architecture = config.network.parse_architecture(text)
                check_fits_kernels(network_structure(config.network, data, architecture))
        if config.ray.address is None:  # other machines may have a compiler
            _check_compiler()
    build_search(config.network.search_space(), config.search, seed=config.seed, spikes_reference=1.0)


def _check_compiler() -> None:
    try:
        check_available()
    except KernelsUnavailable as reason:
        raise ValueError(
            f"search.engine is 'event_driven', but {reason}. Install a C compiler, or use --search.engine "
            "dense."
        ) from reason


@dataclass(frozen=True)
class _Prepared:
    """All that a search starts from.

    Attributes:
        supernet: Result of stage 1.
        algorithm: The search.
        data: Samples of the run.
        device: Device of a worker.
        engine: How candidates are evaluated.
        cache: Evaluations shared with other runs; None if the settings leave the cache alone.
        known: Evaluations of an earlier attempt or of other runs, by architecture.
    """

    supernet: SupernetResult
    algorithm: ArchitectureSearch
    data: RunData
    device: Device
    engine: EngineSpec
    cache: EvaluationCache | None
    known: dict[str, EvaluationRow]


def _prepare(run: RunFolder, config: Config, resources: Resources) -> _Prepared:
    supernet = run.read_supernet()
    algorithm = build_search(
        config.network.search_space(),
        config.search,
        seed=config.seed,
        spikes_reference=supernet.spikes_reference,
    )
    data = load_data(config)
    device = _worker_device(resources)
    engine = choose_search_engine(config, device.type, data)
    cache = None
    if config.search.cache:
        identity = engine.identity(device)
        cache = open_cache(config, data, weights_sha256=supernet.weights_sha256, engine=identity)
    known = {} if cache is None else cache.read()
    known |= {row.architecture: row for row in run.read_evaluations() if not row.error}
    return _Prepared(supernet, algorithm, data, device, engine, cache, known)


def _run(
    run: RunFolder, config: Config, resources: Resources, prepared: _Prepared, searcher: AskTellSearcher
) -> Trials:
    """Runs the trials.

    Raises:
        RuntimeError: An evaluator could not start.
        Exception: What went wrong when results were stored.
    """
    engine, data = prepared.engine, prepared.data
    network = load_supernet(run, config.network, data) if engine.repacks_weights else None
    with _weights_actor(run, engine, prepared.supernet, network) as weights_actor:
        if network and engine.scales_with_threads and config.search.algorithm == "exhaustive":
            inference = make_inference(network, engine.name)
            _say_how_long(config, data, inference, resources, len(prepared.known))
        trainable = tune.with_parameters(
            Evaluator,
            run_config=config.to_json(),
            weights_actor=weights_actor,
            engine=engine,
            device_type=prepared.device.type,
            spikes_reference=prepared.supernet.spikes_reference,
            driver=None if config.ray.address is None else describe_this_node(config),
        )
        trials = run_trials(
            searcher,
            trainable,
            num_workers=resources.num_workers,
            cpus=config.threads_per_worker,
            gpus=resources.gpus_per_worker,
            seconds_per_candidate=config.ray.evaluation_timeout,
        )
    if searcher.failure:
        raise searcher.failure
    if searcher.setup_error:
        raise RuntimeError(f"An evaluator could not start or continue: {searcher.setup_error}")
    return trials


def _conclude(
    config: Config,
    resources: Resources,
    prepared: _Prepared,
    searcher: AskTellSearcher,
    trials: Trials,
    seconds: float,
) -> SearchResult:
    rows = searcher.results.table
    best = _chosen(config, prepared.algorithm, rows)
    num_val = searcher.results.num_samples
    samples = [row.evaluation.num_samples for row in rows if row.evaluation is not None]
    total = {
        name: sum(trial.get(name, 0.0) for trial in trials.results)
        for name in ("busy_seconds", "cpu_seconds")
    }
    workers = {answer.worker for trial in trials.results for answer in trial.get("answers", ())}
    # Where nodes come on demand there may have been fewer workers than the search could use.
    num_workers = max(1, trials.most_at_once) if resources.grows else resources.num_workers
    trust = judge(
        rows,
        best,
        chance=prepared.data.search_val().largest_share(),
        spikes_reference=prepared.supernet.spikes_reference,
        spike_exponent=config.search.spike_exponent,
    )
    return SearchResult(
        best=best,
        algorithm=config.search.algorithm,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=prepared.supernet.spikes_reference,
        num_evaluations=len(rows),
        num_failed=len(rows) - len(samples),
        space_size=len(prepared.algorithm.space),
        num_workers=num_workers,
        cost=Cost(seconds, total["cpu_seconds"], seconds * num_workers * resources.gpus_per_worker),
        engine=prepared.engine.name,
        num_known=searcher.results.num_known,
        num_extras=searcher.ahead.num_started if searcher.ahead else 0,
        num_stopped=sum(number < num_val for number in samples),
        samples_saved=1 - sum(samples) / (num_val * len(samples)),
        evaluators_started=len(workers),
        busy_share=total["busy_seconds"] / (seconds * num_workers),
        probability_best=trust.probability_best,
        doubts=trust.doubts,
    )


def _chosen(config: Config, algorithm: ArchitectureSearch, rows: list[EvaluationRow]) -> EvaluationRow:
    """The row of the best candidate.

    Raises:
        RuntimeError: Every evaluation failed.
    """
    assert algorithm.finished, "Tune ended the run before the search was finished"
    chosen = algorithm.best()
    if chosen is None:
        errors = sorted({row.error for row in rows})
        raise RuntimeError(f"All {len(algorithm.results)} evaluations failed: {'; '.join(errors)[:1000]}")
    best = next(row for row in rows if row.candidate_id == chosen.id)
    budget = config.search.max_spikes
    if budget is not None and best.evaluation is not None and best.evaluation.spikes > budget:
        say(f"  no candidate keeps search.max_spikes = {budget:,.0f}; the chosen one has the fewest spikes")
    return best


def _num_workers(config: Config, resources: Resources, algorithm: ArchitectureSearch) -> int:
    """Trial actors of the search: what fits into the nodes there are, or what it can use if more come."""
    if config.ray.num_workers is not None:
        return config.ray.num_workers
    number = algorithm.num_at_once if resources.grows else resources.num_workers
    return min(number, config.search.max_workers or number)


def _worker_device(resources: Resources) -> Device:
    """The device of a worker. If it is a GPU a worker is asked, as the driver's node may have none."""
    if not resources.gpus_per_worker:
        return find_cpu()
    gpus, remote = resources.gpus_per_worker, ray.remote(find_device)
    device: Device = get_when_started(
        remote.options(num_cpus=0, num_gpus=gpus).remote(), Waiting("a trial actor", 0, gpus)
    )
    return device


@contextmanager
def _weights_actor(
    run: RunFolder, engine: EngineSpec, supernet: SupernetResult, network: SpikingNetwork | None
) -> Iterator[str]:
    """The name of the actor that hands out the weights: as stored, or packed if there is a `network`."""
    name = f"weights-{uuid.uuid4().hex}"
    file, sha256 = SUPERNET_WEIGHTS, supernet.weights_sha256
    with at_end(lambda: run.files.delete(FOLDED_WEIGHTS)):
        if network is not None:
            file, sha256 = FOLDED_WEIGHTS, run.write_folded_weights(pack_weights(engine, network))
        holder = start_weights_holder(run.files, file, sha256, name=name)
        yield name
        ray.kill(holder)  # after an error it ends with the command


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
