"""The device that evaluates networks: the results of some engines depend on its model."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """A CPU or a GPU.

    Attributes:
        type: torch's device type.
        name: Model of the GPU; of a CPU its model and the vector instructions torch uses on it.
    """

    type: Literal["cpu", "cuda"]
    name: str


def find_device() -> Device:
    """The GPU of this process if it has one, its CPU otherwise."""
    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_name())
    return find_cpu()


def find_cpu() -> Device:
    """The CPU of this machine."""
    return Device("cpu", f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}")


def cpu_model() -> str:
    """Model of this machine's CPU, as the operating system names it."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
