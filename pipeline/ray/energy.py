"""What this machine's processors and GPUs say of the energy they have used."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

_POWERCAP = Path("/sys/class/powercap")


def read_energy(folder: Path = _POWERCAP) -> float | None:
    """Joules that processors (RAPL) and NVIDIA GPUs (NVML) have used by their own count; None if none tells.

    The counts start again now and then. GPUs tell where the package nvidia-ml-py is installed.
    """
    counts = [*_processors(folder), *_gpus()]
    return sum(counts) if counts else None


def _processors(folder: Path) -> list[float]:
    counts = []
    for counter in folder.glob("intel-rapl:[0-9]*/energy_uj"):
        if counter.parent.name.count(":") == 1:  # packages, not their parts
            try:
                counts.append(int(counter.read_text()) / 1e6)
            except (OSError, ValueError):
                continue
    return counts


def _gpus() -> list[float]:
    counts = []
    nvml, handles = _nvml()
    for handle in handles:
        try:
            counts.append(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
        except nvml.NVMLError:  # GPUs before Volta do not count
            continue
    return counts


@cache
def _nvml() -> tuple[Any, list[Any]]:
    """NVML and the handles of the GPUs; none where there is no driver."""
    try:
        import pynvml
    except ImportError:
        return None, []
    try:
        pynvml.nvmlInit()
        number = pynvml.nvmlDeviceGetCount()
        return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(number)]
    except pynvml.NVMLError:
        return pynvml, []
