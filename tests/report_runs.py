"""Finished run folders, as a report reads them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config
from pipeline.storage.names import metrics_of
from pipeline.storage.records import (
    Cost,
    DataSplit,
    Environment,
    EpochRecord,
    EvaluationRow,
    EventExamples,
    PaperProtocol,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.sealed import Sealed, seal, unseal
from snn.fitness import Evaluation, TimeCourse, spike_aware_fitness

CONFIG = replace(named_config("cifar10_small"), seed=7, search=SearchConfig(max_evaluations=100))


PARTS = ("stem", "layer0", "pool0", "layer1", "layer2", "pool1", "layer3", "layer4", "pool2", "head")


ENVIRONMENT = Environment(
    created="2024-05-01T12:00:00Z",
    commit="0f3a9c1d",
    python="3.11.9",
    versions={"torch": "2.11.0", "ray": "2.60.0"},
    platform="Linux x86_64",
    cpu="Some CPU",
    num_cpus=2,
    gpus=(),
    data={
        split: DataSplit(f"sha256-of-{split}", 100, {"cat": 50, "dog": 50}, ("classes are balanced",))
        for split in ("train", "val", "test")
    },
)


HOSTILE = "RuntimeError: <script>alert('x')</script> & </pre></style> \"><img src=y onerror=z>"


def started_run(path: Path, config: Config = CONFIG) -> RunFolder:
    """A run folder before its first stage."""
    run = RunFolder(path)
    run.write_config(config)
    run.write_environment(ENVIRONMENT)
    return run


def finished_run(path: Path, seeds: tuple[int, ...] = (0, 1), config: Config = CONFIG) -> RunFolder:
    """A run folder of all stages: 200 evaluations, one of them failed, and 3 architectures retrained."""
    run = started_run(path, config)
    run.write_supernet(supernet_result())
    best = store_search(run)
    number = 0
    for label, gain in zip(CONFIG.retrain.architectures, (0.0, 0.02, -0.04), strict=True):
        architecture = CONFIG.network.parse_architecture(best.architecture if label == "best" else label)
        for seed in seeds:
            run.write_retrained(number, retrain_result(label, str(architecture), seed, gain), {})
            number += 1
    return run


def edit_record(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a sealed record as its writer could have written it."""
    sealed = unseal(path.read_bytes())
    values = dict(sealed.values)
    change(values)
    path.write_bytes(seal(Sealed(values, sealed.made_with)))


def supernet_result() -> SupernetResult:
    history = tuple(
        EpochRecord(epoch, 2.2 / epoch**0.5, 0.55 - 0.4 / epoch, 52_000.0 + 900 * epoch, 40.0)
        for epoch in range(1, 7)
    )
    cost = Cost(252.4, 480.0)
    return SupernetResult("trained", "ab" * 32, 56_210.0, 40_000, 10_000, 1_234_567, cost, history)


def evaluation_rows() -> list[EvaluationRow]:
    """200 candidates of 10 generations; better blocks become more frequent, candidate 33 fails."""
    rng = random.Random(0)
    rows = []
    for candidate_id in range(200):
        generation = candidate_id // 20
        blocks = [
            block if rng.random() > 0.09 * generation else rng.choice(("SRB_k3", "SRB_k5"))
            for block in rng.choices(CONFIG.network.blocks, k=5)
        ]
        rows.append(evaluation_row(candidate_id, generation, blocks, rng))
    rows[33] = replace(rows[33], evaluation=None, fitness=None, error=HOSTILE)
    return rows


def evaluation_row(
    candidate_id: int, generation: int, blocks: list[str], rng: random.Random
) -> EvaluationRow:
    size = {"skip_connect": 0.0, "SCB_k3": 1.0, "SCB_k5": 1.15, "SRB_k3": 1.1, "SRB_k5": 1.3}
    spikes = {"stem": 9_800.0 + rng.gauss(0, 200)}
    for part, width in zip(PARTS[1:], (8, 4, 6, 5, 2, 3, 2.5, 1, 0.2), strict=True):
        block = blocks[int(part[-1])] if part.startswith("layer") else "SCB_k3"
        spikes[part] = 1_000 * width * size[block] * rng.uniform(0.8, 1.2)
    spikes = {part: count for part, count in spikes.items() if count}
    total = sum(spikes.values())
    accuracy = 0.30 + 0.05 * sum(size[block] for block in blocks) + rng.gauss(0, 0.008)
    fitness = spike_aware_fitness(accuracy, total, spikes_reference=56_210.0, spike_exponent=-0.08)
    parents = (candidate_id - 20, candidate_id - 19) if generation else ()
    rates = {part: rng.uniform(0.03, 0.2) for part in spikes}
    text = "-".join(blocks)
    evaluation = Evaluation(
        accuracy, total, 0.09, 2_000, spikes_per_layer=spikes, firing_rate_per_layer=rates
    )
    return EvaluationRow(candidate_id, generation, text, parents, evaluation, fitness, "", "worker-0", 3.1)


