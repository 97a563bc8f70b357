"""Spiking neurons on sequences: IF, LIF and PLIF with the ATan surrogate.

The neurons match spikingjelly's in multi-step mode, spike for spike, but keep no state between calls. On
CUDA, spikingjelly's fused kernels run; on a CPU, training takes compiled kernels that do batch norm and
neurons at once (`snn.model.normed_spikes`), and without a C compiler the loop over time runs in place.

Dimensions: T time steps, * any shape.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from snn.model.normed_spikes import can_fuse, normed_spikes
from snn.options import NeuronName

SURROGATE_ALPHA = 2.0


class SpikingNeuron(nn.Module):
    """A layer of spiking neurons of one model, without state between calls.

    The dynamics of a neuron with input current x and membrane potential v, at each time step t:

        h_t = v_{t-1} + (x_t - (v_{t-1} - v_reset)) * d     (PLIF, LIF)     h_t = v_{t-1} + x_t     (IF)
        s_t = 1 if h_t >= v_threshold else 0
        v_t = v_reset if s_t = 1 else h_t                    (hard reset, detached in the backward pass)

    with v_reset = 0 and v_0 = 0; d = 1 / tau for LIF, sigmoid(w) with one learnable w per layer for PLIF
    (Fang et al., ICCV 2021), initially w = -ln(tau - 1). The backward pass replaces ds/dh by the surrogate
    gradient of ATan, (alpha / 2) / (1 + (pi / 2 * alpha * (h - v_threshold)) ** 2) with alpha = 2.

    ReLU is no spiking neuron: it makes the twin of a network, the paper's ANN, of the same architecture.

    Args:
        kind: Neuron model.
        v_threshold: Membrane potential at which a neuron fires.
        init_tau: Membrane time constant in time steps, above 1; ignored by IF.
    """

    def __init__(self, kind: NeuronName = "PLIF", *, v_threshold: float = 1.0, init_tau: float = 2.0) -> None:
        super().__init__()
        self.kind = kind
        self.v_threshold = v_threshold
        self.init_tau = init_tau
        if kind == "PLIF":
            self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1.0)))

    def forward(
        self,
        x_T: Tensor,
        *,
        norm: nn.BatchNorm2d | None = None,
        added_T: Tensor | None = None,
        time_steps: int | None = None,
    ) -> Tensor:
        """Maps input currents [T, *] to spikes [T, *], 0 or 1 in the input's dtype; ReLU to activations.

        Args:
            x_T: Input currents.
            norm: Batch norm that they pass first; they are [T, N, C, H, W].
            added_T: Currents that are added after the norm.
            time_steps: T where the same current, [1, *], is fed at every time step.
        """
        if self.kind != "ReLU" and can_fuse(x_T, norm, added_T):
            spikes_T: Tensor = normed_spikes(x_T, norm, added_T, self.decay(), self.v_threshold, time_steps)
            return spikes_T
        x_T = input_currents(x_T, norm=norm, added_T=added_T, time_steps=time_steps)
        if self.kind == "ReLU":
            return x_T.relu()
        if x_T.is_cuda:
            return self.spikingjelly_forward(x_T)
        if norm is not None and can_fuse(x_T, None, None):
            return normed_spikes(x_T, None, None, self.decay(), self.v_threshold, None)
        spikes_T = _MultiStep.apply(x_T, self.decay(), self.v_threshold)
        return spikes_T

    def extra_repr(self) -> str:
        return f"{self.kind}, v_threshold={self.v_threshold}, init_tau={self.init_tau}"

    def decay(self) -> Tensor | None:
        """The decay factor d of the equations; None for IF."""
        if self.kind == "PLIF":
            return self.w.sigmoid()
        return torch.tensor(1.0 / self.init_tau) if self.kind == "LIF" else None

    def spikingjelly_forward(self, x_T: Tensor) -> Tensor:
        """Spikes [T, *] of currents [T, *] by spikingjelly's node, which is fused on CUDA."""
        node = self.spikingjelly_node().to(x_T.device)
        if isinstance(node, neuron.ParametricLIFNode):
            node.w = self.w
        node.train(self.training)
        spikes_T: Tensor = node(x_T)
        functional.reset_net(node)
        return spikes_T

    def spikingjelly_node(self) -> neuron.BaseNode:
        """A new spikingjelly node with this layer's settings (for PLIF with the initial w)."""
        options: dict[str, Any] = {
            "v_threshold": self.v_threshold,
            "v_reset": 0.0,
            "surrogate_function": surrogate.ATan(alpha=SURROGATE_ALPHA),
            "detach_reset": True,
            "step_mode": "m",
        }
        if self.kind == "IF":
            return neuron.IFNode(**options)
        if self.kind == "LIF":
            return neuron.LIFNode(tau=self.init_tau, decay_input=True, **options)
        return neuron.ParametricLIFNode(init_tau=self.init_tau, decay_input=True, **options)


