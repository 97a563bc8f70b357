"""Benchmark of evaluating many candidates: a generation and the whole space, with shared prefixes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby, pairwise

from pipeline.algorithms.choose import build_search
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.bench.elimination import Race, race
from pipeline.bench.plain import PLAIN_BATCH_SIZE, PLAIN_SMALL_BATCH_SIZE, contiguous_copy, evaluate_plainly
from pipeline.bench.stopwatch import Comparison, SectionResult, alternate, seconds_of
from pipeline.bench.subject import Subject, inference_network, num_samples, reference_architecture
from pipeline.console import say
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.search_space import Architecture, count_block_runs

_NUM_GENERATIONS = 20
_SAMPLE_SIZE = 24
_SAMPLE_IMAGES = 64


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
    raced = None if subject.generated or quick else race(subject, space)  # random weights rank nothing
    return SectionResult(
        (*_comparisons(runs, timed, whole, len(space)), *(_raced(raced, runs, whole) if raced else ())),
        {
            "elimination": None if raced is None else asdict(raced),
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
    """Divides architectures evenly into groups whose members share long prefixes."""
    ordered = sorted(architectures, key=lambda architecture: architecture.blocks)
    number = min(number, len(ordered))
    bounds = [round(i * len(ordered) / number) for i in range(number + 1)]
    return [ordered[a:b] for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class _WholeSpace:
    """Seconds per image: the whole space, shared; one candidate evaluated alone, ours and plain."""

    shared: float
    candidate: float
    plain_candidate: float


def _comparisons(
    runs: Mapping[str, tuple[int, int]], timed: Mapping[str, float], whole: _WholeSpace, space_size: int
) -> tuple[Comparison, ...]:
    generation = 1000 * timed["shared"], 1000 * timed["separate"]
    separate, plain_400 = space_size * whole.candidate, 400 * whole.plain_candidate
    return (
        Comparison("block runs, generation of 20 / separate", "runs", *runs["generation"]),
        Comparison("block runs, evolution's 400 / separate", "runs", *runs["evolution"]),
        Comparison("block runs, whole space / separate", "runs", *runs["exhaustive"]),
        Comparison("time, generation of 20 / separate", "ms/img", *generation),
        Comparison("time, whole space / separate (est.)", "s/img", whole.shared, separate, 0.3),
        Comparison("time, whole space / plain x 400", "s/img", whole.shared, plain_400, 1.0),
    )


def _raced(race: Race, runs: Mapping[str, tuple[int, int]], whole: _WholeSpace) -> tuple[Comparison, ...]:
    """An elimination against the whole space on all samples, and against 400 plain candidates on them."""
    number = race.num_samples
    return (
        Comparison(
            "block runs, elimination / whole space",
            "runs",
            race.block_runs / number,
            runs["exhaustive"][0],
            0.4,
        ),
        Comparison("time, elimination / whole space (est.)", "s", race.seconds, number * whole.shared, 0.5),
        Comparison(
            "time, elimination / plain x 400 (est.)", "s", race.seconds, number * 400 * whole.plain_candidate
        ),
    )


def _time_generation(
    subject: Subject, generation: Sequence[Architecture], *, num_images: int, rounds: int
) -> dict[str, float]:
    """Seconds per image of a generation, with shared prefixes and one candidate after another."""
    say(f"  a generation of {len(generation)} on {num_images} images: shared and separate, in turns")
    batches = subject.batches(num_images, subject.config.search.batch_size)
    network = inference_network(subject)
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


def _time_whole_space(subject: Subject, space: Sequence[Architecture], num_images: int) -> _WholeSpace:
    """Times the whole space between the two halves of the random sample it is compared with."""
    sample = subject.random_architectures(_SAMPLE_SIZE, seed=2)
    half = len(sample) // 2
    network = inference_network(subject)
    batches = subject.batches(num_images, subject.config.search.batch_size)
    say(f"  {len(sample)} random candidates one by one, ours and plain; half of them before the whole space")
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
    small = subject.batches(PLAIN_SMALL_BATCH_SIZE, PLAIN_SMALL_BATCH_SIZE)
    large = subject.batches(PLAIN_BATCH_SIZE, PLAIN_BATCH_SIZE)
    reference = reference_architecture(subject)
    ours = plain = plain_reference = 0.0
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
        ours += timings["ours"].median / num_samples(batches)
        plain += timings["plain"].median
        plain_reference += timings["reference"].median
    reference_seconds = (
        seconds_of(lambda: evaluate_plainly(plain_network, reference, large)) / PLAIN_BATCH_SIZE
    )
    return ours / len(sample), reference_seconds * plain / plain_reference


def _sum_pairs(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)
