"""Builds a run's networks, super-network and children, from its settings and data."""

from __future__ import annotations

import torch

from pipeline.config.tree import NetworkConfig
from pipeline.data import RunData
from pipeline.storage.run_folder import RunFolder
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture, stem_for_size


def make_network(
    config: NetworkConfig, data: RunData, *, architecture: Architecture | None = None, seed: int = 0
) -> SpikingNetwork:
    """Builds the super-network, or the child of one architecture, with new initial weights.

    Args:
        config: The run's network settings.
        data: Provides the shape of a sample and the number of classes.
        architecture: Architecture of the child; None builds the super-network.
        seed: Seed of the initial weights.
    """
    _, height, width = data.input_shape
    stem = stem_for_size(height, width) if config.stem == "auto" else config.stem
    backbone = config.make_backbone(stem)
    if architecture is None:
        candidates = [config.blocks] * len(backbone.layers)
    else:
        candidates = [(block,) for block in architecture.blocks]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpikingNetwork(
            backbone,
            candidates,
            input_shape=data.input_shape,
            num_classes=data.num_classes,
            time_steps=config.time_steps,
            neuron=config.neuron,
            v_threshold=config.v_threshold,
            init_tau=config.init_tau,
            moments=config.moments,
        )


def network_structure(
    config: NetworkConfig, data: RunData, architecture: Architecture | None = None
) -> SpikingNetwork:
    """A network as `make_network` builds it, without memory for its weights (on the meta device)."""
    with torch.device("meta"):
        return make_network(config, data, architecture=architecture)


def load_supernet(run: RunFolder, config: NetworkConfig, data: RunData) -> SpikingNetwork:
    """The trained super-network of a run.

    Raises:
        FileNotFoundError: The run has no super-network yet.
        ValueError: The weights do not match their recorded hash.
    """
    network = make_network(config, data)
    network.load_state_dict(run.read_supernet_weights())
    return network