def store_search(run: RunFolder) -> EvaluationRow:
    run.append_evaluations(evaluation_rows())
    rows = run.read_evaluations()
    run.close_evaluations(rows)
    best = max(rows, key=lambda row: (row.fitness or 0.0, -row.candidate_id))
    cost = Cost(720.0, 1400.0, 0.0)
    result = SearchResult(best, "evolution", -0.08, 56_210.0, len(rows), 1, 3_125, 2, cost)
    run.write_best(result)
    return best


def retrain_result(label: str, architecture: str, seed: int, gain: float) -> RetrainResult:
    history = tuple(
        EpochRecord(
            epoch,
            1.9 / epoch,
            0.70 + gain - 0.45 / epoch + 0.004 * seed,
            44_000.0 - 500 * epoch,
            61.0,
            val_accuracy=0.68 + gain - 0.4 / epoch + 0.006 * seed if epoch % 3 == 0 else None,
        )
        for epoch in range(1, 7)
    )
    test = Evaluation(0.624 + gain + 0.008 * seed, 45_300.0 + 900 * seed, 0.087, 10_000, 21.4e6, 442_368.0)
    paper = PaperProtocol(6, test.accuracy + 0.004, test.spikes)
    cost = Cost(366.0, 700.0)
    counts = (421_642, 45_000, 5_000, 6, 0.613 + gain)
    return RetrainResult(label, architecture, seed, *counts, test, 21.3e-6, paper, cost, history)


SIMULATED = "The events are SIMULATED by <a model>; no camera recorded them."


EVENTS_PER_SAMPLE = {"min": 812.0, "median": 3_901.5, "mean": 4_016.2, "max": 8_123.0}


def event_run(
    path: Path,
    *,
    notes: tuple[str, ...] = (SIMULATED,),
    train_notes: tuple[str, ...] = (),
    num_networks: int = 6,
) -> RunFolder:
    """A finished run on simulated digits: 10 classes, 4 time steps."""
    network, data = replace(CONFIG.network, time_steps=4), named_config("demo_events").data
    run = finished_run(path, config=replace(CONFIG, data=data, network=network))
    splits = {
        name: replace(
            split,
            events_per_sample=EVENTS_PER_SAMPLE,
            notes=(*notes, *(() if name == "test" else train_notes)),
        )
        for name, split in ENVIRONMENT.data.items()
    }
    run.write_environment(replace(ENVIRONMENT, data=splits))
    add_time_courses(run, num_steps=4)
    for number in range(num_networks, 6):
        (run.path / metrics_of(number)).unlink()
    store_examples(run, moving_bars(), [f"{digit}" for digit in range(10)])
    return run


def add_time_courses(run: RunFolder, num_steps: int) -> None:
    for number in run.retrained_numbers():
        result = replace(run.read_retrained(number), time_course=time_course(num_steps, number))
        run.write_retrained(number, result, {})


def time_course(num_steps: int, number: int = 0) -> TimeCourse:
    accuracy = tuple(0.62 - 0.4 / (step + 1) - 0.01 * number for step in range(num_steps))
    spikes = {
        part: tuple(9_000.0 * 0.8**i * (1 - 0.6 / (step + 1)) for step in range(num_steps))
        for i, part in enumerate(PARTS)
    }
    return TimeCourse(accuracy, spikes)


def moving_bars() -> NDArray[np.uint8]:
    """Of each class a bar that moves: ON at its leading edge, OFF at its trailing one."""
    samples = np.zeros((10, 4, 2, 34, 34), np.uint8)
    for label in range(10):
        for step in range(4):
            left = 2 + 2 * label + 2 * step
            samples[label, step, 0, 6:28, left] = 1 + label % 4
            samples[label, step, 1, 6:28, left + 5] = 4
    return samples


def store_examples(run: RunFolder, samples: NDArray[np.uint8], class_names: list[str]) -> None:
    run.write_event_examples(EventExamples(samples, tuple(class_names)))
