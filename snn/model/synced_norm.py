"""Batch norm whose moments are those of all ranks' samples, for data-parallel training.

torch.nn.SyncBatchNorm needs GPUs and knows no moments of single time steps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from snn.model.stepwise_norm import StepwiseBatchNorm2d, replace_norms


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm on [T * N, C, H, W], in training with the moments of the samples of all ranks.

    Its state, and its results on the ranks together, are those of the batch norm that it replaces on one
    rank with all samples. Outside of training it is torch.nn.BatchNorm2d.

    Args:
        num_features: C.
        time_steps: T if moments are taken at each time step by itself, otherwise 1.
    """

    def __init__(self, num_features: int, time_steps: int = 1) -> None:
        super().__init__(num_features)
        self.time_steps = time_steps

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return torch.cat([self._normalise(step) for step in x.tensor_split(self.time_steps)])

    def _normalise(self, x: Tensor) -> Tensor:
        normalised, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return normalised


def synchronise_norms(network: nn.Module) -> None:
    """Replaces every batch norm of a new network by a SyncedBatchNorm2d."""

    def synced(norm: nn.BatchNorm2d) -> SyncedBatchNorm2d:
        time_steps = norm.time_steps if isinstance(norm, StepwiseBatchNorm2d) else 1
        return SyncedBatchNorm2d(norm.num_features, time_steps)

    replace_norms(network, synced)


class _Normalise(torch.autograd.Function):
    """Normalised x, and over all ranks the mean, the biased variance [C] and the number of values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _moments(x)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, variance, count = ctx.saved_tensors
        (gradient,) = gradients[:1]
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        sums = torch.stack([grad_bias, grad_weight])
        dist.all_reduce(sums)
        # dL/dx = weight / std * (g - mean(g) - z * mean(g * z)) with z the normalised x, means over all ranks
        inverse_std = (variance + ctx.eps).rsqrt()
        scale = weight * inverse_std
        slope = -scale * inverse_std * sums[1] / count
        shift = -scale * sums[0] / count - slope * mean
        grad_x = torch.addcmul(_by_channel(shift), gradient, _by_channel(scale)).addcmul_(
            x, _by_channel(slope)
        )
        return grad_x, grad_weight, grad_bias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [C] of the values of all ranks, and their number."""
    channels = x.shape[1]
    own_variance, own_mean = torch.var_mean(x, (0, 2, 3), correction=0)
    own = torch.cat([own_mean, own_variance, x.new_tensor([x.numel() // channels])])
    of_ranks = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, own)
    means, variances, counts = torch.stack(of_ranks).split([channels, channels, 1], dim=1)
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean).square())).sum(0) / count
    return mean, variance, count


def _by_channel(x: Tensor) -> Tensor:
    return x[:, None, None]
