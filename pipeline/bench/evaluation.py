"""Benchmark of the evaluation: one candidate, a generation, the whole space."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise

import torch

from pipeline.algorithms.choose import build_search
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.bench.convolutions import fastest_convolutions
from pipeline.bench.deviation import compare_results
from pipeline.bench.plain import PLAIN_BATCH_SIZE, convolutions_of, evaluate_plainly
from pipeline.bench.stopwatch import Comparison, SectionResult, alternate, seconds_of
from pipeline.bench.subject import Batches, Subject
from pipeline.console import say
from snn.engines.dense import DenseNetwork
from snn.engines.engine import make_inference
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import count_block_runs, evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture

_PLAIN_SMALL_BATCH_SIZE = 32
_FLOOR_BATCH_SIZES = (4, 8, 16, 32, 64)
_NUM_GENERATIONS = 20
_DEVIATION_ARCHITECTURES = 16
_SAMPLE_SIZE = 24
_SAMPLE_IMAGES = 64


def bench_one_candidate(subject: Subject, *, quick: bool) -> SectionResult:
    """One architecture: ours against the plain way and against its convolutions alone."""
    architecture = _reference_architecture(subject)
    plain_network = contiguous_copy(subject.network)
    ours = subject.batches(128 if quick else 256, subject.config.search.batch_size)
    large = subject.batches(PLAIN_BATCH_SIZE, PLAIN_BATCH_SIZE)
    small = subject.batches(128, _PLAIN_SMALL_BATCH_SIZE)
    few = small[:1]  # bfloat16 is slow where the CPU has no instructions for it
    say("  choosing the fastest form of the convolutions")
    convolutions = convolutions_of(plain_network, architecture, ours[0][0])
    floor = fastest_convolutions(convolutions, batch_sizes=_FLOOR_BATCH_SIZES)
    floor_repeats = math.ceil(128 / floor.batch_size)
    say(f"  {architecture}: taking turns")
    network = prepared(subject)
    dense, dense_bfloat16 = (
        DenseNetwork(subject.network),
        DenseNetwork(subject.network, precision="bfloat16"),
    )
    contestants: dict[str, Callable[[], object]] = {
        "plain_768": lambda: evaluate_plainly(plain_network, architecture, large),
        "plain_32": lambda: evaluate_plainly(plain_network, architecture, small),
        "ours": lambda: evaluate_architectures(network, [architecture], ours),
        "dense": lambda: evaluate_architectures(dense, [architecture], ours),
        "dense_bfloat16": lambda: evaluate_architectures(dense_bfloat16, [architecture], few),
        "convolutions": partial(floor.run, floor_repeats),
    }
    images = {
        "plain_768": _number(large),
        "plain_32": _number(small),
        "ours": _number(ours),
        "dense": _number(ours),
        "dense_bfloat16": _number(few),
        "convolutions": floor_repeats * floor.batch_size,
    }
    timings = alternate(contestants, rounds=3 if quick else 5, longest=30 if quick else 90)
    speed = {name: images[name] / timing.median for name, timing in timings.items()}
    some = subject.random_architectures(_DEVIATION_ARCHITECTURES, seed=2)
    some_images = subject.batches(32 if quick else 64, 32)
    deviation = compare_results(
        "bfloat16",
        evaluate_architectures(dense_bfloat16, some, some_images),
        evaluate_architectures(network, some, some_images),
        subject.config.search.spike_exponent,
    )
    plain_numbers = evaluate_plainly(plain_network, architecture, small)
    our_numbers = evaluate_architectures(network, [architecture], small)[0]
    return SectionResult(
        (
            Comparison(
                "one candidate / plain, batch 768", "img/s", speed["ours"], speed["plain_768"], 2.5, True
            ),
            Comparison("one candidate / plain, batch 32", "img/s", speed["ours"], speed["plain_32"]),
            Comparison(
                "one candidate / its convolutions",
                "ms/img",
                1000 / speed["ours"],
                1000 / speed["convolutions"],
                1.5,
            ),
            Comparison("dense engine / plain, batch 768", "img/s", speed["dense"], speed["plain_768"]),
            Comparison(
                "dense engine in bfloat16 / plain, batch 768",
                "img/s",
                speed["dense_bfloat16"],
                speed["plain_768"],
            ),
            Comparison("spikes of one candidate / plain", "spikes", our_numbers.spikes, plain_numbers[1]),
            *deviation.comparisons,
        ),
        {
            "architecture": str(architecture),
            "engine": type(network).__name__,
            "images_per_second": speed,
            "spread": {name: timing.spread for name, timing in timings.items()},
            "convolutions": str(floor),
            "accuracy": {"ours": our_numbers.accuracy, "plain": plain_numbers[0]},
            "spikes": {"ours": our_numbers.spikes, "plain": plain_numbers[1]},
            "bfloat16": deviation.facts,
        },
    )


def bench_sharing(subject: Subject, *, quick: bool) -> SectionResult:
    """A generation and the whole space: shared prefixes against one candidate after another."""
    space = list(subject.config.network.search_space())
    generations = evolved_generations(subject)
    generation = subject.random_architectures(20, seed=1) if quick else generations[len(generations) // 2]
    runs = {
        "generation": count_block_runs(generation),
        "evolution": _sum_pairs([count_block_runs(members) for members in generations]),
        "exhaustive": count_block_runs(space),
    }
    timed = _time_generation(subject, generation, num_images=64 if quick else 128, rounds=2 if quick else 3)
    seconds_per_image = timed["shared"] / runs["generation"][0] * runs["exhaustive"][0]
    num_images = max(2, min(64, math.floor((12 if quick else 50) / seconds_per_image)))
    whole = _time_whole_space(subject, space, num_images)
    plain_400 = 400 * whole.plain_candidate
    return SectionResult(
        (
            Comparison("block runs, generation of 20 / separate", "runs", *runs["generation"]),
            Comparison("block runs, evolution's 400 / separate", "runs", *runs["evolution"]),
            Comparison("block runs, whole space / separate", "runs", *runs["exhaustive"]),
            Comparison(
                "time, generation of 20 / separate",
                "ms/img",
                1000 * timed["shared"],
                1000 * timed["separate"],
            ),
            Comparison(
                "time, whole space / separate (est.)",
                "s/img",
                whole.shared,
                len(space) * whole.candidate,
                0.3,
            ),
            Comparison("time, whole space / plain x 400", "s/img", whole.shared, plain_400, 1.0),
        ),
        {
            "space_size": len(space),
            "block_runs_shared_and_separate": runs,
            "generation": "random" if quick else "of the evolution on a toy evaluation",
            "seconds_per_image": {
                "generation_shared": timed["shared"],
                "generation_separate": timed["separate"],
                "whole_space_shared": whole.shared,
                "candidate_separate": whole.candidate,
                "candidate_plain_768": whole.plain_candidate,
            },
            "whole_space_images": num_images,
            "sample_size": _SAMPLE_SIZE,
            "estimated": "separate: the mean of a random sample of candidates, each evaluated alone, "
            "times the size of the space. Plain: the reference architecture at batch 768, times "
            "the sample's mean cost relative to it at batch 32.",
        },
    )


def prepared(subject: Subject) -> InferenceNetwork:
    """The super-network as evaluators hold it, on the engine of the config."""
    search = subject.config.search
    return make_inference(subject.network, search.engine, precision=search.precision)


def contiguous_copy(network: SpikingNetwork) -> SpikingNetwork:
    """The same weights in the memory format of the plain way."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def evolved_generations(subject: Subject) -> list[list[Architecture]]:
    """The generations of the evolution on a toy evaluation that rewards k5 and SRB and punishes skips."""
    settings = subject.config.search
    settings = replace(
        settings, algorithm="evolution", max_evaluations=_NUM_GENERATIONS * settings.population_size
    )
    space = subject.config.network.search_space()
    search = run_in_process(build_search(space, settings, seed=0, spikes_reference=1.0), _toy_evaluation)
    return [
        [candidate.architecture for candidate in generation]
        for _, generation in groupby(search.candidates, key=lambda candidate: candidate.generation)
    ]


