"""The plain implementation of evaluation and training: the baseline of the benchmark.

It runs one architecture at a time, in a Python loop over T with the layers one after another on [N, C, H, W].
Neurons are elementwise operations that keep their potentials between steps. Batch norm is not folded and in
training normalises each time step separately. The spikes of each counted layer are copied to the host at each
step. It uses the weights of a SpikingNetwork and gives the same results, except for batch norm in training.

Dimensions: T time steps, N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn.model.network import VOTERS_PER_CLASS, SpikingNetwork, predictions
from snn.model.neuron import SURROGATE_ALPHA
from snn.search_space import Architecture, PoolName, SearchedLayer

PLAIN_BATCH_SIZE = 768
PLAIN_SMALL_BATCH_SIZE = 32


def contiguous_copy(network: SpikingNetwork) -> SpikingNetwork:
    """A copy of the network in the memory format of the plain implementation."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def evaluate_plainly(
    network: SpikingNetwork, architecture: Architecture, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean spikes per sample of one architecture, with stored BN statistics.

    Args:
        network: A super-network or a child that contains the architecture.
        architecture: The path.
        batches: Pairs of inputs ([N, C, H, W] images or [T, N, C, H, W] frames) and labels [N].
    """
    network.eval()
    path = PlainPath(network, architecture)
    correct = num_samples = 0
    with torch.no_grad():
        for inputs, labels in batches:
            votes_TNK = path.votes(inputs.contiguous())
            correct += int((predictions(votes_TNK) == labels).sum().item())
            num_samples += len(labels)
    return correct / num_samples, path.spikes / num_samples


class PlainTrainer:
    """Trains one path per step with ordinary autograd and Adam.

    Args:
        network: The network to train.
        learning_rate: Step size of Adam.
    """

    def __init__(self, network: SpikingNetwork, *, learning_rate: float) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def step(self, inputs: Tensor, labels: Tensor, architecture: Architecture) -> float:
        """One step on the mean squared error of the firing rates; returns the loss."""
        self.network.train()
        self.optimizer.zero_grad()
        rates_NK = PlainPath(self.network, architecture).votes(inputs.contiguous()).mean(0)
        loss = F.mse_loss(rates_NK, F.one_hot(labels, rates_NK.shape[1]).to(rates_NK.dtype))
        loss.backward()
        self.optimizer.step()
        return loss.item()


class PlainPath:
    """One path through a network, run one time step after another.

    Args:
        network: Provides modules and weights; its mode (train or eval) determines that of batch norm.
        architecture: The path.

    Attributes:
        spikes: Spikes of all samples so far, summed over T and all counted layers.
    """

    def __init__(self, network: SpikingNetwork, architecture: Architecture) -> None:
        self.network = network
        self.architecture = architecture
        self.spikes = 0.0
        self._potentials: dict[nn.Module, Tensor] = {}

    def votes(self, x: Tensor) -> Tensor:
        """Votes [T, N, K]; a static image passes the stem convolution once."""
        self._potentials.clear()
        stem = self.network.stem
        if x.dim() == 4:
            current = self._conv_norm(stem, x)
            return torch.stack([self._step(current) for _ in range(self.network.time_steps)])
        return torch.stack([self._step(self._conv_norm(stem, frame)) for frame in x])

    def _step(self, current: Tensor) -> Tensor:
        network = self.network
        x = self._stem_reduction(self._fire(network.stem_neuron, current))
        blocks = iter(self.architecture.blocks)
        for part in network.backbone.body:
            module: Any = network.body[part.name]
            if isinstance(part, SearchedLayer):
                x = self._block(module[next(blocks)], x)
            else:
                x = self._pool(part.kind, module, x)
        if network.backbone.spiking_global_pool:
            x = self._fire(network.global_pool.neuron1, F.adaptive_avg_pool2d(x, 1))
        voters = self._fire(network.head_neuron, F.linear(x.flatten(1), network.head.weight))
        return torch.unflatten(voters, 1, (network.num_classes, VOTERS_PER_CLASS)).mean(2)

    def _stem_reduction(self, x: Tensor) -> Tensor:
        for name, part in self.network.stem_reduction.items():
            if name.startswith("pool"):
                x = self._pool("strided" if hasattr(part, "conv1") else "max", part, x)
            else:
                x = self._conv_norm(part, x) if name.startswith("conv") else self._fire(part, x)
        return x

    def _pool(self, kind: PoolName, module: Any, x: Tensor) -> Tensor:
        if kind == "max":
            return self._count(F.max_pool2d(x, 2))
        if kind == "strided":
            return self._fire(module.neuron1, self._conv_norm(module.conv1, x))
        return self._fire(module.neuron1, F.avg_pool2d(x, 2))

    def _block(self, block: Any, x: Tensor) -> Tensor:
        """SCB, SRB and SIB: convolutions with neurons, with or without a shortcut before the last neuron."""
        if isinstance(block, nn.Identity):
            return x
        if hasattr(block, "conv"):
            return self._fire(block.neuron1, self._norm(block.norm, self._skip_conv(block.conv, x)))
        depth = sum(name.startswith("conv") for name, _ in block.named_children())
        current = x
        for i in range(1, depth + 1):
            current = self._conv_norm(getattr(block, f"conv{i}"), current)
            if i == depth and hasattr(block, "shortcut"):
                identity = isinstance(block.shortcut, nn.Identity)
                current = current + (x if identity else self._conv_norm(block.shortcut, x))
            current = self._fire(getattr(block, f"neuron{i}"), current)
        return current

    def _skip_conv(self, conv: Any, x: Tensor) -> Tensor:
        if isinstance(conv, nn.Conv2d):
            return self._conv(conv, x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.cat([self._conv(conv.conv1, x), self._conv(conv.conv2, shifted)], dim=1)

    def _conv_norm(self, module: Any, x: Tensor) -> Tensor:
        return self._norm(module.norm, self._conv(module.conv, x))

    def _conv(self, conv: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)

    def _norm(self, norm: Any, x: Tensor) -> Tensor:
        mean, variance, training = norm.running_mean, norm.running_var, self.network.training
        return F.batch_norm(x, mean, variance, norm.weight, norm.bias, training, 0.1, norm.eps)

    def _fire(self, neuron: Any, current: Tensor) -> Tensor:
        v = self._potentials.get(neuron)
        v = torch.zeros_like(current) if v is None else v
        if neuron.kind == "IF":
            h = v + current
        else:
            h = v + (current - v) * (neuron.w.sigmoid() if neuron.kind == "PLIF" else 1 / neuron.init_tau)
        spikes: Tensor = _Spike.apply(h - neuron.v_threshold)
        self._potentials[neuron] = (1.0 - spikes.detach()) * h
        return self._count(spikes)

    def _count(self, spikes: Tensor) -> Tensor:
        self.spikes += spikes.detach().sum().item()
        return spikes


class _Spike(torch.autograd.Function):
    """1 where x >= 0; its gradient is the ATan surrogate's (alpha / 2) / (1 + (pi / 2 * alpha * x) ** 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope = SURROGATE_ALPHA / 2 / (1 + (math.pi / 2 * SURROGATE_ALPHA * x).pow(2))
        return slope * grad_outputs[0]


@dataclass(frozen=True)
class Convolution:
    """One convolution of a path.

    Attributes:
        weight_shape: (C out, C in, k, k).
        input_shape: (C, H, W).
        runs: Number of runs per sample: T, or 1 for the stem of a static image.
    """

    weight_shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    runs: int


def convolutions_of(network: SpikingNetwork, architecture: Architecture, x: Tensor) -> list[Convolution]:
    """The convolutions that a path runs for a sample of the shape of those in `x`, in order."""
    network.eval()
    tracer = _Tracer(network, architecture)
    with torch.no_grad():
        tracer.votes(x[:1] if x.dim() == 4 else x[:, :1])
    return [
        Convolution(tuple(conv.weight.shape), shapes[0], conv.stride, conv.padding, len(shapes))
        for conv, shapes in tracer.inputs.items()
    ]


class _Tracer(PlainPath):
    def __init__(self, network: SpikingNetwork, architecture: Architecture) -> None:
        super().__init__(network, architecture)
        self.inputs: dict[Any, list[tuple[int, ...]]] = {}

    def _conv(self, conv: Any, x: Tensor) -> Tensor:
        self.inputs.setdefault(conv, []).append(tuple(x.shape[1:]))
        return super()._conv(conv, x)
