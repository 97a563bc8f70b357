"""2x2 max-pooling for training on CPUs: which input was the largest takes a byte, not a 64-bit index.

Dimensions: M samples times time steps, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from snn.kernels import planes as kernels
from snn.kernels.library import is_available


def max_pool(x: Tensor) -> Tensor:
    """2x2 max-pooling with stride 2 of [M, C, H, W]."""
    if (
        torch.is_grad_enabled()
        and x.requires_grad
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and is_available()
    ):
        pooled: Tensor = _MaxPool.apply(x)
        return pooled
    return F.max_pool2d(x, 2)


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        ctx.shape = x.shape
        out = x.new_empty(count, height // 2, width // 2, channels)
        ctx.which = kernels.pool(x.detach().permute(0, 2, 3, 1).numpy(), out.numpy())
        return out.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        count, channels, height, width = ctx.shape
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        out = gradient.new_empty(count, height, width, channels)
        kernels.pool_backward(gradient.permute(0, 2, 3, 1).numpy(), ctx.which, out.numpy())
        return out.permute(0, 3, 1, 2)
