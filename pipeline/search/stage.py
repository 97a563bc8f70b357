"""Stage 2: the spike-aware search, a Tune run on warm trial actors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.elimination import SequentialElimination
from pipeline.algorithms.halving import SuccessiveHalving
from pipeline.analysis.trust import judge
from pipeline.config.tree import Config
from pipeline.console import SearchProgress, say
from pipeline.data import RunData, load_data
from pipeline.formats import duration
from pipeline.interruption import at_end
from pipeline.networks import load_supernet
from pipeline.node_facts import describe_this_node
from pipeline.ray.session import Resources
from pipeline.ray.waiting import Waiting, get_when_started
from pipeline.search.engine import choose_search_engine
from pipeline.search.estimate import estimate_seconds
from pipeline.search.evaluation_cache import EvaluationCache, open_cache
from pipeline.search.evaluator import Evaluator, Scoring
from pipeline.search.inherited_weights import InheritedWeights
from pipeline.search.results import Results
from pipeline.search.rounds import Rounds
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.short_training import ShortTraining, training_hash, untrained_reference
from pipeline.search.trials import Trials, run_trials
from pipeline.search.weights import start_weights_holder
from pipeline.storage.names import FOLDED_WEIGHTS, SUPERNET_WEIGHTS
from pipeline.storage.records import Cost, EvaluationRow, SearchResult, complete_rows
from pipeline.storage.run_folder import RunFolder
from snn.engines.device import Device, find_cpu, find_device
from snn.engines.engine import EngineSpec, make_inference, pack_weights
from snn.engines.inference import InferenceNetwork
from snn.options import ScoringName


def search(run: RunFolder, config: Config, resources: Resources) -> SearchResult:
    """Searches with the scoring of the settings; what was evaluated before is not evaluated again.

    Raises:
        FileNotFoundError: The super-network that the scoring needs is not trained yet.
        ValueError: Its weights do not have the hash they were written with.
        OSError: Results cannot be written.
        RuntimeError: An evaluator could not start, or every evaluation failed.
    """
    start = time.perf_counter()
    prepared = _prepare(run, config, resources)
    resources = replace(resources, num_workers=_num_workers(config, resources, prepared.algorithm))
    rounds = _rounds(run, config, prepared)
    number = rounds.elimination.num_samples if rounds else 0
    with SearchProgress(prepared.algorithm, start, num_samples=number) as progress:
        searcher = AskTellSearcher(
            prepared.algorithm,
            Results(
                prepared.known,
                run=run,
                cache=prepared.cache,
                num_samples=len(prepared.data.search_val()),
                num_rungs=0 if config.search.needs_supernet else config.search.rungs,
                show=progress.update,
            ),
            num_workers=resources.num_workers,
            rounds=rounds,
            **_trial_options(config),
        )
        trials = _run(run, config, resources, prepared, searcher)
    result = _conclude(config, resources, prepared, searcher, trials, time.perf_counter() - start)
    run.close_evaluations(searcher.results.table)
    run.write_best(result)
    return result


def _trial_options(config: Config) -> dict[str, Any]:
    """How candidates are handed out, as arguments of AskTellSearcher.

    A short training shares nothing with others, and one ahead of the search would be dropped at other rungs.
    """
    settings = config.search
    if not settings.needs_supernet:
        halving = SuccessiveHalving(settings.rungs, settings.reduction_factor)
        return {"largest_group": 1, "halving": halving}
    return {"racing": settings.racing, "speculate": settings.elimination_risk is None}


def _rounds(run: RunFolder, config: Config, prepared: _Prepared) -> Rounds | None:
    """The looks of sequential elimination, if the settings ask for it; shards of an earlier attempt count."""
    risk, number = config.search.elimination_risk, len(prepared.data.search_val())
    if risk is None:
        return None

    def show(number_in: int, num_samples: int) -> None:
        if config.search.algorithm == "exhaustive":
            say(f"  {number_in:>5,} candidates left after {num_samples:,} of {number:,} samples")

    elimination = SequentialElimination(number, risk)
    return Rounds(elimination, known=run.read_shards(), store=run.append_shards, show=show)


# What makes the accuracies of a search less noisy.
_LONGER: dict[ScoringName, str] = {
    "supernet": "train the super-network longer (--supernet.epochs)",
    "short_training": "train the candidates longer (--search.training-samples)",
}


@dataclass(frozen=True)
class _Prepared:
    """All that a search starts from.

    Attributes:
        weights_sha256: Hash of the super-network's weights, or of what candidates are trained with.
        algorithm: The search.
        data: Samples of the run.
        device: Device of a worker.
        engine: How candidates are evaluated.
        cache: Evaluations shared with other runs; None if the settings leave the cache alone.
        known: Evaluations of an earlier attempt or of other runs, by architecture.
        spikes_reference: Mean spikes per sample of random paths while training.
    """

    weights_sha256: str
    algorithm: ArchitectureSearch
    data: RunData
    device: Device
    engine: EngineSpec
    cache: EvaluationCache | None
    known: dict[str, EvaluationRow]
    spikes_reference: float


def _prepare(run: RunFolder, config: Config, resources: Resources) -> _Prepared:
    data, device = load_data(config), _worker_device(resources)
    if not config.search.needs_supernet:
        reference, weights_sha256 = untrained_reference(config, data), training_hash(config, data, device)
    else:
        supernet = run.read_supernet()
        reference, weights_sha256 = supernet.spikes_reference, supernet.weights_sha256
    algorithm = build_search(
        config.network.search_space(),
        config.search,
        seed=config.seed,
        spikes_reference=config.search.reference(reference),
    )
    engine = choose_search_engine(config, device.type, data)
    if config.search.needs_supernet:
        usual, engine = engine, choose_search_engine(config, device.type, data, spikes=reference)
        if engine.name != usual.name:
            say(
                "  networks fire so much that dense evaluation is faster; its rounding depends on the machine"
            )
    cache = None
    if config.search.cache and config.search.elimination_risk is None:
        identity = engine.identity(device)
        cache = open_cache(run, config, data, weights_sha256=weights_sha256, engine=identity)
    known = {} if cache is None else cache.read()
    known |= {row.architecture: row for row in run.read_evaluations() if not row.error}
    known = {
        text: row for text, row in known.items() if row.evaluation and config.search.knows(row.evaluation)
    }
    return _Prepared(weights_sha256, algorithm, data, device, engine, cache, known, reference)


def _run(
    run: RunFolder, config: Config, resources: Resources, prepared: _Prepared, searcher: AskTellSearcher
) -> Trials:
    """Runs the trials.

    Raises:
        RuntimeError: An evaluator could not start.
        Exception: What went wrong when results were stored.
    """
    with _scoring(run, config, resources, prepared) as scoring:
        trainable = tune.with_parameters(
            Evaluator,
            run_config=config.to_json(),
            scoring=scoring,
            driver=None if config.ray.address is None else describe_this_node(config),
        )
        trials = run_trials(
            searcher,
            trainable,
            num_workers=resources.num_workers,
            cpus=config.threads_per_worker,
            gpus=resources.gpus_per_worker,
            seconds_per_candidate=config.seconds_per_candidate,
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
    measured = [row for row in rows if row.evaluation is not None]
    complete = complete_rows(rows)
    effort = [_samples_used(row) for row in measured]
    # Where nodes come on demand there may have been fewer workers than the search could use.
    num_workers = max(1, trials.most_at_once) if resources.grows else resources.num_workers
    trust = judge(
        complete,
        best,
        chance=prepared.data.search_val().largest_share(),
        settings=config.search,
        spikes_reference=prepared.spikes_reference,
        reference=prepared.algorithm.spikes_reference,
        longer=_LONGER[config.search.scoring],
    )
    return SearchResult(
        best=best,
        algorithm=config.search.algorithm,
        spike_exponent=config.search.spike_exponent,
        spikes_reference=prepared.algorithm.spikes_reference,
        num_evaluations=len(rows),
        num_failed=len(rows) - len(measured),
        space_size=len(prepared.algorithm.space),
        num_workers=num_workers,
        cost=Cost(seconds, trials.cpu_seconds, seconds * num_workers * resources.gpus_per_worker),
        engine=prepared.engine.name,
        num_known=searcher.results.num_known,
        num_extras=searcher.ahead.num_started if searcher.ahead else 0,
        num_stopped=len(measured) - len(complete),
        samples_saved=1 - sum(effort) / (max(effort) * len(effort)),
        block_runs=trials.block_runs,
        block_runs_saved=searcher.rounds.share_saved if searcher.rounds else None,
        evaluators_started=len(trials.workers),
        busy_share=trials.busy_seconds / (seconds * num_workers),
        probability_best=trust.probability_best,
        doubts=trust.doubts,
    )


def _samples_used(row: EvaluationRow) -> int:
    """Training samples of a short training, or else samples of D_val."""
    assert row.evaluation is not None
    return row.rungs[-1].samples if row.rungs else row.evaluation.num_samples


def _chosen(config: Config, algorithm: ArchitectureSearch, rows: list[EvaluationRow]) -> EvaluationRow:
    """The row of the best candidate.

    Raises:
        RuntimeError: Every evaluation failed.
    """
    assert algorithm.finished, "Tune ended the run before the search was finished"
    complete = {row.candidate_id for row in complete_rows(rows)}
    chosen = next((candidate for candidate in algorithm.ranking() if candidate.id in complete), None)
    if chosen is None:
        errors = sorted({row.error for row in rows})
        raise RuntimeError(f"All {len(algorithm.results)} evaluations failed: {'; '.join(errors)[:1000]}")
    best = next(row for row in rows if row.candidate_id == chosen.id)
    if best.evaluation is not None and config.search.excess(best.evaluation):
        say(f"  no candidate keeps {config.search.budgets_text}; the chosen one exceeds it least")
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
def _scoring(run: RunFolder, config: Config, resources: Resources, prepared: _Prepared) -> Iterator[Scoring]:
    """What the trial actors score with; while open, an actor hands out the super-network's weights."""
    engine, data, device_type = prepared.engine, prepared.data, prepared.device.type
    if not config.search.needs_supernet:
        yield ShortTraining(engine, device_type)
        return
    file, sha256, name = SUPERNET_WEIGHTS, prepared.weights_sha256, f"weights-{uuid.uuid4().hex}"
    with at_end(lambda: run.files.delete(FOLDED_WEIGHTS)):
        if engine.repacks_weights:
            network = load_supernet(run, config.network, data)
            file, sha256 = FOLDED_WEIGHTS, run.write_folded_weights(pack_weights(engine, network))
            if engine.scales_with_threads and config.search.algorithm == "exhaustive":
                _say_how_long(config, data, make_inference(network, engine.name), resources, prepared.known)
        holder = start_weights_holder(run.files, file, sha256, name=name)
        yield InheritedWeights(name, engine, device_type, prepared.algorithm.spikes_reference)
        ray.kill(holder)  # after an error it ends with the command


def _say_how_long(
    config: Config, data: RunData, network: InferenceNetwork, resources: Resources, known: Sized
) -> None:
    """An estimate for an exhaustive search, before it starts."""
    space, samples = config.network.search_space(), data.search_val()
    seconds = estimate_seconds(network, space, samples)
    seconds *= max(0.0, 1 - len(known) / len(space))
    most = "at most about" if config.search.elimination_risk is not None else "about"
    say(
        f"  {len(space):,} architectures on {len(samples):,} samples with {resources.num_workers} workers: "
        f"{most} {duration(seconds / (resources.num_workers * config.threads_per_worker))}"
    )
