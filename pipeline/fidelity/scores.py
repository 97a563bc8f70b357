"""The scores at hand: what a run's super-network says of architectures, by each kind of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, get_args

import ray
import torch

from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.networks import load_supernet, make_network
from pipeline.ray.session import Resources
from pipeline.search.engine import choose_search_engine, load_search_engine
from pipeline.search.evaluation_cache import open_cache
from pipeline.storage.fidelity_records import Score
from pipeline.storage.records import EvaluationRow
from pipeline.storage.run_folder import RunFolder
from snn.engines.device import find_cpu
from snn.engines.engine import EngineSpec, pack_weights
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation, spike_aware_fitness
from snn.model.network import num_parameters
from snn.options import StatisticsName
from snn.search_space import Architecture

Scores = dict[Architecture, dict[str, Score]]


def score_architectures(
    run: RunFolder, config: Config, data: RunData, architectures: Sequence[Architecture], resources: Resources
) -> Scores:
    """Scores architectures with the super-network's weights on D_val, on this cluster's CPUs.

    The scores are `stored` and `recalibrated`, after the batch-norm statistics they use, and `parameters`,
    the number of learnable parameters, which anyone could rank by.
    """
    supernet = run.read_supernet()
    scores: Scores = {
        architecture: {"parameters": Score(float(_num_parameters(config, data, architecture)))}
        for architecture in architectures
    }
    statistics: tuple[StatisticsName, ...] = get_args(StatisticsName)
    for name in statistics:
        scored_with = replace(config, search=replace(config.search, statistics=name))
        engine = choose_search_engine(scored_with, "cpu", data)
        evaluations = _evaluate(run, config, data, engine, architectures, resources)
        for architecture, evaluation in evaluations.items():
            fitness = spike_aware_fitness(
                evaluation.accuracy,
                evaluation.spikes,
                spikes_reference=supernet.spikes_reference,
                spike_exponent=config.search.spike_exponent,
            )
            scores[architecture][name] = Score(evaluation.accuracy, evaluation.spikes, fitness)
    return scores


def _evaluate(
    run: RunFolder,
    config: Config,
    data: RunData,
    engine: EngineSpec,
    architectures: Sequence[Architecture],
    resources: Resources,
) -> dict[Architecture, Evaluation]:
    """Evaluations by architecture; those that any run has made already come from the evaluation cache."""
    sha256 = run.read_supernet().weights_sha256
    cache = None
    if config.search.cache:
        cache = open_cache(config, data, weights_sha256=sha256, engine=engine.identity(find_cpu()))
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