def _toy_evaluation(architecture: Architecture) -> Evaluation:
    text = str(architecture)
    accuracy = 0.5 + 0.05 * text.count("k5") + 0.03 * text.count("SRB") - 0.04 * text.count("skip")
    return Evaluation(accuracy, 1.0, 0.1, 1)


def groups_of(architectures: Sequence[Architecture], number: int) -> list[list[Architecture]]:
    """Shares architectures out evenly; those of a group have long prefixes in common."""
    ordered = sorted(architectures, key=lambda architecture: architecture.blocks)
    number = min(number, len(ordered))
    bounds = [round(i * len(ordered) / number) for i in range(number + 1)]
    return [ordered[a:b] for a, b in pairwise(bounds)]


def _time_generation(
    subject: Subject, generation: Sequence[Architecture], *, num_images: int, rounds: int
) -> dict[str, float]:
    """Seconds per image of a generation, shared and separate."""
    say(f"  a generation of {len(generation)} on {num_images} images: shared and separate, taking turns")
    batches = subject.batches(num_images, subject.config.search.batch_size)
    network = prepared(subject)
    timings = alternate(
        {
            "shared": lambda: evaluate_architectures(network, generation, batches),
            "separate": lambda: [evaluate_architectures(network, [a], batches) for a in generation],
        },
        rounds=rounds,
        warm_up=False,
        longest=30,
    )
    return {name: timing.median / num_images for name, timing in timings.items()}


