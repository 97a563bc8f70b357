"""What a search needs, checked before a training is spent on it."""

from __future__ import annotations

from pipeline.algorithms.choose import build_search
from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import network_structure
from pipeline.search.engine import choose_search_engine
from snn.engines.event_driven import check_fits_kernels
from snn.kernels.library import KernelsUnavailable, check_available


def check_search(config: Config, data: RunData, device_type: str) -> None:
    """Checks before a training what the search and all later evaluations need.

    Args:
        config: Settings of the run.
        data: Samples of the run.
        device_type: torch's type of the device that will evaluate, `cpu` or `cuda`.

    Raises:
        ValueError: The samples are too small for the backbone, the engine of the settings cannot evaluate a
            network of the run, or the search algorithm is not installed.
    """
    engine = choose_search_engine(config, device_type, data)
    if config.search.needs_operations and engine.name == "dense":
        raise ValueError(
            "search.cost, search.max_synops and search.max_energy count synaptic operations, but candidates "
            "would be evaluated by the dense engine, which does not: use --search.engine event_driven on "
            "CPUs, or --search.cost spikes without these budgets."
        )
    if config.search.engine == "event_driven":
        for text in config.retrain.architectures:
            if text != "best":
                architecture = config.network.parse_architecture(text)
                check_fits_kernels(network_structure(config.network, data, architecture))
        if config.ray.address is None:  # other machines may have a compiler
            _check_compiler()
    build_search(config.network.search_space(), config.search, seed=config.seed, spikes_reference=1.0)


def _check_compiler() -> None:
    try:
        check_available()
    except KernelsUnavailable as reason:
        raise ValueError(
            f"search.engine is 'event_driven', but {reason}. Install a C compiler, or use --search.engine "
            "dense."
        ) from reason
