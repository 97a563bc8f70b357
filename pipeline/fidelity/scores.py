"""The scores at hand: what super-network, short trainings and initial weights say of architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from typing import Any, get_args

import ray
import torch
from scipy.stats import rankdata

from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.networks import load_supernet, make_network
from pipeline.ray.session import Resources
from pipeline.search.engine import choose_search_engine, load_search_engine
from pipeline.search.evaluation_cache import open_cache
from pipeline.search.short_training import climb, training_hash
from pipeline.storage.fidelity_records import Score
from pipeline.storage.records import EvaluationRow, Rung
from pipeline.storage.run_folder import RunFolder
from snn.engines.device import find_cpu
from snn.engines.engine import EngineSpec, pack_weights
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation, spike_aware_fitness
from snn.model.network import num_parameters
from snn.options import StatisticsName
from snn.search_space import Architecture
from snn.training.at_initialisation import AtInitialisation, measure_at_initialisation
from snn.training.paths import num_paths

# Short trainings are measured at these parts of one pass over D_train.
_RUNGS, _FACTOR = 4, 2.0
# Samples of the batch that measures initial weights.
_BATCH = 64


@dataclass(frozen=True, eq=False)
class Supernet:
    """A run whose super-network scores: its folder, its settings on this machine, its samples."""

    run: RunFolder
    config: Config
    data: RunData

    @property
    def name(self) -> str:
        """The name of its score: its folder's."""
        return self.run.name

    @property
    def training_samples(self) -> int:
        """Samples that it was trained on, once for each path of a step."""
        supernet = self.run.read_supernet()
        paths = num_paths(self.config.supernet.path_sampling, self.config.network.search_space())
        return len(supernet.history) * supernet.num_train * paths


@dataclass(frozen=True)
class Scored:
    """Scores of architectures.

    Attributes:
        by_architecture: Of each architecture its scores by name.
        training_samples: Samples that a whole search of the run trains on with each score.
    """

    by_architecture: Mapping[Architecture, Mapping[str, Score]]
    training_samples: Mapping[str, int]


def score_architectures(
    run: RunFolder,
    config: Config,
    data: RunData,
    architectures: Sequence[Architecture],
    resources: Resources,
    spikes_reference: float,
    others: Sequence[Supernet] = (),
) -> Scored:
    """Scores architectures in every way, on this cluster's CPUs.

    `stored` and `recalibrated`: accuracy on D_val with the super-network's weights, by batch-norm statistics;
    only if the run has a super-network. The super-networks of `others` are scores by the names of their
    folders, with recalibrated statistics; `mean_of_N` is the mean of N super-networks, the run's included.
    `trained_N`: accuracy on D_val after a training from scratch on N samples.
    `hamming_distance`, `operations`, `initial_spikes` and `parameters` need no training; by the last three
    anyone could rank. `mean_rank`: mean of the ranks by `recalibrated`, `hamming_distance` and `operations`.
    """

    def of(*measured: Evaluation | Rung) -> Score:
        accuracy = sum(one.accuracy for one in measured) / len(measured)
        spikes = sum(one.spikes for one in measured) / len(measured)
        return Score(accuracy, spikes, fitness(config, accuracy, spikes, spikes_reference))

    scores: dict[str, dict[Architecture, Score]] = {}
    samples: dict[str, int] = {}
    evaluate = cache(partial(_evaluate, architectures=tuple(architectures), resources=resources))
    own = [Supernet(run, config, data)] if config.search.needs_supernet else []
    for name, (kind, supernets) in _supernet_scores(own, others).items():
        evaluations = [evaluate(supernet, kind) for supernet in supernets]
        scores[name] = {a: of(*(one[a] for one in evaluations)) for a in architectures}
        samples[name] = sum(supernet.training_samples for supernet in supernets)
    short = _short_config(config)
    rungs = _train_shortly(run, short, data, architectures)
    for index, number in enumerate(short.search.rung_samples(len(data.supernet_train()))):
        name = f"trained_{number}"
        scores[name] = {a: of(rungs[a][index]) for a in architectures}
        samples[name] = number * min(config.search.max_evaluations, len(config.network.search_space()))
    initial = _measure_initial(config, architectures)
    scores["hamming_distance"] = {a: Score(one.hamming_distance) for a, one in initial.items()}
    scores["operations"] = {a: Score(one.operations) for a, one in initial.items()}
    scores["initial_spikes"] = {a: Score(one.spikes, one.spikes) for a, one in initial.items()}
    scores["parameters"] = {a: Score(float(_num_parameters(config, data, a))) for a in architectures}
    if "recalibrated" in scores:
        together = [scores[name] for name in ("recalibrated", "hamming_distance", "operations")]
        scores["mean_rank"] = _mean_rank(together, architectures)
        samples["mean_rank"] = samples["recalibrated"]
    return Scored(
        {a: {name: by[a] for name, by in scores.items()} for a in architectures},
        {name: samples.get(name, 0) for name in scores},
    )


def _supernet_scores(
    own: Sequence[Supernet], others: Sequence[Supernet]
) -> dict[str, tuple[StatisticsName, Sequence[Supernet]]]:
    """The scores by name: statistics, and the super-networks whose mean they are."""
    kinds: tuple[StatisticsName, ...] = get_args(StatisticsName)
    scores: dict[str, tuple[StatisticsName, Sequence[Supernet]]] = {}
    scores |= {kind: (kind, own) for kind in kinds if own}
    scores |= {other.name: ("recalibrated", [other]) for other in others}
    if len(together := [*own, *others]) > 1:
        scores[f"mean_of_{len(together)}"] = ("recalibrated", together)
    return scores


