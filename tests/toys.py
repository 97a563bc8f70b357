"""Toy searches and networks that several tests share."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.history import Candidate
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.algorithms.settings import SearchSettings
from snn.fitness import Evaluation
from snn.kernels.library import KernelsUnavailable, check_available
from snn.model.network import SpikingNetwork
from snn.search_space import (
    AUTOSNN_BLOCKS,
    Architecture,
    SearchSpace,
    make_backbone,
)

SEARCH_SETTINGS = SearchSettings(population_size=10, num_parents=5, num_mutants=5, max_evaluations=150)


def make_search(space=None, algorithm="evolution", seed=0, **changes) -> ArchitectureSearch:
    settings = replace(SEARCH_SETTINGS, algorithm=algorithm, **changes)
    return build_search(space or SearchSpace(5), settings, seed=seed, spikes_reference=100.0)


def toy_evaluation(architecture: Architecture) -> Evaluation:
    """A toy landscape with interactions, so that greedy choices mislead."""
    rng = random.Random("/".join(architecture.blocks[:3]))
    accuracy = 0.3 + 0.3 * rng.random() + 0.05 * architecture.blocks[3:].count("SRB_k5")
    spikes = 50 + 20 * sum("5" in block for block in architecture.blocks)
    return Evaluation(accuracy, spikes, 0.1, 100)


def ask_all(search: ArchitectureSearch) -> list[Candidate]:
    return list(iter(search.ask, None))


def run_search(search: ArchitectureSearch) -> list[str]:
    run_in_process(search, toy_evaluation)
    return [str(candidate.architecture) for candidate in search.candidates]


BACKBONES = ("AutoSNN", "SNN_2", "SNN_3", "SNN_4", "AutoSNN_deploy")


def lively(network: SpikingNetwork, seed: int = 0) -> SpikingNetwork:
    """Sets batch norm and head so that neurons fire in every layer."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.01, 0.05, generator=generator)
            module.weight.data.uniform_(0.8, 1.5, generator=generator)
    network.head.weight.data.mul_(8)
    return network.eval()


def make_network(
    backbone="AutoSNN", candidates=None, *, stem="image", shape=(3, 16, 16), time_steps=3, **options
):
    torch.manual_seed(0)
    macro = make_backbone(backbone, channels=4, stem=stem)
    candidates = candidates or [AUTOSNN_BLOCKS] * len(macro.layers)
    return lively(
        SpikingNetwork(macro, candidates, input_shape=shape, num_classes=3, time_steps=time_steps, **options)
    )


def make_active_network(
    backbone="AutoSNN", *, blocks=AUTOSNN_BLOCKS, stem="image", size=16, channels=6, in_channels=3, **options
) -> SpikingNetwork:
    """A super-network whose statistics are those of its inputs, so that spikes reach the head."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        structure = make_backbone(backbone, channels=channels, stem=stem)
        network = SpikingNetwork(
            structure,
            [blocks] * len(structure.layers),
            input_shape=(in_channels, size, size),
            num_classes=3,
            time_steps=3,
            **options,
        )
        for name, parameter in network.named_parameters():
            if name.endswith(".w"):
                parameter.data += torch.randn(())
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean of all batches instead of a moving one
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.6)
        nn.init.uniform_(network.head.weight, -0.2, 1.0)
        space = SearchSpace(len(structure.layers), blocks)
        for i in range(30):
            network(make_batch(network, events=stem == "event")[0], space.sample(random.Random(i)))
    return network.eval()


def make_batch(network: SpikingNetwork, number: int = 12, *, events: bool = False) -> tuple:
    generator = torch.Generator().manual_seed(0)
    shape = (3, number, *network.input_shape) if events else (number, *network.input_shape)
    inputs = torch.rand(shape, generator=generator) * 2 - 0.7
    if events:
        inputs = (inputs * 2).relu().round()
    return inputs, torch.randint(0, 3, (number,), generator=generator)


def require_kernels() -> None:
    """Skips the test file that calls it where the event-driven kernels cannot be compiled."""
    try:
        check_available()
    except KernelsUnavailable as reason:
        pytest.skip(f"no event-driven evaluation: {reason}", allow_module_level=True)
