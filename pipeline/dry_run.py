"""What a run will take, before it is begun: hours, dollars and disk, from speeds measured on its own data."""

from __future__ import annotations

import math
import os
import random
import shutil
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.algorithms.choose import build_search
from pipeline.config.budget import ANY_NODE
from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.data import RunData, load_data
from pipeline.finished import planned_networks
from pipeline.formats import duration
from pipeline.networks import make_network
from pipeline.search.check import check_search
from pipeline.search.engine import choose_search_engine, load_search_engine
from pipeline.storage.location import is_uri
from pipeline.storage.run_folder import RunFolder
from snn.engines.engine import pack_weights
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork, num_parameters
from snn.training.paths import num_paths, path_sampler
from snn.training.statistics import debias_statistics
from snn.training.trainer import Trainer

_CPU = torch.device("cpu")
_SECONDS_OF_A_MEASUREMENT = 5.0
_SAMPLES_OF_A_BATCH = 16
_REPORT_BYTES = 6e6
_ROW_BYTES = 600


@dataclass(frozen=True)
class Speeds:
    """Measured speeds, in samples per second.

    Attributes:
        supernet: Training of a path of the super-network with the threads of stage 1.
        child: Training of a path with the threads of a worker.
        evaluation: Evaluation of a candidate within a generation, with the threads of a worker.
    """

    supernet: float
    child: float
    evaluation: float


@dataclass(frozen=True)
class StageEstimate:
    """A stage of a run.

    Attributes:
        name: What it is.
        work: What it does, in words.
        num_workers: Workers at once.
        seconds: How long it takes.
    """

    name: str
    work: str
    num_workers: int
    seconds: float


def dry_run(run: RunFolder, config: Config) -> None:
    """Measures for about a quarter of a minute and says what the run would take; writes no run folder.

    Raises:
        ValueError: A stage could not work with these settings and data.
        FileNotFoundError: The data set is missing.
    """
    run.check(config)
    data = load_data(config)
    check_search(config, data, "cpu")
    network = make_network(config.network, data, seed=config.seed)
    speeds = measure_speeds(config, data, network)
    stages = estimate_stages(config, data, speeds)
    for stage in stages:
        workers = f"{stage.num_workers} worker{'s' if stage.num_workers != 1 else ''}"
        say(f"{stage.name:<14} {duration(stage.seconds):>14}  {stage.work}, {workers}")
    seconds = sum(stage.seconds for stage in stages)
    text = f"{'all':<14} {duration(seconds):>14}"
    dollars = _dollars(config, stages)
    say(text if dollars is None else f"{text}  about {dollars:,.2f} dollars by --budget.prices")
    for line in _excess(config, seconds, dollars):
        say(line)
    needed, prepared = estimate_bytes(config, data, network)
    free = _free_bytes(run)
    room = "" if free is None else f" ({free / 1e9:,.1f} GB free)"
    say(f"{'disk':<14} {_megabytes(needed):>14}  run folder{room}")
    say(f"{'':<14} {_megabytes(prepared):>14}  prepared data, once on each node")
    if free is not None and needed > free:
        say(f"The disk of '{run}' has too little room.")
    text = (
        f"Measured on this machine: training {speeds.supernet:,.0f} samples/s (super-network) and "
        f"{speeds.child:,.0f} (a child), evaluation {speeds.evaluation:,.0f} samples/s and worker. Assumed: "
        "all workers are like those of this machine and share the work evenly. The start of processes is not "
        "counted, and networks that fire more than random ones take longer."
    )
    say(textwrap.fill(text, 100))


def measure_speeds(config: Config, data: RunData, network: SpikingNetwork) -> Speeds:
    """Trains some steps of random paths, and evaluates some samples with a generation of candidates."""
    before = torch.get_num_threads()
    try:
        supernet = _training_speed(config, data, network, config.supernet.batch_size, config.training_threads)
        child = _training_speed(config, data, network, config.retrain.batch_size, config.threads_per_worker)
        evaluation = _evaluation_speed(config, data, network)
    finally:
        torch.set_num_threads(before)
    return Speeds(supernet, child, evaluation)


def _training_speed(
    config: Config, data: RunData, network: SpikingNetwork, batch_size: int, num_threads: int
) -> float:
    torch.set_num_threads(min(num_threads, os.cpu_count() or 1))
    trainer = Trainer(
        network.to(memory_format=torch.channels_last),
        data.supernet_train(),
        path_sampler("uniform", config.network.search_space()),
        epochs=1,
        batch_size=batch_size,
        learning_rate=1e-6,
        seed=0,
        device=_CPU,
    )
    start, done = 0.0, 0
    while True:
        before = 0
        for processed in trainer.train_epoch():
            if start:
                done += processed - before
            else:
                start = time.perf_counter()  # the first step warms up
            before = processed
            if done and time.perf_counter() - start > _SECONDS_OF_A_MEASUREMENT:
                return done / (time.perf_counter() - start)


