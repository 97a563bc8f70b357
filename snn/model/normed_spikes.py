"""Batch norm and spiking neurons in one pass over memory, for training on CPUs.

The potentials are not kept for the backward pass but charged again from the norm's input: in whole training
steps it is memory, not arithmetic, that costs time.

Dimensions: T time steps, N batch, C channels, H height, W width, * any shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn.kernels import planes as kernels
from snn.kernels.library import is_available

# A training that diverges says so by itself.
_whatever_the_numbers = np.errstate(all="ignore")


def can_fuse(x_T: Tensor, norm: nn.BatchNorm2d | None, added_T: Tensor | None) -> bool:
    """Whether `normed_spikes` applies: for gradients on a CPU, in float32 and a memory order it knows."""
    return (
        torch.is_grad_enabled()
        and x_T.requires_grad
        and x_T.device.type == "cpu"
        and x_T.dtype == torch.float32
        and (added_T is None or added_T.dtype == torch.float32)
        and (_is_dense(x_T) if norm is None else _moves(norm) and _is_channels_last(x_T))
        and is_available()
    )


def _moves(norm: nn.BatchNorm2d) -> bool:
    """Whether a batch norm takes its moments from the whole batch and moves its running statistics."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
    )


def _is_channels_last(x_T: Tensor) -> bool:
    return x_T.dim() == 5 and x_T.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def _is_dense(x_T: Tensor) -> bool:
    return x_T.is_contiguous() or _is_channels_last(x_T)


@_whatever_the_numbers
def normed_spikes(
    x_T: Tensor,
    norm: nn.BatchNorm2d | None,
    added_T: Tensor | None,
    decay: Tensor | None,
    v_threshold: float,
    time_steps: int | None,
) -> Tensor:
    """Spikes [T, *] of currents that pass a batch norm, if any, plus others, if any.

    Args:
        x_T: Currents [T, *], or [1, *] with `time_steps`.
        norm: Its running statistics move.
        added_T: [T, *], added after the norm.
        decay: Decay factor d of leaky neurons; None for IF.
        v_threshold: Membrane potential at which a neuron fires.
        time_steps: T where one current is fed at every time step.
    """
    neurons = kernels.Neurons(
        time_steps=time_steps or len(x_T),
        num_samples=x_T.shape[1],
        places=x_T[0, 0].numel() if norm is None else x_T[0, 0, 0].numel(),
        channels=1 if norm is None else x_T.shape[2],
        static=time_steps is not None,
        decay=None if decay is None else float(decay.detach()),
        threshold=v_threshold,
    )
    if norm is None:
        spikes_T: Tensor = _NormedSpikes.apply(x_T, None, None, added_T, decay, neurons, None)
        return spikes_T
    planes = _planes(x_T, neurons).reshape(-1, neurons.places, neurons.channels)
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    mean, variance = kernels.moments(planes, norm.running_mean.numpy())
    unit = 1 / np.sqrt(variance + norm.eps)
    spikes_T = _NormedSpikes.apply(x_T, norm.weight, norm.bias, added_T, decay, neurons, (mean, unit))
    count = planes.shape[0] * planes.shape[1]
    with torch.no_grad():
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(_float32(mean), norm.momentum)
        norm.running_var.lerp_(_float32(variance * (count / (count - 1))), norm.momentum)
    return spikes_T


class _NormedSpikes(torch.autograd.Function):
    """Spikes of x * scale + shift + added, where mean and 1 / std of x are given, or of x + added."""

    @staticmethod
    @_whatever_the_numbers
    def forward(
        ctx: Any,
        x_T: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        added_T: Tensor | None,
        decay: Tensor | None,
        neurons: kernels.Neurons,
        moments: kernels.Moments | None,
    ) -> Tensor:
        ctx.neurons, ctx.moments, ctx.norm = neurons, moments, _norm(weight, bias, moments)
        spikes_T = _empty_like(x_T, neurons.time_steps)
        if added_T is not None:
            added_T = _ordered(added_T, spikes_T)
        kernels.fire(
            neurons, ctx.norm, _planes(x_T, neurons), _planes(added_T, neurons), _planes(spikes_T, neurons)
        )
        ctx.save_for_backward(x_T, added_T, weight, decay)
        return spikes_T

    @staticmethod
    @_whatever_the_numbers
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_T, added_T, weight, decay = ctx.saved_tensors
        neurons = ctx.neurons
        of_spikes = _ordered(gradients[0], _empty_like(x_T, neurons.time_steps))
        of_current = torch.empty_like(x_T)
        planes, current = _planes(x_T, neurons), _planes(of_current, neurons)
        sums = kernels.fire_backward(
            neurons, ctx.norm, planes, _planes(added_T, neurons), _planes(of_spikes, neurons), current
        )
        of_decay = None if decay is None else torch.tensor(sums.decay, dtype=decay.dtype) / decay
        of_added = None if added_T is None else of_current
        if weight is None:
            return of_current, None, None, of_added, of_decay, None, None
        # dx = weight / std * (g - mean(g) - z * mean(g * z)) with z the input with mean 0 and variance 1
        mean, unit = ctx.moments
        count = neurons.num_inputs * neurons.places
        scale = weight.detach().numpy() * unit
        slope = -scale * unit * sums.product / count
        shift = -scale * sums.gradient / count - slope * mean
        of_x = of_current if of_added is None else torch.empty_like(x_T)
        shape = (-1, neurons.places, neurons.channels)
        out = _planes(of_x, neurons).reshape(shape)
        kernels.combine(current.reshape(shape), planes.reshape(shape), (scale, slope, shift), out)
        return of_x, _float32(sums.product), _float32(sums.gradient), of_added, of_decay, None, None


def _norm(weight: Tensor | None, bias: Tensor | None, moments: kernels.Moments | None) -> kernels.Norm:
    if weight is None or bias is None or moments is None:
        one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
        return kernels.Norm(one, zero, zero, zero)
    mean, unit = moments
    scale = weight.detach().numpy() * unit
    values = (scale, bias.detach().numpy() - mean * scale, unit, -mean * unit)
    return kernels.Norm(*(value.astype(np.float32) for value in values))


def _planes(x_T: Any, neurons: kernels.Neurons) -> Any:
    """The array [T, N, places, channels] of a tensor, or None of None; without a copy."""
    if x_T is None:
        return None
    x_T = x_T.detach()
    ordered = x_T if x_T.is_contiguous() and neurons.channels == 1 else x_T.permute(0, 1, 3, 4, 2)
    return ordered.view(len(x_T), neurons.num_samples, neurons.places, neurons.channels).numpy()


def _empty_like(x_T: Tensor, time_steps: int) -> Tensor:
    """[time_steps, *] in the memory order of x_T."""
    shape = (time_steps, *x_T.shape[1:])
    if x_T.is_contiguous():
        return x_T.new_empty(shape)
    time, batch, channels, height, width = shape
    return x_T.new_empty(time, batch, height, width, channels).permute(0, 1, 4, 2, 3)


def _ordered(x: Tensor, other: Tensor) -> Tensor:
    """x in the memory order of another tensor of its shape."""
    return x if x.stride() == other.stride() else torch.empty_like(other).copy_(x)


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
