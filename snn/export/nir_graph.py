"""Exports to NIR, the neuromorphic intermediate representation, and runs such graphs in other simulators.

A graph has a node for each convolution (batch norm folded in), each layer of neurons and each average pool.
One time step of the network lasts DT; a leaky neuron has tau = DT / d with its decay factor d, r = 1 and a
hard reset to 0, which discretised by Euler's method is the network's own equation.
"""

# T time steps, N samples, C channels, H height, W width

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn.bundle.trained import TrainedNetwork
from snn.engines.event_weights import Half, Plan, plans, stem_parts
from snn.engines.folding import fold_norm, reduction_weight
from snn.export.packages import require
from snn.model.blocks import ConvNorm, ShiftedReduction, SkipConnection, SpikingAveragePool
from snn.model.network import VOTERS_PER_CLASS
from snn.model.neuron import SpikingNeuron

DT = 1e-4
"""Seconds of a time step, as snntorch and spikingjelly assume it."""

Shape = tuple[int, int, int]


def export_nir(network: TrainedNetwork, path: Path) -> None:
    """Writes a NIR graph (HDF5): analog or event frames in, spikes of the voters out, a time step at a time.

    Raises:
        ValueError: The network has max-pools of spikes, for which NIR has no node.
        RuntimeError: nir is not installed.
    """
    require("nir")
    import nir

    nir.write(path, _Graph(network).build())


class _Graph:
    """Collects the nodes and edges of a network."""

    def __init__(self, network: TrainedNetwork) -> None:
        self.network = network
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def build(self) -> Any:
        import nir

        network = self.network.network
        shape = network.input_shape
        self.nodes["input"] = nir.Input(input_type={"input": np.array(shape)})
        signal = "input"
        modules: list[tuple[str, nn.Module, SpikingNeuron | None]] = [
            ("stem", network.stem, network.stem_neuron),
            *stem_parts(network),
        ]
        blocks = iter(self.network.architecture.blocks)
        for name, part in network.body.items():
            modules.append((name, part[next(blocks)] if isinstance(part, nn.ModuleDict) else part, None))
        modules += [("global_pool", network.global_pool, None), ("head", network.head, network.head_neuron)]
        for name, module, neuron in modules:
            signals = [(signal, shape)]
            for plan in plans(name.replace(".", "_"), module, neuron):
                if plan is None:
                    raise ValueError(
                        f"'{name}' is a max-pool of spikes, for which NIR has no node. Search and retrain "
                        "with --network.backbone AutoSNN_deploy, which has strided convolutions in their "
                        "place, or with SNN_3 or SNN_4."
                    )
                signals.append(self._add_layer(plan, [signals[source] for source in plan.sources]))
            signal, shape = signals[-1]
        self.nodes["output"] = nir.Output(output_type={"output": np.array([network.head.out_features])})
        self.edges.append((signal, "output"))
        return nir.NIRGraph(self.nodes, self.edges)

    def _add_layer(self, plan: Plan, inputs: list[tuple[str, Shape]]) -> tuple[str, Shape]:
        """Adds a layer of neurons with what feeds it; its name and output shape."""
        name = plan.name.replace(".", "_")
        pairs = list(zip(plan.modules, inputs, strict=True))
        if isinstance(plan.modules[0], Half):  # both halves of a strided skip connection are one convolution
            pairs = [(plan.modules[0].skip, inputs[0])]
        shapes = []
        for i, (module, (source, shape)) in enumerate(pairs):
            if module is None:
                self.edges.append((source, name))
                shapes.append(shape)
                continue
            feeding = f"{name}_in{i}"
            self.nodes[feeding], out = _feeding(module, shape)
            if isinstance(module, nn.Linear):
                self.nodes[f"{name}_flat"] = _flatten(shape)
                self.edges.append((source, f"{name}_flat"))
                source = f"{name}_flat"
            self.edges += [(source, feeding), (feeding, name)]
            shapes.append(out)
        self.nodes[name] = _neurons(plan.neuron, shapes[0])
        return name, shapes[0]


