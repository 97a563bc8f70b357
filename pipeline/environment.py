"""Where the numbers of a run come from: versions, commit, machine and data; the report shows them."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pipeline.data import RunData
from pipeline.storage.records import DataSplit, Environment
from snn.engines.device import cpu_model
from snn.json_values import from_json

_PACKAGES = ("torch", "ray", "spikingjelly", "numpy", "pyarrow", "tonic", "safetensors")


def describe_environment(data: RunData) -> Environment:
    """Describes this machine, the installed packages, the code and the data."""
    return Environment(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        python=platform.python_version(),
        versions=package_versions(),
        platform=platform.platform(),
        cpu=cpu_model(),
        num_cpus=os.cpu_count(),
        gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        data={name: from_json(facts, DataSplit) for name, facts in data.facts().items()},
    )


def list_changes(began: Environment) -> list[str]:
    """In what this machine differs from the one where a run began, as far as rounding depends on it."""
    now = {"Python": platform.python_version(), **package_versions(), "CPU": cpu_model()}
    before = {"Python": began.python, **began.versions, "CPU": began.cpu}
    return [
        f"{name} {before.get(name, 'unknown')} there, {now[name]} here"
        for name in ("CPU", "torch", "numpy", "spikingjelly")
        if before.get(name) != now[name]
    ]


def package_versions() -> dict[str, str]:
    """Version of each package that results depend on."""
    return {name: _version(name) for name in _PACKAGES}


def _commit() -> str:
    """The project's commit, marked if tracked files differ from it; "unknown" outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = _output([*git, "rev-parse", "HEAD"])
        changed = _output([*git, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with local changes" if changed else "")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