@dataclass(frozen=True)
class _WholeSpace:
    """Seconds per image: of the whole space, shared; of one candidate alone, ours and plain."""

    shared: float
    candidate: float
    plain_candidate: float


def _time_whole_space(subject: Subject, space: Sequence[Architecture], num_images: int) -> _WholeSpace:
    """Times the whole space between two halves of the sample it is compared with."""
    sample = subject.random_architectures(_SAMPLE_SIZE, seed=2)
    half = len(sample) // 2
    network = prepared(subject)
    batches = subject.batches(num_images, subject.config.search.batch_size)
    say(f"  {len(sample)} random candidates one by one, ours and plain, half of them before the whole space")
    before = _time_sample(subject, network, sample[:half])
    say(f"  all {len(space):,} architectures on {num_images} images")
    shared = seconds_of(lambda: evaluate_architectures(network, space, batches)) / num_images
    after = _time_sample(subject, network, sample[half:])
    ours, plain = (statistics.mean(pair) for pair in zip(before, after, strict=True))
    return _WholeSpace(shared, ours, plain)


def _time_sample(
    subject: Subject, network: InferenceNetwork, sample: Sequence[Architecture]
) -> tuple[float, float]:
    """Mean seconds per image and candidate, each evaluated alone: ours, and plain at batch 768."""
    plain_network = contiguous_copy(subject.network)
    batches = subject.batches(_SAMPLE_IMAGES, subject.config.search.batch_size)
    small = subject.batches(_PLAIN_SMALL_BATCH_SIZE, _PLAIN_SMALL_BATCH_SIZE)
    large = subject.batches(PLAIN_BATCH_SIZE, PLAIN_BATCH_SIZE)
    reference = _reference_architecture(subject)
    ours, plain, plain_reference = 0.0, 0.0, 0.0
    for architecture in sample:
        timings = alternate(
            {
                "ours": partial(evaluate_architectures, network, [architecture], batches),
                "plain": partial(evaluate_plainly, plain_network, architecture, small),
                "reference": partial(evaluate_plainly, plain_network, reference, small),
            },
            rounds=1,
            warm_up=False,
        )
        ours += timings["ours"].median / _number(batches)
        plain += timings["plain"].median
        plain_reference += timings["reference"].median
    yardstick = seconds_of(lambda: evaluate_plainly(plain_network, reference, large)) / PLAIN_BATCH_SIZE
    return ours / len(sample), yardstick * plain / plain_reference


def _reference_architecture(subject: Subject) -> Architecture:
    """The paper's architecture, or one of its blocks where the space is another."""
    network = subject.config.network
    architecture = Architecture.parse("autosnn")
    if architecture in network.search_space():
        return architecture
    return Architecture((network.blocks[-1],) * network.search_space().num_layers)


def _number(batches: Batches) -> int:
    return sum(len(labels) for _, labels in batches)


def _sum_pairs(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)
