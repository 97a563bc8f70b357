"""The engine of a search: which one evaluates candidates, and how it is loaded with weights."""

from __future__ import annotations

import random

import torch

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import network_structure
from snn.engines.engine import Arrays, EngineSpec, choose_engine, load_engine
from snn.engines.inference import InferenceNetwork
from snn.model.network import SpikingNetwork
from snn.model.spikes import record_spikes
from snn.search_space import Architecture

_NUM_PATHS = 20


def choose_search_engine(
    config: Config, device_type: str, data: RunData, *, spikes: float | None = None
) -> EngineSpec:
    """The engine that the settings of a run choose on a device; raises as `choose_engine`.

    Args:
        config: Settings of the run.
        device_type: torch's type of the device that evaluates, `cpu` or `cuda`.
        data: Samples of the run.
        spikes: Mean spikes per sample of uniformly drawn paths, if known.
    """
    structure = network_structure(config.network, data)
    rate = None
    if spikes is not None and not config.search.needs_operations:  # which the dense engine does not count
        rate = spikes / _outputs(structure, config, data)
    return choose_engine(
        config.search.engine,
        device_type,
        structure,
        batch_size=config.search.batch_size,
        num_threads=config.threads_per_worker,
        precision=config.search.precision,
        recalibrate=config.search.num_calibrated,
        firing_rate=rate,
    )


def _outputs(structure: SpikingNetwork, config: Config, data: RunData) -> float:
    """Binary outputs of a path over all time steps; mean over some paths."""
    rng, space, time_steps = random.Random(0), config.network.search_space(), config.network.time_steps
    frames = (time_steps,) if config.data.is_events else ()
    inputs = torch.empty(*frames, 1, *data.input_shape, device="meta")
    total = 0
    with torch.no_grad(), record_spikes(structure) as record:
        for _ in range(_NUM_PATHS):
            record.clear()
            structure(inputs, space.sample(rng))
            total += sum(record.neurons.values())
    return total / _NUM_PATHS * time_steps


def load_search_engine(
    engine: EngineSpec,
    config: Config,
    data: RunData,
    weights: Arrays,
    device: torch.device,
    architecture: Architecture | None = None,
) -> InferenceNetwork:
    """The super-network, or the child of an architecture, on packed weights; raises as `load_engine`.

    It has the run's calibration samples.
    """
    return load_engine(
        engine,
        network_structure(config.network, data, architecture),
        weights,
        calibration=data.calibration_inputs(engine.recalibrate),
        device=device,
    )
