"""Evaluation of many architectures that shares what they share.

Architectures with the same first blocks have the same spikes up to there. They form a trie over the
searched layers; on each batch every distinct prefix runs once, depth first, so that memory grows with the
depth and not with the number of architectures. The stem runs once per batch for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from snn.fitness import Evaluation
from snn.network import SpikingNetwork, firing_rates, to_memory_format
from snn.search_space import Architecture, SearchedLayer
from snn.spikes import SpikeRecord, part_of, record_spikes


def evaluate_architectures(
    network: SpikingNetwork,
    architectures: Sequence[Architecture],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> list[Evaluation]:
    """Accuracy and spikes of each architecture with the network's weights and stored BN statistics.

    Args:
        network: A super-network that holds every block of `architectures` (or a child, for its own).
        architectures: What is evaluated, in any order; the results come in the same order.
        batches: Pairs of inputs ([N, C, H, W] images or [T, N, C, H, W] frames) and labels [N], on the
            network's device.

    Raises:
        ValueError: No samples.
    """
    network.eval()
    order = sorted(range(len(architectures)), key=lambda i: architectures[i].blocks)
    walk = _Walk(network, [architectures[i].blocks for i in order])
    with torch.inference_mode(), record_spikes(network) as walk.record:
        for inputs, labels in batches:
            walk.run(inputs, labels)
    results = walk.evaluations()
    return [results[order.index(i)] for i in range(len(architectures))]


def count_block_runs(architectures: Iterable[Architecture]) -> tuple[int, int]:
    """Block evaluations per batch that architectures need together: (shared in a trie, separate)."""
    prefixes: set[tuple[str, ...]] = set()
    separate = 0
    for architecture in architectures:
        depth = len(architecture.blocks)
        separate += depth
        prefixes |= {architecture.blocks[: i + 1] for i in range(depth)}
    return len(prefixes), separate


@dataclass
class _Node:
    """Where the walk stands: the spikes so far and the counts of each part passed, on the device."""

    spikes: Tensor
    counts: dict[str, Tensor]


class _Walk:
    """One depth-first pass a batch; adds up correct predictions and spikes of each path."""

    record: SpikeRecord

    def __init__(self, network: SpikingNetwork, paths: Sequence[tuple[str, ...]]) -> None:
        self.network = network
        self.paths = paths
        self.parts = list(network.backbone.body)
        self.correct: list[Tensor] = []
        self.counts: list[dict[str, Tensor]] = [{} for _ in paths]
        self.num_samples = 0
        self.time_steps = network.time_steps

    def run(self, inputs: Tensor, labels: Tensor) -> None:
        self.num_samples += len(labels)
        spikes = self.network.encode(to_memory_format(inputs))
        self.time_steps = spikes.shape[0]
        root = _Node(spikes, {})
        self._take_counts(root)
        if not self.correct:
            self.correct = [torch.zeros((), dtype=torch.int64, device=labels.device) for _ in self.paths]
        self._descend(root, 0, 0, range(len(self.paths)), labels)

    def _descend(self, node: _Node, part: int, depth: int, members: Sequence[int], labels: Tensor) -> None:
        """Goes on from `node` with the paths `members`, which agree in their first `depth` blocks."""
        while part < len(self.parts) and not isinstance(self.parts[part], SearchedLayer):
            node = self._step(node, self.network.body[self.parts[part].name])
            part += 1
        if part == len(self.parts):
            self._finish(node, members, labels)
            return
        layer = self.network.body[self.parts[part].name]
        assert isinstance(layer, nn.ModuleDict)
        for block, same in groupby(members, key=lambda i: self.paths[i][depth]):
            self._descend(self._step(node, layer[block]), part + 1, depth + 1, list(same), labels)

    def _step(self, node: _Node, module: nn.Module) -> _Node:
        following = _Node(module(node.spikes), dict(node.counts))
        self._take_counts(following)
        return following

    def _finish(self, node: _Node, members: Sequence[int], labels: Tensor) -> None:
        votes = self.network.decide(node.spikes)
        self._take_counts(node)
        correct = (firing_rates(votes).argmax(1) == labels).sum()
        for i in members:
            self.correct[i] += correct
            totals = self.counts[i]
            for name, count in node.counts.items():
                totals[name] = totals[name] + count if name in totals else count

    def _take_counts(self, node: _Node) -> None:
        for name, count in self.record.counts.items():
            node.counts[name] = count.sum(dtype=torch.float64)
        self.record.counts.clear()

    def evaluations(self) -> list[Evaluation]:
        if not self.num_samples:
            raise ValueError("There are no samples to evaluate on; give at least one batch.")
        return [self._evaluation(i) for i in range(len(self.paths))]

    def _evaluation(self, i: int) -> Evaluation:
        names = list(self.counts[i])
        spikes = (torch.stack(list(self.counts[i].values())) / self.num_samples).tolist()
        per_part: dict[str, float] = {}
        outputs: dict[str, int] = {}
        for name, value in zip(names, spikes, strict=True):
            part = part_of(name)
            per_part[part] = per_part.get(part, 0.0) + value
            outputs[part] = outputs.get(part, 0) + self.record.neurons[name]
        total = sum(per_part.values())
        return Evaluation(
            accuracy=self.correct[i].item() / self.num_samples,
            spikes=total,
            firing_rate=total / (sum(outputs.values()) * self.time_steps),
            num_samples=self.num_samples,
            spikes_per_layer=per_part,
            firing_rate_per_layer={p: per_part[p] / (outputs[p] * self.time_steps) for p in per_part},
        )
