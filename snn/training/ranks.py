"""The processes that train one network together: data-parallel training over torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Ranks:
    """This process among those of the default process group, each with a share of every batch.

    All ranks draw the same paths, orders and augmentations. Gradients are summed, not averaged: each rank
    weights the loss of its samples by their share of the batch, so that shares may differ in size.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def share(self, num_samples: int) -> tuple[slice, int]:
        """This rank's part of a batch, and how many ranks have the same.

        A batch of fewer samples than ranks, which only an epoch's last can be, is whole on all of them; its
        running variances are then those of `size` times as many values.
        """
        if num_samples < self.size:
            return slice(num_samples), self.size
        return slice(num_samples * self.rank // self.size, num_samples * (self.rank + 1) // self.size), 1

    @torch.no_grad()
    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors by their sums over the ranks, in one transfer; all of one type and device."""
        tensors = list(tensors)
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    @torch.no_grad()
    def hand_out(self, network: nn.Module) -> None:
        """Gives every rank the weights and statistics of rank 0."""
        for tensor in [*network.parameters(), *network.buffers()]:
            values = tensor.contiguous()
            dist.broadcast(values, src=0)
            tensor.copy_(values)
