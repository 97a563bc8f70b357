"""Blocks of a super-network that differ only in the size of their kernels share them.

Such sharing is known from super-networks for kernels of several sizes (Stamoulis et al. 2019, Single-Path
NAS): more of the steps train each weight.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from snn.model.blocks import ConvNorm, read_block_name
from snn.model.network import SpikingNetwork


class SharedKernels:
    """Keeps the kernels of small blocks the centres of those of the largest block of their kind.

    Args:
        network: The super-network; the small kernels are overwritten.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.pairs = [
            pair for part in network.body.values() if isinstance(part, nn.ModuleDict) for pair in _pairs(part)
        ]
        self.hand_out()

    @torch.no_grad()
    def collect(self) -> None:
        """Moves the gradients of the small kernels into those of the large ones."""
        for small, large in self.pairs:
            if small.grad is not None:
                if large.grad is None:
                    large.grad = torch.zeros_like(large)
                _centre(large.grad, small).add_(small.grad)
                small.grad = None

    @torch.no_grad()
    def hand_out(self) -> None:
        """Copies the centres of the large kernels to the small ones."""
        for small, large in self.pairs:
            small.copy_(_centre(large, small))


def _pairs(candidates: nn.ModuleDict) -> list[tuple[Tensor, Tensor]]:
    """Small and large kernel of each convolution that two candidate blocks of a layer share."""
    kinds: dict[tuple[str, int], list[tuple[int, nn.Module]]] = defaultdict(list)
    for name, block in candidates.items():
        if name != "skip_connect":
            kind, kernel_size, expansion = read_block_name(name)
            kinds[kind, expansion].append((kernel_size, block))
    pairs = []
    for blocks in kinds.values():
        *small_blocks, (_, largest) = sorted(blocks, key=lambda block: block[0])
        for _, small in small_blocks:
            for name, module in small.named_children():
                same = largest.get_submodule(name)
                if isinstance(module, ConvNorm) and isinstance(same, ConvNorm):
                    weights = module.conv.weight, same.conv.weight
                    if weights[0].shape != weights[1].shape:
                        pairs.append(weights)
    return pairs


def _centre(large: Tensor, small: Tensor) -> Tensor:
    """The part of a large kernel [C_out, C_in, K, K] that a small one covers, as a view."""
    side = small.shape[-1]
    margin = (large.shape[-1] - side) // 2
    return large[..., margin : margin + side, margin : margin + side]
