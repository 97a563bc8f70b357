"""Chooses how a network is evaluated: event-driven on a CPU, dense on a GPU or where nothing compiles."""

from __future__ import annotations

from typing import Literal

import torch

from snn.engines.dense import DenseNetwork
from snn.engines.event_driven import EventDrivenNetwork
from snn.engines.inference import InferenceNetwork
from snn.kernels.library import is_available
from snn.model.network import SpikingNetwork
from snn.options import EngineName, Precision


def make_inference(
    network: SpikingNetwork, engine: EngineName = "auto", *, precision: Precision = "float32"
) -> InferenceNetwork:
    """The form in which a network is evaluated; weights are folded and copied.

    Args:
        network: A network with weights, on the device it shall run on.
        engine: `auto` is what `choose_engine` says for the network's device.
        precision: Of weights and potentials; the event-driven engine knows float32 only.

    Raises:
        KernelsUnavailable: `event_driven` is asked for and there is no C compiler.
    """
    if choose_engine(engine, network.head.weight.device) == "event_driven":
        return EventDrivenNetwork(network)
    return DenseNetwork(network, precision=precision)


def choose_engine(engine: EngineName, device: torch.device) -> Literal["event_driven", "dense"]:
    """What `auto` means: event-driven on a CPU with a C compiler, dense everywhere else."""
    if engine != "auto":
        return engine
    if device.type != "cpu":
        return "dense"
    return "event_driven" if is_available() else "dense"
