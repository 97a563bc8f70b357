"""Spiking neural networks and their search space. Knows torch; knows neither Ray nor runs."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from snn.bundle.trained import TrainedNetwork


def load(location: str | PathLike[str], device: torch.device | str = "cpu") -> TrainedNetwork:
    """Loads a trained network; see `snn.bundle.trained.load`."""
    from snn.bundle import trained  # needs torch, which modules such as `snn.options` do without

    return trained.load(location, device)
