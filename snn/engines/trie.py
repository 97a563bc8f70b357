"""Evaluation of many architectures at once, with common prefixes run once.

Architectures whose first blocks agree have the same spikes up to that layer. They form a trie over the
searched layers; on each batch every distinct prefix runs once, depth first, so that memory grows with the
depth and not with the number of architectures. The stem runs once per batch for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn.engines.engine import make_inference
from snn.engines.inference import Fired, InferenceNetwork
from snn.fitness import Evaluation, SampleScores
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture, SearchedLayer


def evaluate_architectures(
    network: InferenceNetwork | SpikingNetwork,
    architectures: Sequence[Architecture],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_threads: int | None = None,
    stop: Callable[[Evaluation], bool] | None = None,
) -> list[Evaluation]:
    """Accuracy and spikes of each architecture with the network's weights and BN statistics.

    Args:
        network: A super-network with every block of `architectures`, or a child; `make_inference` prepares
            a SpikingNetwork.
        architectures: The architectures to evaluate, in any order; results are in the same order.
        batches: Pairs of inputs ([N, C, H, W] images or [T, N, C, H, W] frames) and labels [N], on the
            network's device.
        num_threads: Threads that share a batch, for engines without their own; None takes torch's number.
        stop: Called after each batch with an architecture's Evaluation so far; True stops evaluating it, and
            that Evaluation is its result.

    Raises:
        ValueError: There are no samples.
    """
    walks = _walks(network, architectures, num_threads, each_sample=False)
    stopped: dict[int, Evaluation] = {}
    for _ in _run(walks, batches):
        if stop is not None:
            for i in set(range(len(architectures))) - set(stopped):
                if stop(so_far := _evaluation(walks, i)):
                    stopped[i] = so_far
                    for walk in walks:
                        walk.stop(i)
    return [stopped.get(i) or _evaluation(walks, i) for i in range(len(architectures))]


def score_samples(
    network: InferenceNetwork | SpikingNetwork,
    architectures: Sequence[Architecture],
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_threads: int | None = None,
) -> list[tuple[Evaluation, SampleScores]]:
    """As `evaluate_architectures`, with what each architecture did on each sample, in order.

    Raises:
        ValueError: There are no samples.
    """
    walks = _walks(network, architectures, num_threads, each_sample=True)
    for _ in _run(walks, batches):
        pass
    return [(_evaluation(walks, i), _sample_scores(walks, i)) for i in range(len(architectures))]


def _walks(
    network: InferenceNetwork | SpikingNetwork,
    architectures: Sequence[Architecture],
    num_threads: int | None,
    *,
    each_sample: bool,
) -> list[_Walk]:
    """A walk for each thread."""
    if isinstance(network, SpikingNetwork):
        network = make_inference(network)
    forks = network.forks(num_threads or torch.get_num_threads())
    return [_Walk(fork, architectures, each_sample=each_sample) for fork in forks]


def _run(walks: Sequence[_Walk], batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Runs all walks on all batches; yields after each chunk of a batch.

    Raises:
        ValueError: There are no samples.
    """
    with torch.inference_mode(), ThreadPoolExecutor(len(walks)) as pool:
        for inputs, labels in _chunks(batches, walks[0].network.chunk_size * len(walks)):
            list(pool.map(_Walk.run, walks, *_split(inputs, labels, len(walks))))
            yield
    if not any(walk.root.num_samples for walk in walks):
        raise ValueError("There are no samples to evaluate on; give at least one batch.")


