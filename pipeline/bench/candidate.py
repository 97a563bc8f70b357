"""Benchmark of evaluating one candidate: ours, the plain implementation, the dense engine, convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pipeline.bench.convolutions import ConvolutionsAlone, fastest_convolutions
from pipeline.bench.deviation import compare_results
from pipeline.bench.plain import (
    PLAIN_BATCH_SIZE,
    PLAIN_SMALL_BATCH_SIZE,
    contiguous_copy,
    convolutions_of,
    evaluate_plainly,
)
from pipeline.bench.stopwatch import Comparison, SectionResult, alternate
from pipeline.bench.subject import (
    Batches,
    Subject,
    inference_network,
    num_samples,
    reference_architecture,
)
from pipeline.console import say
from snn.engines.dense import DenseNetwork
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture

_FLOOR_BATCH_SIZES = (4, 8, 16, 32, 64)
_DEVIATION_ARCHITECTURES = 16


@dataclass(frozen=True)
class _Networks:
    """The subject's super-network in each form that is measured."""

    plain: SpikingNetwork
    ours: InferenceNetwork
    dense: InferenceNetwork
    dense_bfloat16: InferenceNetwork


@dataclass(frozen=True)
class _Contestant:
    """What is timed, and the number of images that one run processes."""

    run: Callable[[], object]
    num_images: int


def bench_one_candidate(subject: Subject, *, quick: bool) -> SectionResult:
    """One architecture: ours against the plain implementation and against its convolutions alone."""
    architecture = reference_architecture(subject)
    networks = _networks(subject)
    say("  choosing the fastest form of the convolutions")
    convolutions = convolutions_of(networks.plain, architecture, subject.batches(1, 1)[0][0])
    floor = fastest_convolutions(convolutions, batch_sizes=_FLOOR_BATCH_SIZES)
    say(f"  {architecture}: in turns")
    contestants = _contestants(subject, architecture, networks, floor, num_images=128 if quick else 256)
    timings = alternate(
        {name: contestant.run for name, contestant in contestants.items()},
        rounds=3 if quick else 5,
        longest=30 if quick else 90,
    )
    speed = {name: contestants[name].num_images / timing.median for name, timing in timings.items()}
    deviation = _bfloat16_deviation(subject, networks, num_images=32 if quick else 64)
    small = subject.batches(128, PLAIN_SMALL_BATCH_SIZE)
    plain_accuracy, plain_spikes = evaluate_plainly(networks.plain, architecture, small)
    ours = evaluate_architectures(networks.ours, [architecture], small)[0]
    return SectionResult(
        (
            *_speed_comparisons(speed),
            Comparison("spikes of one candidate / plain", "spikes", ours.spikes, plain_spikes),
            *deviation.comparisons,
        ),
        {
            "architecture": str(architecture),
            "engine": type(networks.ours).__name__,
            "images_per_second": speed,
            "spread": {name: timing.spread for name, timing in timings.items()},
            "convolutions": str(floor),
            "accuracy": {"ours": ours.accuracy, "plain": plain_accuracy},
            "spikes": {"ours": ours.spikes, "plain": plain_spikes},
            "bfloat16": deviation.facts,
        },
    )


def _networks(subject: Subject) -> _Networks:
    return _Networks(
        contiguous_copy(subject.network),
        inference_network(subject),
        DenseNetwork(subject.network),
        DenseNetwork(subject.network, precision="bfloat16"),
    )


def _contestants(
    subject: Subject,
    architecture: Architecture,
    networks: _Networks,
    floor: ConvolutionsAlone,
    *,
    num_images: int,
) -> dict[str, _Contestant]:
    batches = subject.batches(num_images, subject.config.search.batch_size)
    large = subject.batches(PLAIN_BATCH_SIZE, PLAIN_BATCH_SIZE)
    small = subject.batches(128, PLAIN_SMALL_BATCH_SIZE)
    one = small[:1]  # bfloat16 is slow on CPUs without instructions for it
    repeats = math.ceil(128 / floor.batch_size)

    def plain(samples: Batches) -> _Contestant:
        run = partial(evaluate_plainly, networks.plain, architecture, samples)
        return _Contestant(run, num_samples(samples))

    def engine(network: InferenceNetwork, samples: Batches) -> _Contestant:
        run = partial(evaluate_architectures, network, [architecture], samples)
        return _Contestant(run, num_samples(samples))

    return {
        "plain_768": plain(large),
        "plain_32": plain(small),
        "ours": engine(networks.ours, batches),
        "dense": engine(networks.dense, batches),
        "dense_bfloat16": engine(networks.dense_bfloat16, one),
        "convolutions": _Contestant(partial(floor.run, repeats), repeats * floor.batch_size),
    }


def _bfloat16_deviation(subject: Subject, networks: _Networks, *, num_images: int) -> SectionResult:
    """Deviation of the dense engine in bfloat16 from our engine, on random architectures."""
    architectures = subject.random_architectures(_DEVIATION_ARCHITECTURES, seed=2)
    batches = subject.batches(num_images, 32)
    return compare_results(
        "bfloat16",
        evaluate_architectures(networks.dense_bfloat16, architectures, batches),
        evaluate_architectures(networks.ours, architectures, batches),
        subject.config.search.spike_exponent,
    )


def _speed_comparisons(speed: Mapping[str, float]) -> tuple[Comparison, ...]:
    """Comparisons of throughput, from images per second."""
    ours, plain, dense = speed["ours"], speed["plain_768"], speed["dense"]
    bfloat16, per_image = speed["dense_bfloat16"], (1000 / ours, 1000 / speed["convolutions"])
    return (
        Comparison("one candidate / plain, batch 768", "img/s", ours, plain, 2.5, True),
        Comparison("one candidate / plain, batch 32", "img/s", ours, speed["plain_32"]),
        Comparison("one candidate / its convolutions", "ms/img", *per_image, 1.5),
        Comparison("dense engine / plain, batch 768", "img/s", dense, plain),
        Comparison("dense engine in bfloat16 / plain, batch 768", "img/s", bfloat16, plain),
    )
