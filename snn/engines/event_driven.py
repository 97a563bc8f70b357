"""Event-driven inference: a network evaluated spike by spike.

A dense convolution multiplies every zero of its input, and nine in ten activations of a spiking network are
zero. Here each spike adds its weights to the neurons it reaches and silence costs nothing, so that time
grows with the number of spikes, as energy does on neuromorphic hardware. Batch norm and the neuron's input
gain are folded into the weights; synaptic operations are counted along the way.

Results do not depend on batch size, number of threads or the CPU's vector width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn.energy import analog_joules, spike_joules, synop_joules, update_joules
from snn.engines.event_weights import Half, Plan, fold, plans, stem_parts
from snn.engines.inference import Fired, Predicted
from snn.kernels import calls as kernels
from snn.kernels.layout import (
    LANES,
    MAX_CHANNELS,
    MAX_SIZE,
    Connection,
    Layer,
    SpikeLists,
    Workspace,
    aligned,
)
from snn.kernels.library import check_available
from snn.model.blocks import ConvNorm, ShiftedReduction, SkipConnection, SpikingAveragePool
from snn.model.network import VOTERS_PER_CLASS, SpikingNetwork
from snn.model.neuron import SpikingNeuron

Shape = tuple[int, int, int]

# Increment when any result changes, whether by the kernels, the folding or the layout; cached evaluations of
# other versions are ignored.
EVENT_DRIVEN_VERSION = 1

# Maximum of neurons times samples times steps per call; bounds the memory for spikes.
_MAX_CHUNK = 16_000_000


@dataclass(frozen=True)
class Step:
    """A layer of neurons or a max-pool, and the sources of its inputs.

    Attributes:
        name: Prefix of its arrays.
        layer: Its neurons and connections; None is a max-pool.
        sources: Indices of its inputs: 0 is the block's input, i the output of the block's i-th step.
        energy: Of its operations.
    """

    name: str
    layer: Layer | None
    sources: tuple[int, ...]
    energy: StepEnergy | None = None


@dataclass(frozen=True)
class StepEnergy:
    """Energy of a layer with its memory, in femtojoules, so that sums are exact in any order.

    Attributes:
        of_synop: Of a synaptic operation of each connection.
        of_spike: Of a spike.
        of_updates: Of the neurons' updates in a sample, over all time steps.
    """

    of_synop: tuple[int, ...]
    of_spike: int
    of_updates: int

    def of(self, spikes: NDArray[np.int64], synops: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each sample [N], from its spikes [N] and synaptic operations [connections, N]."""
        of_synops: NDArray[np.int64] = np.array(self.of_synop, np.int64) @ synops
        return spikes * self.of_spike + self.of_updates + of_synops


def _step_energy(layer: Layer, time_steps: int) -> StepEnergy:
    channels, height, width = layer.shape
    neurons = channels * height * width
    of_synop = []
    for connection in layer.connections:
        kernel = (0, 0, 0) if connection.weights is None else connection.weights.shape[:3]
        weights, targets = math.prod(kernel) * connection.fan_out, connection.fan_out * height * width
        of_synop.append(_femtojoules(synop_joules(weights=weights, targets=targets)))
    updates = neurons * time_steps * update_joules(neurons)
    return StepEnergy(tuple(of_synop), _femtojoules(spike_joules()), _femtojoules(updates))


def _femtojoules(joules: float) -> int:
    return round(joules * 1e15)


def fits_kernels(network: SpikingNetwork) -> bool:
    """Whether planes and channels of a network fit a spike's 32 bits; it may be on the meta device."""
    height, width, channels = _largest_plane(network)
    return network.spikes and max(height, width) <= MAX_SIZE and channels <= MAX_CHANNELS


def check_fits_kernels(network: SpikingNetwork) -> None:
    """Raises ValueError unless `fits_kernels`."""
    if not network.spikes:
        raise ValueError("The event-driven engine needs spikes, but the neurons are ReLU: use dense.")
    if not fits_kernels(network):
        height, width, channels = _largest_plane(network)
        raise ValueError(
            f"The event-driven engine supports planes of up to {MAX_SIZE}x{MAX_SIZE} pixels and "
            f"{MAX_CHANNELS:,} channels; this network has up to {height}x{width} pixels and {channels:,} "
            "channels. Use --search.engine dense or auto, or smaller samples (data.downsample, data.crop)."
        )


