"""The engine of a search: which one evaluates candidates, and how it is loaded with weights."""

from __future__ import annotations

import torch

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import network_structure
from snn.engines.engine import Arrays, EngineSpec, choose_engine, load_engine
from snn.engines.inference import InferenceNetwork
from snn.search_space import Architecture


def choose_search_engine(config: Config, device_type: str, data: RunData) -> EngineSpec:
    """The engine that the settings of a run choose on a device; raises as `choose_engine`."""
    return choose_engine(
        config.search.engine,
        device_type,
        network_structure(config.network, data),
        batch_size=config.search.batch_size,
        num_threads=config.threads_per_worker,
        precision=config.search.precision,
        recalibrate=config.search.num_calibrated,
    )


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
