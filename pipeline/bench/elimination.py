"""Benchmark of sequential elimination: the whole space on growing parts of D_val."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.algorithms.elimination import SequentialElimination, sample_order
from pipeline.bench.subject import CPU, Subject, inference_network
from pipeline.console import say
from snn.engines.trie import score_samples
from snn.search_space import Architecture, count_block_runs

_RISK = 0.05


@dataclass(frozen=True)
class Race:
    """An elimination over the whole space.

    Attributes:
        seconds: Wall seconds with all threads.
        num_samples: Samples of D_val.
        block_runs: Block evaluations over all samples, common prefixes run once.
        num_left: Candidates that saw all samples.
    """

    seconds: float
    num_samples: int
    block_runs: int
    num_left: int


def race(subject: Subject, space: Sequence[Architecture]) -> Race:
    """Runs an elimination in this process, as an exhaustive search with `search.elimination_risk` does."""
    val, network = subject.val, inference_network(subject)
    order = sample_order(len(val), subject.config.seed)
    elimination = SequentialElimination(len(val), _RISK)
    left, start, block_runs = list(range(len(space))), 0, 0
    say(f"  all {len(space):,} architectures by elimination on {len(val):,} samples")
    begin = time.perf_counter()
    for look, end in enumerate(elimination.looks):
        architectures = [space[i] for i in left]
        part = replace(val, indices=val.indices[order[start:end]])
        batches = part.batches(subject.config.search.batch_size, CPU)
        for i, (_, scores) in zip(left, score_samples(network, architectures, batches), strict=True):
            elimination.add(look, i, scores.correct, scores.spikes)
        block_runs += count_block_runs(architectures)[0] * (end - start)
        out = elimination.dropped(look, left)
        left, start = [i for i in left if i not in out], end
    return Race(time.perf_counter() - begin, len(val), block_runs, len(left))