def input_currents(
    x_T: Tensor,
    *,
    norm: nn.Module | None = None,
    added_T: Tensor | None = None,
    time_steps: int | None = None,
) -> Tensor:
    """What reaches the neurons, [T, *]; arguments as in `SpikingNeuron.forward`."""
    if norm is not None:
        # Flattening [1, 1, *] leaves strides with which torch's batch norm has wrong gradients.
        x = x_T[0] if len(x_T) == 1 else x_T.flatten(0, 1)
        x_T = torch.unflatten(norm(x), 0, (len(x_T), -1))
    if time_steps is not None:
        x_T = x_T.expand(time_steps, *x_T.shape[1:])
    return x_T if added_T is None else x_T + added_T


class _MultiStep(torch.autograd.Function):
    """The loop over T, in place; the only potentials the backward pass needs are the pre-reset h."""

    @staticmethod
    def forward(ctx: Any, x_T: Tensor, decay: Tensor | None, v_threshold: float) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        spikes_T = torch.empty_like(x_T)
        h_T = torch.empty_like(x_T) if needs_grad else None
        v = torch.zeros_like(x_T[0])
        for t in range(x_T.shape[0]):
            h = v if h_T is None else h_T[t]
            if decay is None:
                torch.add(v, x_T[t], out=h)
            else:
                torch.sub(x_T[t], v, out=spikes_T[t])
                torch.addcmul(v, spikes_T[t], decay, out=h)
            torch.ge(h, v_threshold, out=spikes_T[t])
            torch.addcmul(h, h, spikes_T[t], value=-1.0, out=v)
        if needs_grad:
            ctx.save_for_backward(h_T, spikes_T, decay)
            ctx.v_threshold = v_threshold
        return spikes_T

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (grad_T,) = grad_outputs
        h_T, spikes_T, decay = ctx.saved_tensors
        grad_x_T = torch.empty_like(h_T)
        grad_decay = torch.zeros((), device=h_T.device) if decay is not None else None
        grad_v = torch.zeros_like(h_T[0])
        scale = math.pi / 2 * SURROGATE_ALPHA
        for t in reversed(range(h_T.shape[0])):
            # dL/dh = dL/ds * ds/dh + dL/dv * (1 - s)
            grad_v.addcmul_(grad_v, spikes_T[t], value=-1.0)
            slope = (h_T[t] - ctx.v_threshold).mul_(scale).square_().add_(1.0)
            grad_h = grad_v.addcdiv_(grad_T[t], slope, value=SURROGATE_ALPHA / 2)
            if decay is None:
                grad_x_T[t] = grad_h
                continue
            torch.mul(grad_h, decay, out=grad_x_T[t])
            if ctx.needs_input_grad[1]:
                # dh/dd = x - v_{t-1} = (h - v_{t-1}) / d
                step = (
                    h_T[t] if t == 0 else h_T[t] - h_T[t - 1].addcmul(h_T[t - 1], spikes_T[t - 1], value=-1.0)
                )
                grad_decay = grad_decay + torch.dot(_memory_order(grad_h), _memory_order(step)) / decay
            grad_v = grad_h.sub_(grad_x_T[t])
        return grad_x_T, grad_decay, None


def _memory_order(x: Tensor) -> Tensor:
    """A flat view of a dense tensor in memory order; `flatten` would copy where strides are permuted."""
    return x.as_strided((x.numel(),), (1,))
