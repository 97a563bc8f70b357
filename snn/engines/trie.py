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

import torch
from torch import Tensor

from snn.engines.engine import make_inference
from snn.engines.inference import Fired, InferenceNetwork
from snn.fitness import Evaluation
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
    if isinstance(network, SpikingNetwork):
        network = make_inference(network)
    walks = [_Walk(fork, architectures) for fork in network.forks(num_threads or torch.get_num_threads())]
    stopped: dict[int, Evaluation] = {}
    with torch.inference_mode(), ThreadPoolExecutor(len(walks)) as pool:
        for inputs, labels in _chunks(batches, network.chunk_size * len(walks)):
            list(pool.map(_Walk.run, walks, *_split(inputs, labels, len(walks))))
            if stop is not None:
                for i in set(range(len(architectures))) - set(stopped):
                    if stop(so_far := _evaluation(walks, i)):
                        stopped[i] = so_far
                        for walk in walks:
                            walk.stop(i)
    if not any(walk.root.num_samples for walk in walks):
        raise ValueError("There are no samples to evaluate on; give at least one batch.")
    return [stopped.get(i) or _evaluation(walks, i) for i in range(len(architectures))]


def count_block_runs(architectures: Iterable[Architecture]) -> tuple[int, int]:
    """Block evaluations per batch for all architectures: (shared in a trie, separate)."""
    prefixes: set[tuple[str, ...]] = set()
    separate = 0
    for architecture in architectures:
        depth = len(architecture.blocks)
        separate += depth
        prefixes |= {architecture.blocks[: i + 1] for i in range(depth)}
    return len(prefixes), separate


@dataclass
class _Branch:
    """A distinct prefix: the counts of its last block (and the pools after it), and its continuations.

    Attributes:
        counts: Spikes by part, summed over the samples; on the network's device.
        outputs: Binary outputs by part, per sample and time step.
        synops: Synaptic operations, summed over the samples; None where they are not counted.
        macs: Multiply-accumulates, likewise.
        num_samples: Number of samples seen.
        following: Longer prefixes by their next block.
        members: Indices of the architectures with this prefix that are still evaluated.
        correct: Number of correct predictions, for a whole architecture.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    synops: int | None = None
    macs: int | None = None
    num_samples: int = 0
    correct: Any = 0
    following: dict[str, _Branch] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)

    def add(self, fired: Fired, num_samples: int) -> None:
        """Adds the counts of one batch."""
        self.num_samples += num_samples
        for part, (count, outputs) in fired.counts.items():
            self.counts[part] = self.counts.get(part, 0) + count
            self.outputs[part] = outputs
        if fired.synops is not None:
            self.synops = (self.synops or 0) + fired.synops
        if fired.macs is not None:
            self.macs = (self.macs or 0) + fired.macs


class _Walk:
    """Depth-first traversals of one thread and their sums."""

    def __init__(self, network: InferenceNetwork, architectures: Sequence[Architecture]) -> None:
        self.network = network
        self.parts = list(network.network.backbone.body)
        self.root = _Branch(members=set(range(len(architectures))))
        self.paths = [architecture.blocks for architecture in architectures]
        for i, path in enumerate(self.paths):
            branch = self.root
            for block in path:
                branch = branch.following.setdefault(block, _Branch())
                branch.members.add(i)

    def run(self, inputs: Tensor, labels: Tensor) -> None:
        """Adds one batch."""
        if len(labels):
            with torch.inference_mode():
                self._descend(self.root, self.network.encode(inputs), 0, labels)

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

    def _descend(self, branch: _Branch, fired: Fired, part: int, labels: Tensor) -> None:
        """Continues from `fired`, the spikes of a prefix; `part` indexes the next part of the body."""
        while part < len(self.parts) and not isinstance(self.parts[part], SearchedLayer):
            fired = self.network.run(self.parts[part].name, "", fired.spikes).after(fired)
            part += 1
        if part == len(self.parts):
            predicted = self.network.decide(fired.spikes)
            branch.correct = branch.correct + (predicted.classes == labels).sum()
            fired = predicted.fired.after(fired)
        branch.add(fired, len(labels))
        for block, following in branch.following.items():
            if following.members:
                longer = self.network.run(self.parts[part].name, block, fired.spikes)
                self._descend(following, longer, part + 1, labels)


def _chunks(batches: Iterable[tuple[Tensor, Tensor]], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of at most `size` samples."""
    for inputs, labels in batches:
        yield from zip(inputs.split(size, 0 if inputs.dim() == 4 else 1), labels.split(size), strict=True)


def _split(inputs: Tensor, labels: Tensor, parts: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Parts of a batch of about equal size; some are empty if it is small."""
    axis = 0 if inputs.dim() == 4 else 1
    return torch.tensor_split(inputs, parts, axis), torch.tensor_split(labels, parts)


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
    macs = [branch.macs for branch in branches if branch.macs is not None]
    time_steps = walks[0].network.time_steps
    total = sum(spikes.values())
    return Evaluation(
        accuracy=int(sum(leaf.correct for leaf in leaves)) / num_samples,
        spikes=total,
        firing_rate=total / (sum(outputs.values()) * time_steps),
        num_samples=num_samples,
        synops=sum(synops) / num_samples if synops else None,
        macs=sum(macs) / num_samples if macs else None,
        spikes_per_layer=spikes,
        firing_rate_per_layer={part: spikes[part] / (outputs[part] * time_steps) for part in spikes},
    )
