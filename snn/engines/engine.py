"""The engines that evaluate networks: which one runs, on which weights, and what its results depend on.

`event_driven` runs on a CPU, on weights repacked for its kernels; `dense` is torch on any device. Callers
hold an `EngineSpec` and need not know which of the two it names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from snn.engines.dense import DENSE_VERSION, DenseNetwork, MeasuringDenseNetwork
from snn.engines.device import Device
from snn.engines.event_driven import (
    EVENT_DRIVEN_VERSION,
    EventDrivenNetwork,
    check_fits_kernels,
    fits_kernels,
)
from snn.engines.event_statistics import MeasuringEventDrivenNetwork
from snn.engines.event_weights import fold
from snn.engines.inference import InferenceNetwork
from snn.engines.recalibration import RecalibratedNetwork
from snn.kernels.library import is_available
from snn.model.network import SpikingNetwork
from snn.options import EngineName, Precision

Arrays = Mapping[str, NDArray[Any]]

# From so many channels on (C of the backbone) dense evaluation is faster above this firing rate; measured by
# `bench --sections rates`: on two machines above 17 and 27 %. With fewer channels it was faster above 20 to
# 26 % on one of them, and nowhere below 32 % on the other.
_DENSE_CHANNELS, _DENSE_RATE = 128, 0.2


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """An engine with its settings.

    Attributes:
        name: The engine.
        batch_size: Samples per forward pass.
        num_threads: CPU threads.
        precision: Format of weights and membrane potentials; `event_driven` has float32 only.
        recalibrate: Number of calibration samples on which each architecture's batch-norm statistics are
            measured; 0 uses the stored statistics.

    Raises:
        ValueError: The engine does not support a setting.
    """

    name: Literal["event_driven", "dense"]
    batch_size: int
    num_threads: int
    precision: Precision = "float32"
    recalibrate: int = 0

    def __post_init__(self) -> None:
        if self.precision != "float32" and self.name == "event_driven":
            raise ValueError(
                f"search.precision is '{self.precision}', but candidates would be evaluated by the "
                "event-driven engine, which supports float32 only. Use --search.engine dense, or float32."
            )

    @property
    def version(self) -> int:
        """Version of the engine's arithmetic."""
        return EVENT_DRIVEN_VERSION if self.name == "event_driven" else DENSE_VERSION

    @property
    def repacks_weights(self) -> bool:
        """Whether `pack_weights` returns other arrays than the network's state dict."""
        return self.name == "event_driven"

    @property
    def scales_with_threads(self) -> bool:
        """Whether n threads take 1/n of the time of one, as they work on separate samples."""
        return self.name == "event_driven"

    def identity(self, device: Device) -> dict[str, str | int]:
        """All that results depend on besides the network, its weights and the samples.

        Event-driven results are the same on every device and for every batch size and number of threads.
        The rounding of dense ones depends on all three and on torch.
        """
        common: dict[str, str | int] = {"engine": self.name, "version": self.version}
        if self.name == "event_driven":
            return common | {"recalibrate": self.recalibrate}
        facts = common | {
            "recalibrate": self.recalibrate,
            "precision": self.precision,
            "batch_size": self.batch_size,
            "num_threads": self.num_threads,
            "device": device.type,
            "device_name": device.name,
            "torch": torch.__version__,
        }
        if device.type == "cuda":  # its neurons run there
            facts["spikingjelly"] = version("spikingjelly")
        return facts


def choose_engine(
    engine: EngineName,
    device_type: str,
    network: SpikingNetwork,
    *,
    batch_size: int,
    num_threads: int,
    precision: Precision = "float32",
    recalibrate: int = 0,
    firing_rate: float | None = None,
) -> EngineSpec:
    """The engine for a network on a device.

    `auto` is event-driven on a CPU with a C compiler if the network fits its kernels, and dense otherwise. It
    is dense too for networks of at least 128 channels that are known to fire above 20 %.

    Args:
        engine: The setting.
        device_type: torch's type of the device that evaluates, `cpu` or `cuda`.
        network: Gives the structure; may be on the meta device.
        batch_size: As for EngineSpec; likewise the other settings.
        firing_rate: Spikes per neuron and time step of the networks to evaluate, in [0, 1], if known.

    Raises:
        ValueError: The chosen engine does not support a setting or the network.
    """
    name = _resolve(engine, device_type, network)
    is_wide = network.backbone.stem_channels >= _DENSE_CHANNELS
    if engine == "auto" and is_wide and firing_rate is not None and firing_rate > _DENSE_RATE:
        name = "dense"
    return EngineSpec(
        name=name,
        batch_size=batch_size,
        num_threads=num_threads,
        precision=precision,
        recalibrate=recalibrate,
    )


def pack_weights(spec: EngineSpec, network: SpikingNetwork) -> dict[str, NDArray[Any]]:
    """A network's weights as the arrays `load_engine` takes, to be shared or stored."""
    if spec.name == "event_driven":
        return dict(fold(network, norms_apart=spec.recalibrate > 0))
    return {name: value.cpu().contiguous().numpy() for name, value in network.state_dict().items()}


def load_engine(
    spec: EngineSpec,
    network: SpikingNetwork,
    arrays: Arrays,
    *,
    calibration: Tensor | None,
    device: torch.device,
) -> InferenceNetwork:
    """A network ready for evaluation, on weights from `pack_weights`.

    Args:
        spec: The engine that the weights were packed for.
        network: Gives the structure, on the meta device; belongs to the result from now on.
        arrays: The weights. Event-driven evaluation reads them where they are; the tensors of `network` lie
            on their memory until the dense engine folds batch norm into a copy. They are never written to.
        calibration: `spec.recalibrate` inputs without augmentation, not those evaluated on; None if it is 0.
        device: Where the dense engine runs; the event-driven one runs on the CPU.

    Raises:
        KernelsUnavailable: The engine is event-driven and there is no C compiler.
    """
    assert (calibration is not None) == (spec.recalibrate > 0)
    if spec.name == "event_driven":
        if calibration is None:
            return EventDrivenNetwork(network, arrays)
        return RecalibratedNetwork(MeasuringEventDrivenNetwork(network, arrays), calibration.cpu())
    network.load_state_dict(as_tensors(arrays), assign=True)
    if calibration is None:
        return DenseNetwork(network.to(device), precision=spec.precision)
    dense = MeasuringDenseNetwork(network.to(device), precision=spec.precision)
    return RecalibratedNetwork(dense, calibration.to(device))


def make_inference(
    network: SpikingNetwork, engine: EngineName = "auto", *, precision: Precision = "float32"
) -> InferenceNetwork:
    """A network ready for evaluation in this process, on folded copies of its weights.

    Args:
        network: A network with weights, on the device it is to run on.
        engine: `auto` as in `choose_engine`.
        precision: Format of weights and potentials of the dense engine; the event-driven one has float32.

    Raises:
        KernelsUnavailable: `event_driven` was requested and there is no C compiler.
        ValueError: `event_driven` was requested and the network does not fit its kernels.
    """
    if _resolve(engine, network.head.weight.device.type, network) == "event_driven":
        return EventDrivenNetwork(network)
    return DenseNetwork(network, precision=precision)


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Tensors on the memory of arrays; torch does not protect read-only ones, so never write to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of read-only arrays
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _resolve(
    engine: EngineName, device_type: str, network: SpikingNetwork
) -> Literal["event_driven", "dense"]:
    if engine == "event_driven":
        check_fits_kernels(network)
    if engine != "auto":
        return engine
    fast = device_type == "cpu" and fits_kernels(network) and is_available()
    return "event_driven" if fast else "dense"
