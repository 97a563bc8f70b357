"""Benchmark of the engines over firing rates and channels: from which rate on dense evaluation wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.bench.stopwatch import Comparison, SectionResult, alternate
from pipeline.bench.subject import Batches, Subject, reference_architecture
from pipeline.console import say
from pipeline.networks import make_network
from snn.engines.dense import DenseNetwork
from snn.engines.event_driven import EventDrivenNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.neuron import SpikingNeuron, input_currents
from snn.search_space import Architecture

CHANNELS = (16, 32, 64, 128)
RATES = (0.02, 0.05, 0.1, 0.2, 0.3)
_QUICK_CHANNELS, _QUICK_RATES = (16, 64), (0.05, 0.2)

_CALIBRATION_IMAGES = 8
_CALIBRATION_NEURONS = 50_000
_BISECTIONS = 20


@dataclass(frozen=True)
class Cell:
    """One network of the grid.

    Attributes:
        channels: C.
        wanted: Firing rate that its neurons were set to.
        firing_rate: What it fires on the images that are timed, per counted output and time step.
        event_driven: Milliseconds per image of the event-driven engine.
        dense: Milliseconds per image of the dense engine.
        spread: Of the two timings, by name.
    """

    channels: int
    wanted: float
    firing_rate: float
    event_driven: float
    dense: float
    spread: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Time of the event-driven engine as a multiple of the dense one's."""
        return self.event_driven / self.dense


def bench_rates(subject: Subject, *, quick: bool) -> SectionResult:
    """One candidate on both engines, for several numbers of channels and firing rates.

    The networks have random weights. Their thresholds are set so that every layer of neurons fires at the
    wanted rate; max-pools then fire more. Both engines run on all threads, on the same images in one batch.
    """
    architecture = reference_architecture(subject)
    cells = []
    for channels in _QUICK_CHANNELS if quick else CHANNELS:
        for rate in _QUICK_RATES if quick else RATES:
            cells.append(_measure(subject, architecture, channels, rate, quick=quick))
            say(
                f"  C = {channels}, firing rate {100 * cells[-1].firing_rate:.1f} %: event-driven "
                f"{cells[-1].event_driven:.3g} ms/img, dense {cells[-1].dense:.3g} ms/img"
            )
    wins = dense_wins(cells)
    for name, text in wins.items():
        say(f"  {name}: dense wins {text}")
    return SectionResult(
        tuple(_comparison(cell) for cell in cells),
        {"architecture": str(architecture), "dense_wins": wins, "cells": [_facts(c) for c in cells]},
    )


def dense_wins(cells: Sequence[Cell]) -> dict[str, str]:
    """For each C the firing rates at which the dense engine is faster, in words.

    They begin where the ratio of the times crosses 1, on straight lines between the measured rates.
    """
    return {
        f"C = {channels}": _crossing([cell for cell in cells if cell.channels == channels])
        for channels in dict.fromkeys(cell.channels for cell in cells)
    }


def set_firing_rate(network: SpikingNetwork, architecture: Architecture, inputs: Tensor, rate: float) -> None:
    """Makes every layer of neurons on a path fire at a rate for these inputs.

    Batch norm takes the statistics of these inputs, and each layer the threshold at which the share `rate` of
    its neurons and time steps fires, from the first layer to the last: one forward pass sets all.

    Args:
        network: Its norms and thresholds change.
        architecture: The path.
        inputs: Images [N, C, H, W] or frames [T, N, C, H, W].
        rate: Spikes per neuron and time step, in (0, 1).
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # torch's cumulative mean

    def set_threshold(neuron: nn.Module, currents: tuple[Tensor, ...], more: dict[str, Any]) -> None:
        assert isinstance(neuron, SpikingNeuron)
        neuron.v_threshold = _threshold(neuron, input_currents(*currents, **more), rate)

    handles = [
        module.register_forward_pre_hook(set_threshold, with_kwargs=True)
        for module in network.modules()
        if isinstance(module, SpikingNeuron)
    ]
    try:
        with torch.no_grad():
            network.train()(to_memory_format(inputs), architecture)
    finally:
        for handle in handles:
            handle.remove()
    network.eval()


def _threshold(neuron: SpikingNeuron, currents_T: Tensor, rate: float) -> float:
    """By bisection on some of the neurons: the higher the threshold, the fewer fire."""
    flat_T = currents_T.flatten(1)
    step = flat_T.shape[1] // _CALIBRATION_NEURONS | 1  # odd, so that it meets all channels and columns
    some_T = flat_T[:, ::step].contiguous()
    trial = SpikingNeuron(neuron.kind, init_tau=neuron.init_tau)
    trial.load_state_dict(neuron.state_dict())
    low, high = 0.0, float(some_T.clamp(min=0).sum(0).max())  # no potential exceeds what flowed in
    for _ in range(_BISECTIONS):
        trial.v_threshold = (low + high) / 2
        if float(trial(some_T).mean()) > rate:
            low = trial.v_threshold
        else:
            high = trial.v_threshold
    return (low + high) / 2


def _measure(
    subject: Subject, architecture: Architecture, channels: int, rate: float, *, quick: bool
) -> Cell:
    config = replace(subject.config.network, channels=channels)
    network = make_network(config, subject.data, architecture=architecture, seed=subject.config.seed)
    inputs, _ = subject.batches(_CALIBRATION_IMAGES, _CALIBRATION_IMAGES)[0]
    set_firing_rate(network, architecture, inputs, rate)
    num_images = min(32, max(8, 512 // channels))  # as many as take about as long with every C
    batches = subject.batches(num_images, num_images)
    return _time(network, architecture, batches, rate, quick=quick)


def _time(
    network: SpikingNetwork, architecture: Architecture, batches: Batches, rate: float, *, quick: bool
) -> Cell:
    event_driven, dense = EventDrivenNetwork(network), DenseNetwork(network)
    timings = alternate(
        {
            "event_driven": partial(evaluate_architectures, event_driven, [architecture], batches),
            "dense": partial(evaluate_architectures, dense, [architecture], batches),
        },
        rounds=2 if quick else 5,
        longest=3 if quick else 6,
    )
    (found,) = evaluate_architectures(event_driven, [architecture], batches)
    milliseconds = {name: 1000 * timing.median / found.num_samples for name, timing in timings.items()}
    spread = {name: timing.spread for name, timing in timings.items()}
    channels = network.backbone.stem_channels
    return Cell(channels, rate, found.firing_rate, spread=spread, **milliseconds)


def _crossing(cells: Sequence[Cell]) -> str:
    """Where the ratio first exceeds 1, in percent."""
    if cells[0].ratio > 1:
        return f"at every rate from {100 * cells[0].firing_rate:.1f} %"
    for below, above in pairwise(cells):
        if above.ratio > 1:
            share = (1 - below.ratio) / (above.ratio - below.ratio)
            rate = below.firing_rate + share * (above.firing_rate - below.firing_rate)
            return f"above {100 * rate:.1f} %"
    return f"at none up to {100 * cells[-1].firing_rate:.1f} %"


def _comparison(cell: Cell) -> Comparison:
    name = f"event-driven, C = {cell.channels}, rate {100 * cell.wanted:g} % / dense"
    return Comparison(name, "ms/img", cell.event_driven, cell.dense)


def _facts(cell: Cell) -> dict[str, Any]:
    return asdict(cell) | {"ratio": cell.ratio}
