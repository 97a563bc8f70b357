"""Ray for the duration of a command: started on this machine, or a cluster that is running already."""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipeline.config.tree import Config
from pipeline.config.variables import STAGED_DATA, WORKER_IMPORTS
from pipeline.console import LOG_VARIABLE
from pipeline.ray.autoscaler import autoscaler_status
from pipeline.ray.joined import joined_ray
from pipeline.ray.local import WORKER_SETUP, local_ray

# glibc returns large tensors to the kernel at each free and pays for fresh pages at the next one; these
# settings make workers keep their memory.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


_PACKAGES = ("snn", "pipeline")
_MS_TO_IMPORT = 60_000


@dataclass(frozen=True)
class Resources:
    """The part of the cluster that a run uses.

    Attributes:
        num_workers: Workers that fit into the nodes there are, at least 1, or as many as the settings say.
        gpus_per_worker: GPUs per worker, fractions allowed.
        training_cpus: CPUs of the super-network's training: one a thread, unless no node has that many.
        training_gpus: GPUs per training, 0 or 1.
        cpus_per_node: CPUs of the largest node.
        gpus_per_node: GPUs of the node that has most.
        grows: Whether an autoscaler starts nodes for work that waits.
    """

    num_workers: int
    gpus_per_worker: float
    training_cpus: int
    training_gpus: int
    cpus_per_node: int
    gpus_per_node: float
    grows: bool = False


@contextmanager
def ray_session(config: Config, *, workers_import: str = "") -> Iterator[Resources]:
    """Connects to Ray, or starts it here and stops it at the end; opened once per command.

    Args:
        config: Settings of the run.
        workers_import: Module that workers of a Ray started here import as they start; empty for none.

    Raises:
        ConnectionError: No cluster answers at `ray.address`, or it does not accept the token.
        FileNotFoundError: There is no token for it.
        ValueError: A worker needs more than this machine has.
        ProcessLost: A Ray that was started here died.
    """
    os.environ.update(WORKER_ENVIRONMENT)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the searcher reports failures
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "namespace": "autosnn",
    }
    if config.ray.address is None:
        # Ray takes a worker for idle while it imports, and ends idle ones beyond one a CPU after a second.
        options["_system_config"] = {"idle_worker_killing_time_threshold_ms": _MS_TO_IMPORT}
        with local_ray(config.ray, options, _local_variables(workers_import)):
            resources = _resources(config)
            _check_fits(config, resources)
            yield resources
        return
    name = f"samples-{uuid.uuid4().hex}"
    options["runtime_env"] = _runtime_env(name)
    with joined_ray(config.ray.address, options):
        holder = None if config.ray.address.startswith("ray://") else _hold_samples(name, config)
        yield _resources(config)
        del holder  # it has handed out the samples as long as its handle lived


def _hold_samples(name: str, config: Config) -> Any:
    """Starts the actor that hands out the run's samples to nodes that do not see its data folder."""
    from pipeline.data import load_data  # with torch, which not all who import this need
    from pipeline.staging import hold_samples

    try:
        data = load_data(config)
    except (OSError, ValueError):
        return None  # whoever needs the data here says so
    return hold_samples(name, {"train": data.train, "test": data.test})


def _check_fits(config: Config, resources: Resources) -> None:
    """Raises ValueError if a worker needs more than any node can ever give."""
    if config.threads_per_worker > resources.cpus_per_node:
        raise ValueError(
            f"threads_per_worker is {config.threads_per_worker}, but this machine has "
            f"{resources.cpus_per_node} CPUs: no worker could ever start. Use fewer threads in a new run "
            "(rounding depends on them), or go on with this one on a larger machine or a cluster "
            "(--ray.address)."
        )
    if resources.gpus_per_worker > resources.gpus_per_node:
        raise ValueError(
            f"ray.gpus_per_worker is {resources.gpus_per_worker:g}, but this machine has "
            f"{resources.gpus_per_node:g} GPUs: no worker could ever start. Use --ray.gpus-per-worker "
            f"{resources.gpus_per_node:g}, or a cluster that has them (--ray.address)."
        )
    for name, workers, cpus in (
        ("workers", config.training.workers, resources.training_cpus),
        ("retrain_workers", config.training.retrain_workers, config.threads_per_worker),
    ):
        fitting = resources.cpus_per_node // cpus
        if resources.training_gpus:
            fitting = min(fitting, int(resources.gpus_per_node) // resources.training_gpus)
        if 1 < workers[0] > fitting:
            raise ValueError(
                f"training.{name} asks for {workers[0]} workers of {cpus} CPUs and {resources.training_gpus} "
                f"GPUs, but this machine has room for {fitting}. Use fewer, or a cluster (--ray.address)."
            )


def _local_variables(workers_import: str) -> dict[str, str]:
    """What Ray's processes on this machine have in their environment: workers import the driver's code."""
    project = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, WORKER_IMPORTS: workers_import}


def _runtime_env(staged_data: str) -> dict[str, Any]:
    """What workers of a cluster start with: variables, their logs, and the project's code, which travels."""
    project = Path(__file__).resolve().parents[2]
    passed_on = {name: os.environ[name] for name in (LOG_VARIABLE, "PYTHONPATH") if name in os.environ}
    return {
        "env_vars": WORKER_ENVIRONMENT | passed_on | {STAGED_DATA: staged_data},
        "worker_process_setup_hook": WORKER_SETUP,
        "py_modules": [str(project / name) for name in _PACKAGES],
        "excludes": ["**/__pycache__/"],
    }


def _resources(config: Config) -> Resources:
    totals = ray.cluster_resources()
    cpus, gpus = totals.get("CPU", 1.0), totals.get("GPU", 0.0)
    gpus_per_worker = config.ray.gpus_per_worker
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if gpus else 0.0
    fitting = math.floor(cpus / config.threads_per_worker)
    if gpus_per_worker:
        fitting = min(fitting, math.floor(gpus / gpus_per_worker))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus_per_node = int(max(node.get("CPU", 0) for node in nodes))
    grows = config.ray.address is not None and autoscaler_status() is not None
    threads = config.training_threads
    return Resources(
        num_workers=config.ray.num_workers or max(1, fitting),
        gpus_per_worker=gpus_per_worker,
        training_cpus=threads if grows else max(1, min(threads, cpus_per_node)),
        training_gpus=min(1, math.floor(gpus)) or int(grows and gpus_per_worker > 0),
        cpus_per_node=cpus_per_node,
        gpus_per_node=max(node.get("GPU", 0.0) for node in nodes),
        grows=grows,
    )
