"""A network's layers and their weights in the layout of the event-driven kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn.engines.folding import fold_norm, gain_and_leak, reduction_weight
from snn.kernels.layout import kernel_layout, padded
from snn.model.blocks import (
    ConvNorm,
    MaxPool,
    ShiftedReduction,
    SkipConnection,
    SpikingAveragePool,
    SpikingConvBlock,
    SpikingInvertedBottleneck,
    SpikingResidualBlock,
    StridedPool,
)
from snn.model.network import SpikingNetwork
from snn.model.neuron import SpikingNeuron

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Plan:
    """A layer of neurons and the modules its weights come from.

    Attributes:
        name: Prefix of its arrays.
        sources: Indices of its inputs: 0 is the block's input, i the output of the block's i-th layer.
        modules: For each source the convolution (with norm), linear map or average pool; None: identity.
    """

    name: str
    sources: tuple[int, ...]
    modules: tuple[nn.Module | None, ...]
    neuron: SpikingNeuron


class Half(nn.Module):
    """One of the two convolutions of a strided skip connection; each feeds half of the output channels."""

    def __init__(self, skip: SkipConnection, index: int) -> None:
        super().__init__()
        self.skip = skip
        self.index = index


def fold(network: SpikingNetwork, *, norms_apart: bool = False) -> Arrays:
    """Weights in the kernels' layout, with batch norm and the neurons' input gain folded in.

    Args:
        network: The network.
        norms_apart: Fold batch norm in the stem only; elsewhere return its weight, bias and eps separately,
            as `NAME.norm{i}`, [3, C padded].

    Raises:
        ValueError: Weights or batch norms that are, or become when folded, NaN or infinite.
    """
    arrays: Arrays = {}
    modules: list[tuple[str, nn.Module, SpikingNeuron | None]] = [
        ("stem.", network.stem, network.stem_neuron),
        ("global_pool.", network.global_pool, None),
        ("head.", network.head, network.head_neuron),
    ]
    modules += [(f"{name}.", module, neuron) for name, module, neuron in stem_parts(network)]
    for part, module in network.body.items():
        blocks = module.items() if isinstance(module, nn.ModuleDict) else [("", module)]
        modules += [(f"{part}.{block}", block_module, None) for block, block_module in blocks]
    for name, module, neuron in modules:
        for plan in plans(name, module, neuron):
            if plan is not None:
                arrays |= _fold_plan(plan, norms_apart=norms_apart and not name.startswith("stem"))
    _check_finite(network, arrays)
    return arrays


def stem_parts(network: SpikingNetwork) -> list[tuple[str, nn.Module, SpikingNeuron | None]]:
    """The parts between stem and body: pools, and convolutions with their neurons."""
    parts: list[tuple[str, nn.Module, SpikingNeuron | None]] = []
    for name, module in network.stem_reduction.items():
        if isinstance(module, MaxPool | StridedPool):
            parts.append((f"stem_reduction.{name}", module, None))
        elif isinstance(module, ConvNorm):
            neuron = network.stem_reduction[name.replace("conv", "neuron")]
            assert isinstance(neuron, SpikingNeuron)
            parts.append((f"stem_reduction.{name}", module, neuron))
    return parts


def plans(name: str, module: nn.Module, neuron: SpikingNeuron | None) -> list[Plan | None]:
    """The layers of neurons in a module; None stands for a max-pool.

    Args:
        name: Prefix of the arrays' names.
        module: A block, a pool, a convolution or a linear map.
        neuron: The neuron of a convolution or linear map; None for blocks and pools, which hold theirs.
    """
    if isinstance(module, nn.Identity):
        return []
    if isinstance(module, MaxPool):
        return [None]
    if isinstance(module, SpikingConvBlock):
        return [
            Plan(f"{name}.1", (0,), (module.conv1,), module.neuron1),
            Plan(f"{name}.2", (1,), (module.conv2,), module.neuron2),
        ]
    if isinstance(module, SpikingResidualBlock):
        return [
            Plan(f"{name}.1", (0,), (module.conv1,), module.neuron1),
            Plan(f"{name}.2", (1, 0), (module.conv2, _or_none(module.shortcut)), module.neuron2),
        ]
    if isinstance(module, SpikingInvertedBottleneck):
        return [
            Plan(f"{name}.1", (0,), (module.conv1,), module.neuron1),
            Plan(f"{name}.2", (1,), (module.conv2,), module.neuron2),
            Plan(f"{name}.3", (2, 0), (module.conv3, _or_none(module.shortcut)), module.neuron3),
        ]
    if isinstance(module, SkipConnection) and isinstance(module.conv, ShiftedReduction):
        halves = (Half(module, 0), Half(module, 1))
        return [Plan(f"{name}.1", (0, 0), halves, module.neuron1)]
    if isinstance(module, StridedPool):
        return [Plan(f"{name}.1", (0,), (module.conv1,), module.neuron1)]
    if isinstance(module, SkipConnection | SpikingAveragePool):
        return [Plan(f"{name}.1", (0,), (module,), module.neuron1)]
    assert isinstance(module, ConvNorm | nn.Linear) and neuron is not None, f"no event-driven {module}"
    return [Plan(f"{name}.1", (0,), (module,), neuron)]


def _check_finite(network: SpikingNetwork, arrays: Arrays) -> None:
    """Checks the folded arrays too: a negative variance, for one, is a number but has no square root."""
    values = network.state_dict() | {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, value in values.items():
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise ValueError(
                f"The network's weights must be finite numbers, but {wrong} of {value.numel()} in {name} are "
                "NaN or infinite: the training diverged or its file is damaged. Train the network again, "
                "with a lower learning rate if it diverged."
            )


def _or_none(shortcut: nn.Module) -> nn.Module | None:
    return None if isinstance(shortcut, nn.Identity) else shortcut


def _fold_plan(plan: Plan, *, norms_apart: bool) -> Arrays:
    gain, leak = gain_and_leak(plan.neuron)
    arrays: Arrays = {f"{plan.name}.neuron": np.array([gain, leak], np.float32)}
    biases: dict[nn.Module, Tensor] = {}  # one per norm, as both halves of a strided skip share theirs
    for i, module in enumerate(plan.modules):
        if not isinstance(module, ConvNorm | SkipConnection | Half | nn.Linear):
            continue
        weight = _weight(module)
        if not isinstance(module, nn.Linear):
            if norms_apart:
                arrays[f"{plan.name}.norm{i}"] = _norm_values(module, gain)
            else:
                weight, biases[_norm(module)] = fold_norm(weight, _norm(module))
        arrays[f"{plan.name}.weights{i}"] = kernel_layout((weight * gain).cpu().numpy())
    if biases:
        arrays[f"{plan.name}.bias"] = padded(
            (torch.stack(list(biases.values())).sum(0) * gain).cpu().numpy()
        ).astype(np.float32)
    return arrays


def _weight(module: ConvNorm | SkipConnection | Half | nn.Linear) -> Tensor:
    """Weight without its norm, float64 [C_out, C_in, K_h, K_w]; for a linear map [out, in, 1, 1].

    For one half of a strided skip, the other half's output channels are zero.
    """
    if isinstance(module, nn.Linear):
        return module.weight.detach().double()[:, :, None, None]
    if isinstance(module, Half):
        assert isinstance(module.skip.conv, ShiftedReduction)
        pixel = slice(module.index, module.index + 1)
        return reduction_weight(module.skip.conv).detach().double()[:, :, pixel, pixel]
    assert isinstance(module.conv, nn.Conv2d)
    return module.conv.weight.detach().double()


def _norm(module: ConvNorm | SkipConnection | Half) -> nn.BatchNorm2d:
    return module.skip.norm if isinstance(module, Half) else module.norm


def _norm_values(module: ConvNorm | SkipConnection | Half, gain: float) -> NDArray[np.float32]:
    """Weight and bias times the neuron's gain, and eps times its square: [3, C padded].

    For one half of a strided skip, weight and bias of the other half's channels are zero.
    """
    norm = _norm(module)
    values = torch.stack([norm.weight, norm.bias, torch.full_like(norm.bias, norm.eps * gain)]) * gain
    array = values.detach().cpu().numpy()
    if isinstance(module, Half):
        assert isinstance(module.skip.conv, ShiftedReduction)
        first = module.skip.conv.conv1.out_channels
        array[:2, first:] *= module.index
        array[:2, :first] *= 1 - module.index
    return padded(array).astype(np.float32)