def _evaluation_speed(config: Config, data: RunData, network: SpikingNetwork) -> float:
    torch.set_num_threads(config.threads_per_worker)
    debias_statistics(network.state_dict())
    engine = choose_search_engine(config, "cpu", data)
    loaded = load_search_engine(engine, config, data, pack_weights(engine, network.eval()), _CPU)
    space, rng = config.network.search_space(), random.Random(0)
    group = config.search.population_size if config.search.needs_supernet else 1
    candidates = list(dict.fromkeys(space.sample(rng) for _ in range(group)))
    samples = data.search_val()
    batches = samples.batches(min(_SAMPLES_OF_A_BATCH, len(samples)), _CPU)
    start, done = time.perf_counter(), 0
    for inputs, labels in batches:
        evaluate_architectures(loaded, candidates, [(inputs, labels)], num_threads=config.threads_per_worker)
        done += len(labels)
        if time.perf_counter() - start > _SECONDS_OF_A_MEASUREMENT:
            break
    return len(candidates) * done / (time.perf_counter() - start)


def estimate_stages(config: Config, data: RunData, speeds: Speeds) -> list[StageEstimate]:
    """How long each stage takes on its workers."""
    slots = config.ray.num_workers or max(1, (os.cpu_count() or 1) // config.threads_per_worker)
    stages = []
    if config.search.needs_supernet:
        stages.append(_supernet(config, data, speeds))
    stages.append(_search(config, data, speeds, slots))
    stages.append(_retraining(config, data, speeds, slots))
    return stages


def _supernet(config: Config, data: RunData, speeds: Speeds) -> StageEstimate:
    settings, num_train = config.supernet, len(data.supernet_train())
    paths = num_paths(settings.path_sampling, config.network.search_space())
    workers = config.training.workers[-1]
    seconds = settings.epochs * num_train * paths / speeds.supernet / workers
    work = f"{settings.epochs} epochs on {num_train:,} samples"
    return StageEstimate("super-network", work, workers, seconds)


def _search(config: Config, data: RunData, speeds: Speeds, slots: int) -> StageEstimate:
    settings, num_val = config.search, len(data.search_val())
    space = config.network.search_space()
    number = build_search(space, settings, seed=config.seed, spikes_reference=1.0).num_planned
    if settings.needs_supernet:
        per_candidate = num_val + settings.num_calibrated
        seconds = number * per_candidate / speeds.evaluation / slots
        work = f"{number:,} candidates on {num_val:,} samples"
        return StageEstimate("search", work, slots, seconds)
    rungs = settings.rung_samples(len(data.supernet_train()))
    trained = evaluated = 0.0
    for k, samples in enumerate(rungs):
        there = number / settings.reduction_factor**k
        trained += there * (samples - (rungs[k - 1] if k else 0))
        evaluated += there * (num_val + settings.num_calibrated)
    seconds = (trained / speeds.child + evaluated / speeds.evaluation) / slots
    work = f"{number:,} candidates, each trained on {rungs[-1]:,} samples at most"
    return StageEstimate("search", work, slots, seconds)


def _retraining(config: Config, data: RunData, speeds: Speeds, slots: int) -> StageEstimate:
    settings, workers = config.retrain, config.training.retrain_workers[-1]
    number = len(planned_networks(config))
    num_train, num_test = len(data.retrain_train()), len(data.test_set())
    measured = len(data.retrain_val()) + (num_test if settings.paper_protocol else 0)
    one = settings.epochs * num_train / speeds.child / workers
    one += (math.ceil(settings.epochs / settings.eval_every) * measured + num_test) / speeds.evaluation
    at_once = max(1, min(number, slots // workers))
    work = f"{number} networks, {settings.epochs} epochs each on {num_train:,} samples"
    return StageEstimate("retraining", work, at_once * workers, one * math.ceil(number / at_once))


def estimate_bytes(config: Config, data: RunData, network: SpikingNetwork) -> tuple[int, int]:
    """Bytes of the run folder at most, and of the prepared data."""
    weights = 4 * num_parameters(network)
    child = weights / len(config.network.blocks)
    networks = len(planned_networks(config))
    # A checkpoint has weights, two moments of Adam, perhaps an average; there are two while one is written.
    largest = 2 * (weights if config.search.needs_supernet else child) * 4
    run = largest + (2 * weights if config.search.needs_supernet else 0) + networks * child
    run += _ROW_BYTES * config.search.max_evaluations + _REPORT_BYTES
    return int(run), data.train.samples.nbytes + data.test.samples.nbytes


def _dollars(config: Config, stages: Sequence[StageEstimate]) -> float | None:
    """What the nodes cost, each with as many CPUs as this machine; None without a price."""
    price = config.budget.price(ANY_NODE)
    if price is None:
        return None
    per_node = max(1, (os.cpu_count() or 1) // config.threads_per_worker)
    return sum(math.ceil(stage.num_workers / per_node) * stage.seconds / 3600 for stage in stages) * price


def _excess(config: Config, seconds: float, dollars: float | None) -> list[str]:
    """What is above the budget."""
    budget, lines = config.budget, []
    if budget.max_hours is not None and seconds > 3600 * budget.max_hours:
        lines.append(f"More than --budget.max-hours {budget.max_hours:g}: the run will stop there.")
    if dollars is not None and budget.max_dollars is not None and dollars > budget.max_dollars:
        lines.append(f"More than --budget.max-dollars {budget.max_dollars:g}: the run will stop there.")
    return lines


def _free_bytes(run: RunFolder) -> int | None:
    """Free bytes where the run folder will be; None of an object store."""
    if is_uri(run.location):
        return None
    path = Path(run.location).resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _megabytes(number: float) -> str:
    return f"{number / 1e6:,.0f} MB"