@dataclass
class _Branch:
    """A distinct prefix: the counts of its last block (and the pools after it), and its continuations.

    Attributes:
        counts: Spikes by part, summed over the samples; on the network's device.
        outputs: Binary outputs by part, per sample and time step.
        synops: Synaptic operations, summed over the samples; None where they are not counted.
        energy: Femtojoules with memory, likewise.
        macs: Multiply-accumulates, likewise.
        num_samples: Number of samples seen.
        following: Longer prefixes by their next block.
        members: Indices of the architectures with this prefix that are still evaluated.
        correct: Number of correct predictions, for a whole architecture.
        each_sample: For a whole architecture, of each call whether samples were classified correctly, their
            spikes, synaptic operations and energies (None where not counted); empty if not asked for.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    synops: int | None = None
    energy: int | None = None
    macs: int | None = None
    num_samples: int = 0
    correct: Any = 0
    each_sample: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)
    following: dict[str, _Branch] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)

    def add(self, fired: Fired, num_samples: int) -> None:
        """Adds the counts of one batch."""
        self.num_samples += num_samples
        for part, (count, outputs) in fired.counts.items():
            self.counts[part] = self.counts.get(part, 0) + count.sum()
            self.outputs[part] = outputs
        if fired.synops is not None:
            self.synops = (self.synops or 0) + int(fired.synops.sum())
        if fired.energy is not None:
            self.energy = (self.energy or 0) + int(fired.energy.sum())
        if fired.macs is not None:
            self.macs = (self.macs or 0) + fired.macs


class _Walk:
    """Depth-first traversals of one thread and their sums."""

    def __init__(
        self, network: InferenceNetwork, architectures: Sequence[Architecture], *, each_sample: bool
    ) -> None:
        self.network = network
        self.each_sample = each_sample
        self.parts = list(network.network.backbone.body)
        self.root = _Branch(members=set(range(len(architectures))))
        self.paths = [architecture.blocks for architecture in architectures]
        self.sizes: list[int] = []  # samples of each call, 0 where there were too few for all threads
        for i, path in enumerate(self.paths):
            branch = self.root
            for block in path:
                branch = branch.following.setdefault(block, _Branch())
                branch.members.add(i)

    def run(self, inputs: Tensor, labels: Tensor) -> None:
        """Adds one batch."""
        self.sizes.append(len(labels))
        if len(labels):
            with torch.inference_mode():
                self._descend(self.root, self.network.encode(inputs), 0, labels, ())

    def stop(self, i: int) -> None:
        """Skips the branches that only architecture `i` still needs."""
        for branch in self.along(i):
            branch.members.discard(i)

    def along(self, i: int) -> Iterator[_Branch]:
        """The branches of an architecture, from the root."""
        branch = self.root
        yield branch
        for block in self.paths[i]:
            branch = branch.following[block]
            yield branch

    def leaf(self, i: int) -> _Branch:
        """The branch of the whole architecture."""
        *_, leaf = self.along(i)
        return leaf

    def _descend(
        self, branch: _Branch, fired: Fired, part: int, labels: Tensor, before: tuple[Fired, ...]
    ) -> None:
        """Continues from `fired`, the spikes of a prefix, whose last branch is `branch`.

        Args:
            branch: The prefix.
            fired: What its last block fired.
            part: Index of the next part of the body.
            labels: Labels of the samples, [N].
            before: What the shorter prefixes fired.
        """
        while part < len(self.parts) and not isinstance(self.parts[part], SearchedLayer):
            fired = self.network.run(self.parts[part].name, "", fired.spikes).after(fired)
            part += 1
        if part == len(self.parts):
            predicted = self.network.decide(fired.spikes)
            correct = predicted.classes == labels
            branch.correct = branch.correct + correct.sum()
            fired = predicted.fired.after(fired)
            if self.each_sample:
                branch.each_sample.append((correct, *_totals((*before, fired))))
        branch.add(fired, len(labels))
        for block, following in branch.following.items():
            if following.members:
                longer = self.network.run(self.parts[part].name, block, fired.spikes)
                self._descend(following, longer, part + 1, labels, (*before, fired))


def _chunks(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of at most `size` samples."""
    for inputs, labels in batches:
        yield from zip(inputs.split(size, 0 if inputs.dim() == 4 else 1), labels.split(size), strict=True)


def _split(inputs: Tensor, labels: Tensor, parts: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Parts of a batch of about equal size; some are empty if it is small."""
    axis = 0 if inputs.dim() == 4 else 1
    return torch.tensor_split(inputs, parts, axis), torch.tensor_split(labels, parts)


def _totals(path: Sequence[Fired]) -> tuple[Any, Any, Any]:
    """Spikes, synaptic operations and energies [N] of all on a path; None where they are not counted."""
    spikes = sum(count for fired in path for count, _ in fired.counts.values())
    synops = [fired.synops for fired in path if fired.synops is not None]
    energies = [fired.energy for fired in path if fired.energy is not None]
    return spikes, sum(synops) if synops else None, sum(energies) if energies else None


def _sample_scores(walks: Sequence[_Walk], i: int) -> SampleScores:
    """What an architecture did on each sample; each call's samples are divided among the walks in order."""
    calls = [iter(walk.leaf(i).each_sample) for walk in walks]
    in_order = [
        next(calls[walk])
        for sizes in zip(*(walk.sizes for walk in walks), strict=True)
        for walk, size in enumerate(sizes)
        if size
    ]
    correct, *costs = zip(*in_order, strict=True)
    spikes, synops, energy = (None if cost[0] is None else _joined(cost, np.int64) for cost in costs)
    assert spikes is not None
    return SampleScores(_joined(correct, bool), spikes, synops, energy)


def _joined(parts: Sequence[Any], dtype: type) -> NDArray[Any]:
    """Arrays or tensors of any device in one array."""
    return np.concatenate([torch.as_tensor(part).cpu().numpy() for part in parts]).astype(dtype)


def _evaluation(walks: Sequence[_Walk], i: int) -> Evaluation:
    """The Evaluation of an architecture from the sums of all walks."""
    branches = [branch for walk in walks for branch in walk.along(i)]
    leaves = [walk.leaf(i) for walk in walks]
    num_samples = sum(leaf.num_samples for leaf in leaves)
    outputs = {part: width for branch in branches for part, width in branch.outputs.items()}
    spikes = {
        part: float(sum(branch.counts.get(part, 0) for branch in branches)) / num_samples for part in outputs
    }
    synops = [branch.synops for branch in branches if branch.synops is not None]
    energies = [branch.energy for branch in branches if branch.energy is not None]
    macs = [branch.macs for branch in branches if branch.macs is not None]
    time_steps = walks[0].network.time_steps
    total = sum(spikes.values())
    return Evaluation(
        accuracy=int(sum(leaf.correct for leaf in leaves)) / num_samples,
        spikes=total,
        firing_rate=total / (sum(outputs.values()) * time_steps),
        num_samples=num_samples,
        synops=sum(synops) / num_samples if synops else None,
        energy=1e-15 * sum(energies) / num_samples if energies else None,
        macs=sum(macs) / num_samples if macs else None,
        spikes_per_layer=spikes,
        firing_rate_per_layer={part: spikes[part] / (outputs[part] * time_steps) for part in spikes},
    )
