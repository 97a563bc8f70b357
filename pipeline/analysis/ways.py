"""What each way to score architectures costs: candidates, samples and CPU time side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.storage.records import EvaluationRow, RetrainResult, SearchResult, SupernetResult
from snn.search_space import SearchSpace

PAPER_CANDIDATES = 400
"""Evaluations of a search of the paper (section 5.1)."""


@dataclass(frozen=True)
class Way:
    """A way to score architectures.

    Attributes:
        name: What is done.
        candidates: Architectures scored; None for what is done once for all.
        samples: Samples that each takes, repeated ones counted; a mean.
        cpu_seconds: CPU seconds of all of it.
        measured: Whether they were measured in this run; otherwise measured speeds are multiplied.
    """

    name: str
    candidates: int | None
    samples: float
    cpu_seconds: float
    measured: bool


def ways_of(
    space: SearchSpace,
    supernet: SupernetResult | None,
    search: SearchResult,
    rows: Sequence[EvaluationRow],
    retrained: Sequence[RetrainResult],
) -> tuple[Way, ...]:
    """The ways, as far as this run has measured what they take.

    Evaluations with a super-network's weights are estimated from the CPU time of a block's evaluation on a
    sample, a mean over those of this search; training from scratch from the networks of stage 3.
    """
    ways: list[Way] = []
    measured = [row.evaluation for row in rows if row.evaluation is not None]
    number, done = len(measured), search.num_evaluations - search.num_known
    if supernet is not None and supernet.cost.cpu_seconds and supernet.history:
        samples = supernet.num_train * len(supernet.history)
        ways.append(Way("training the super-network", None, samples, supernet.cost.cpu_seconds, True))
    if measured and search.cost.cpu_seconds and done:
        samples_each = sum(evaluation.num_samples for evaluation in measured) / number
        name = f"this search ({search.algorithm})"
        ways.append(Way(name, done, samples_each, search.cost.cpu_seconds, True))
    if measured and search.block_runs:
        per_block = search.cost.cpu_seconds / search.block_runs
        val = max(evaluation.num_samples for evaluation in measured)

        def evaluated(name: str, candidates: int, blocks: int) -> Way:
            return Way(name, candidates, val, per_block * blocks * val, False)

        layers, blocks = space.num_layers, len(space.blocks)
        alone = number * layers
        of_paper = PAPER_CANDIDATES * layers
        prefixes = sum(blocks ** (layer + 1) for layer in range(layers))
        ways += [
            evaluated("the same candidates on all of D_val, one by one", number, alone),
            evaluated("the paper's 400 candidates, one by one", PAPER_CANDIDATES, of_paper),
            evaluated("the whole space, common first blocks run once", len(space), prefixes),
        ]
    if retrained and (seconds := sum(result.cost.cpu_seconds for result in retrained)):
        samples_each = sum(r.num_train * len(r.history) for r in retrained) / len(retrained)
        each, name = seconds / len(retrained), "training each candidate from scratch, as stage 3 does"
        ways.append(Way(name, number, samples_each, each * number, False))
    return tuple(ways)