def fitness(config: Config, accuracy: float, spikes: float, reference: float) -> float:
    """The run's spike-aware fitness, with N_avg = `reference`."""
    exponent = config.search.spike_exponent
    return spike_aware_fitness(accuracy, spikes, spikes_reference=reference, spike_exponent=exponent)


def _mean_rank(
    scores: Sequence[Mapping[Architecture, Score]], architectures: Sequence[Architecture]
) -> dict[Architecture, Score]:
    ranks = sum(rankdata([one[a].accuracy or 0.0 for a in architectures]) for one in scores) / len(scores)
    return {a: Score(float(rank)) for a, rank in zip(architectures, ranks, strict=True)}


def _short_config(config: Config) -> Config:
    """The settings of a short training of one pass over D_train."""
    search = replace(
        config.search,
        scoring="short_training",
        training_samples=None,
        rungs=_RUNGS,
        reduction_factor=_FACTOR,
    )
    return replace(config, search=search)


def _train_shortly(
    run: RunFolder, config: Config, data: RunData, architectures: Sequence[Architecture]
) -> dict[Architecture, tuple[Rung, ...]]:
    """The rungs of each architecture; those that a study has measured already come from the cache."""
    engine, cache = choose_search_engine(config, "cpu", data), None
    if config.search.cache:
        cpu = find_cpu()
        sha256 = training_hash(config, data, cpu)
        cache = open_cache(run, config, data, weights_sha256=sha256, engine=engine.identity(cpu))
    known = {} if cache is None else cache.read()
    done = {a: row.rungs for a in architectures if (row := known.get(str(a)))}
    task = ray.remote(_train_one).options(num_cpus=config.threads_per_worker)
    waiting = {task.remote(engine, config, a): a for a in architectures if a not in done}
    while waiting:
        [ready], _ = ray.wait(list(waiting))
        evaluation, rungs = ray.get(ready)
        architecture = waiting.pop(ready)
        done[architecture] = rungs
        if cache is not None:
            cache.append([EvaluationRow(-1, 0, str(architecture), (), evaluation, rungs=rungs)])
    return done


def _train_one(
    engine: EngineSpec, config: Config, architecture: Architecture
) -> tuple[Evaluation, tuple[Rung, ...]]:
    """The task: a short training with its measurements."""
    torch.set_num_threads(engine.num_threads)
    *_, last = climb(engine, config, load_data(config), architecture, torch.device("cpu"))
    return last


def _measure_initial(
    config: Config, architectures: Sequence[Architecture]
) -> dict[Architecture, AtInitialisation]:
    task = ray.remote(_measure_one).options(num_cpus=config.threads_per_worker)
    results: list[AtInitialisation] = ray.get([task.remote(config, a) for a in architectures])
    return dict(zip(architectures, results, strict=True))


def _measure_one(config: Config, architecture: Architecture) -> AtInitialisation:
    """The task: a network with its initial weights on the first samples of D_train."""
    torch.set_num_threads(config.threads_per_worker)
    data = load_data(config)
    network = make_network(config.network, data, architecture=architecture, seed=config.seed)
    inputs = data.calibration_inputs(_BATCH)
    assert inputs is not None
    return measure_at_initialisation(network, architecture, inputs)


def _evaluate(
    supernet: Supernet,
    statistics: StatisticsName,
    architectures: Sequence[Architecture],
    resources: Resources,
) -> dict[Architecture, Evaluation]:
    """Evaluations by architecture; those that any run has made already come from the evaluation cache."""
    run, config, data = supernet.run, supernet.config, supernet.data
    scored_with = replace(config, search=replace(config.search, statistics=statistics))
    trained = run.read_supernet()
    engine = choose_search_engine(scored_with, "cpu", data, spikes=trained.spikes_reference)
    cache = None
    if config.search.cache:
        identity = engine.identity(find_cpu())
        cache = open_cache(run, config, data, weights_sha256=trained.weights_sha256, engine=identity)
    known = {} if cache is None else cache.read()
    done = {a: e for a in architectures if (row := known.get(str(a))) and (e := row.evaluation)}
    todo = sorted((a for a in architectures if a not in done), key=str)  # equal prefixes side by side
    if todo:
        weights = ray.put(pack_weights(engine, load_supernet(run, config.network, data)))
        size = -(-len(todo) // resources.num_workers)
        groups = [todo[start : start + size] for start in range(0, len(todo), size)]
        task = ray.remote(_evaluate_group).options(num_cpus=config.threads_per_worker)
        results = ray.get([task.remote(config, engine, weights, group) for group in groups])
        done |= zip(todo, chain(*results), strict=True)
        if cache is not None:
            cache.append([EvaluationRow(-1, 0, str(a), (), done[a]) for a in todo])
    return done


def _evaluate_group(
    config: Config, engine: EngineSpec, weights: dict[str, Any], architectures: list[Architecture]
) -> list[Evaluation]:
    """The task: evaluates architectures on the part of D_val that the search uses."""
    torch.set_num_threads(engine.num_threads)
    data = load_data(config)
    device = torch.device("cpu")
    network = load_search_engine(engine, config, data, weights, device)
    return evaluate_architectures(
        network,
        architectures,
        data.search_val().batches(engine.batch_size, device),
        num_threads=engine.num_threads,
    )


def _num_parameters(config: Config, data: RunData, architecture: Architecture) -> int:
    with torch.device("meta"):
        return num_parameters(make_network(config.network, data, architecture=architecture))