def _largest_plane(network: SpikingNetwork) -> tuple[int, int, int]:
    """Height, width and channels that no part exceeds; no part enlarges its input."""
    channels, height, width = network.input_shape
    norms = (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    return height, width, max(channels, network.head.out_features, *(norm.num_features for norm in norms))


class EventDrivenNetwork:
    """The event-driven form of a SpikingNetwork; implements `snn.engines.inference.InferenceNetwork`.

    Args:
        network: The structure; may be on the meta device if `arrays` are given.
        arrays: Folded weights from `fold`, shared and never written to; None folds the network's own.

    Raises:
        KernelsUnavailable: There is no C compiler.
        ValueError: The network does not fit the kernels; see `fits_kernels`.
    """

    def __init__(self, network: SpikingNetwork, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        check_fits_kernels(network)
        check_available()
        self.network = network
        self.arrays = fold(network) if arrays is None else arrays
        self.workspace = Workspace()
        shape = network.input_shape
        self.time_steps = network.time_steps
        self.device = torch.device("cpu")
        self.programs: dict[tuple[str, str], tuple[Step, ...]] = {}
        shape = self._add("stem", "", network.stem, shape, network.stem_neuron)
        self.stem_parts = list(stem_parts(network))
        for name, module, neuron in self.stem_parts:
            shape = self._add(name, "", module, shape, neuron)
        for part, module in network.body.items():
            blocks = module.items() if isinstance(module, nn.ModuleDict) else [("", module)]
            for block, block_module in blocks:
                following = self._add(part, block, block_module, shape)
            shape = following
        if isinstance(network.global_pool, SpikingAveragePool):
            shape = self._add("global_pool", "", network.global_pool, shape)
        self._add("head", "", network.head, shape, network.head_neuron)
        sizes = [_largest(program) for program in self.programs.values()]
        self.chunk_size = max(1, _MAX_CHUNK // (self.time_steps * max(sizes)))
        stem = self.programs["stem", ""][0].layer
        assert stem is not None
        self.stem_macs = stem.num_neurons * network.input_shape[0] * 9

    def forks(self, number: int) -> list[Self]:
        """Networks to run in `number` threads: the weights are shared, the working memory is not."""
        return [self._with_own_memory() for _ in range(number)]

    def encode(self, inputs: Tensor) -> Fired:
        """Spikes of the stem for images [N, C, H, W] or event frames [T, N, C, H, W]."""
        static = inputs.dim() == 4
        frames = inputs[:, None] if static else inputs.transpose(0, 1)
        contiguous = frames.permute(0, 1, 3, 4, 2).contiguous().to(torch.float32).numpy()
        time_steps = self.time_steps if static else inputs.shape[0]
        stem = self.programs["stem", ""][0].layer
        assert stem is not None
        spikes = kernels.encode(stem, contiguous, time_steps, self.workspace, "stem")
        energy = self.programs["stem", ""][0].energy
        assert energy is not None
        frames_seen = 1 if static else time_steps
        fired = Fired(
            spikes,
            {"stem": (spikes.counts, stem.num_neurons)},
            energy=energy.of(spikes.counts, np.zeros((1, spikes.num_samples), np.int64))
            + self._stem_energy(frames_seen),
        )
        macs = self.stem_macs * spikes.num_samples * frames_seen
        for name, _, _ in self.stem_parts:
            following = self._run(name, "", fired.spikes, part="stem_reduction")
            fired = following.after(fired)
        return fired.with_macs(macs)

    def run(self, part: str, block: str, spikes: SpikeLists) -> Fired:
        """Spikes of a part of the body; `block` is empty for a pool."""
        return self._run(part, block, spikes, part=part)

    def decide(self, spikes: SpikeLists) -> Predicted:
        """The votes of each sample."""
        fired = Fired(spikes, {})
        if ("global_pool", "") in self.programs:
            fired = self._run("global_pool", "", spikes, part="global_pool")
        fired = self._run("head", "", fired.spikes, part="head").after(fired)
        votes = kernels.count_votes(fired.spikes, VOTERS_PER_CLASS)
        return Predicted(torch.from_numpy(votes), fired)

    def _stem_energy(self, num_frames: int) -> int:
        """Of the stem's multiply-accumulates for a sample, in femtojoules."""
        channels, height, width = self.network.input_shape
        stem = self.programs["stem", ""][0].layer
        assert stem is not None
        targets = stem.num_neurons
        joules = analog_joules(
            macs=self.stem_macs * num_frames,
            weights=channels * 9 * stem.shape[0],
            sources=channels * height * width,
            targets=targets,
        )
        return _femtojoules(joules)

    def _with_own_memory(self) -> Self:
        fork = copy.copy(self)
        fork.workspace = Workspace()
        return fork

    def _run(self, name: str, block: str, spikes: SpikeLists, *, part: str) -> Fired:
        return self.run_program(self.programs[name, block], spikes, part=part, buffer=name)

    def run_program(self, program: Sequence[Step], spikes: SpikeLists, *, part: str, buffer: str) -> Fired:
        """Runs the steps of a block; its spikes lie in the workspace under names that begin with `buffer`."""
        signals = [spikes]
        counted = operations = energy = np.zeros(spikes.num_samples, np.int64)
        outputs = 0
        for i, step in enumerate(program):
            inputs = [signals[source] for source in step.sources]
            following, added = self.run_step(step, inputs, f"{buffer}.{i}")
            signals.append(following)
            counts = following.counts
            counted = counted + counts
            channels, height, width = following.shape
            outputs += channels * height * width
            operations = operations + added.sum(0)
            if step.energy is not None:
                energy = energy + step.energy.of(counts, added)
        return Fired(signals[-1], {part: (counted, outputs)} if program else {}, operations, energy)

    def run_step(
        self, step: Step, inputs: Sequence[SpikeLists], buffer: str
    ) -> tuple[SpikeLists, NDArray[np.int64]]:
        """Spikes of one step and its synaptic operations, [connections, N]."""
        if step.layer is None:
            none = np.zeros((1, inputs[0].num_samples), np.int64)
            return kernels.max_pool(inputs[0], self.workspace, buffer), none
        return kernels.fire(step.layer, inputs, self.workspace, buffer)

    def _add(
        self, part: str, block: str, module: nn.Module, shape: Shape, neuron: SpikingNeuron | None = None
    ) -> Shape:
        """Adds the program of a module and returns the shape of its output."""
        shapes, steps = [shape], []
        for plan in plans(f"{part}.{block}", module, neuron):
            if plan is None:
                channels, height, width = shapes[-1]
                shapes.append((channels, height // 2, width // 2))
                steps.append(Step("", None, (len(shapes) - 2,)))
                continue
            layer = _make_layer(plan, [shapes[i] for i in plan.sources], self.arrays)
            shapes.append(layer.shape)
            steps.append(Step(plan.name, layer, plan.sources, _step_energy(layer, self.time_steps)))
        self.programs[part, block] = tuple(steps)
        return shapes[-1]


def _make_layer(plan: Plan, shapes: list[Shape], arrays: Mapping[str, NDArray[Any]]) -> Layer:
    gain, leak = arrays[f"{plan.name}.neuron"].tolist()
    connected = [
        _connection(module, shape, gain, arrays.get(f"{plan.name}.weights{i}"))
        for i, (module, shape) in enumerate(zip(plan.modules, shapes, strict=True))
    ]
    shape = connected[0][1]
    bias = arrays.get(f"{plan.name}.bias")
    if bias is None:
        bias = np.zeros(shape[0] + -shape[0] % LANES, np.float32)
    return Layer(shape, bias, leak, plan.neuron.v_threshold, tuple(connection for connection, _ in connected))


def _connection(
    module: nn.Module | None, shape: Shape, gain: float, weights: NDArray[np.float32] | None
) -> tuple[Connection, Shape]:
    """The connection that a module makes from an input of the given shape, and its output shape."""
    channels, height, width = shape
    if module is None:
        return Connection(scale=gain), shape
    if isinstance(module, SpikingAveragePool):
        if module.size is None:
            return Connection(size=max(height, width), scale=gain / (height * width)), (channels, 1, 1)
        size = module.size
        return Connection(size=size, scale=gain / size**2), (channels, height // size, width // size)
    assert weights is not None
    if isinstance(module, nn.Linear):  # a convolution whose kernel covers its whole input
        kernel = weights.reshape(channels, height, width, -1)[:, :, ::-1]
        connection = Connection(aligned(kernel), fan_out=module.out_features)
        return connection, (module.out_features, 1, 1)
    if isinstance(module, Half):
        reduction = module.skip.conv
        assert isinstance(reduction, ShiftedReduction)
        conv = (reduction.conv1, reduction.conv2)[module.index]
        connection = Connection(weights, stride=2, padding=-module.index, fan_out=conv.out_channels)
        return connection, (module.skip.norm.num_features, (height + 1) // 2, (width + 1) // 2)
    assert isinstance(module, ConvNorm | SkipConnection) and isinstance(module.conv, nn.Conv2d)
    conv = module.conv
    stride, padding, kernel_size = conv.stride[0], int(conv.padding[0]), conv.kernel_size[0]
    sides = [(side + 2 * padding - kernel_size) // stride + 1 for side in (height, width)]
    connection = Connection(weights, stride, padding, fan_out=conv.out_channels)
    return connection, (conv.out_channels, sides[0], sides[1])


def _largest(program: tuple[Step, ...]) -> int:
    return max((step.layer.num_floats for step in program if step.layer is not None), default=1)
