"""Losses of a spiking classifier on its votes.

Dimensions: T time steps, N batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from snn.model.network import VOTERS_PER_CLASS, firing_rates
from snn.options import LossName

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(votes_TNK: Tensor, labels_N: Tensor) -> Tensor:
    """Mean squared error of the firing rates r against the one-hot label y (paper section 5.1).

    L = mean over N and K of (r_k - y_k) ** 2
    """
    rates_NK = firing_rates(votes_TNK)
    return F.mse_loss(rates_NK, F.one_hot(labels_N, rates_NK.shape[1]).to(rates_NK.dtype))


def cross_entropy(votes_TNK: Tensor, labels_N: Tensor) -> Tensor:
    """Cross-entropy with the mean number of a class's voters that fire, in [0, 10], as its logit."""
    return F.cross_entropy(VOTERS_PER_CLASS * firing_rates(votes_TNK), labels_N)


def tet(votes_TNK: Tensor, labels_N: Tensor) -> Tensor:
    """Mean over the time steps of the cross-entropy at each of them (TET, Deng et al. 2022, equation 10).

    The logits are those of `cross_entropy`; the regularisation of the potentials (their equation 11) is left
    out.
    """
    steps = len(votes_TNK)
    return F.cross_entropy(VOTERS_PER_CLASS * votes_TNK.flatten(0, 1), labels_N.repeat(steps))


LOSSES: dict[LossName, Loss] = {"mse": mse, "cross_entropy": cross_entropy, "tet": tet}
