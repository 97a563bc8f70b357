"""Stored batch-norm statistics of blocks that saw few batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

MOMENTUM: float = nn.BatchNorm2d(1).momentum or 0.0


@torch.no_grad()
def debias_statistics(weights: Mapping[str, Tensor]) -> None:
    """Takes the initial values out of the running statistics of a state dict, in place.

    After n batches the running mean is sum_i w_i * mean_i + (1 - m) ** n * 0 and the running variance has
    (1 - m) ** n * 1 likewise, with momentum m. Both become the averages of what was seen, weighted by w_i.
    A block of a super-network sees 1 / K of the batches, so that without this a short training leaves it near
    mean 0 and variance 1, and networks of such blocks are nearly silent. Statistics without any batch stay.

    Args:
        weights: A state dict with `running_mean`, `running_var` and `num_batches_tracked` of each batch norm.
    """
    for name, number in weights.items():
        norm, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked" or not number:
            continue
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        initial = (1 - MOMENTUM) ** int(number)
        mean.copy_(mean.double() / (1 - initial))
        variance.copy_((variance.double() - initial) / (1 - initial))