def _feeding(module: nn.Module, shape: Shape) -> tuple[Any, Shape]:
    """The node of a convolution, linear map or average pool, and its output shape."""
    import nir

    channels, height, width = shape
    if isinstance(module, nn.Linear):
        return nir.Linear(_array(module.weight)), (module.out_features, 1, 1)
    if isinstance(module, SpikingAveragePool):
        size = (height, width) if module.size is None else (module.size, module.size)
        node = nir.AvgPool2d(kernel_size=np.array(size), stride=np.array(size), padding=np.zeros(2, int))
        return node, (channels, height // size[0], width // size[1])
    assert isinstance(module, ConvNorm | SkipConnection)
    if isinstance(
        module.conv, ShiftedReduction
    ):  # of 3x3 pixels with padding, it sees the middle and the last
        weight, bias = fold_norm(reduction_weight(module.conv), module.norm)
        weight, stride, padding = nn.functional.pad(weight, (1, 0, 1, 0)), 2, 1
    else:
        assert isinstance(module.conv, nn.Conv2d)
        weight, bias = fold_norm(module.conv.weight, module.norm)
        stride, padding = module.conv.stride[0], int(module.conv.padding[0])
    kernel = weight.shape[-1]
    node = nir.Conv2d(
        input_shape=(height, width),
        weight=_array(weight),
        stride=(stride, stride),
        padding=(padding, padding),
        dilation=(1, 1),
        groups=1,
        bias=_array(bias),
    )
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    return node, (len(weight), sides[0], sides[1])


def _flatten(shape: Shape) -> Any:
    import nir

    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _neurons(neuron: SpikingNeuron, shape: Shape) -> Any:
    import nir

    size = shape if shape[1:] != (1, 1) else shape[:1]
    zeros, threshold = np.zeros(size), np.full(size, neuron.v_threshold)
    decay = neuron.decay()
    if decay is None:
        return nir.IF(r=np.full(size, 1 / DT), v_threshold=threshold, v_reset=zeros)
    tau = np.full(size, DT / decay.item())
    return nir.LIF(tau=tau, r=np.ones(size), v_leak=zeros, v_threshold=threshold, v_reset=zeros)


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().numpy().astype(np.float32)


def run_nir(simulator: str, network: TrainedNetwork, path: Path, inputs: Tensor) -> NDArray[np.int64]:
    """Votes [N, K] of a graph, run by another simulator.

    Args:
        simulator: A key of SIMULATORS.
        network: What the graph was written from.
        path: The graph.
        inputs: Images [N, C, H, W] or event frames [T, N, C, H, W].

    Raises:
        RuntimeError: A package is not installed.
    """
    require("nir", "nirtorch", simulator)
    import nir

    frames = inputs.expand(network.network.time_steps, *inputs.shape) if inputs.dim() == 4 else inputs
    with torch.inference_mode():
        spikes_TNF = SIMULATORS[simulator](nir.read(path), frames)
    voters = spikes_TNF.sum(0).reshape(-1, network.network.num_classes, VOTERS_PER_CLASS)
    votes: NDArray[np.int64] = voters.sum(2).round().to(torch.int64).numpy()
    return votes


def _run_snntorch(graph: Any, inputs: Tensor) -> Tensor:
    """A sample at a time and without its axis, as snntorch flattens that too."""
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints every neuron's constants
        module = import_from_nir(graph)
    samples = []
    for sample_TCHW in inputs.unbind(1):
        for layer in module.modules():
            if hasattr(layer, "reset_mem"):  # a state of None would leave that of the last sample
                layer.reset_mem()
        state, spikes = None, []
        for frame in sample_TCHW:
            out, state = module(frame, state)
            spikes.append(out.flatten())
        samples.append(torch.stack(spikes))
    return torch.stack(samples, 1)


def _run_spikingjelly(graph: Any, inputs: Tensor) -> Tensor:
    from spikingjelly.activation_based.nir_exchange.from_nir import import_from_nir

    module, state, spikes = import_from_nir(graph, dt=DT), None, []
    for frame in inputs:
        out, state = module(frame, state)
        spikes.append(out)
    return torch.stack(spikes)


SIMULATORS = {"spikingjelly": _run_spikingjelly, "snntorch": _run_snntorch}
"""Runs a graph step by step on frames [T, N, C, H, W]: spikes of its voters, [T, N, 10 K]."""
