"""Ray for the duration of a command: started on this machine, or a cluster that is running already."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import ray_constants

from pipeline.config.tree import Config, RayConfig
from pipeline.console import LOG_VARIABLE

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


@dataclass(frozen=True)
class Resources:
    """The part of the cluster that a run uses.

    Attributes:
        num_workers: Workers that run in parallel.
        gpus_per_worker: GPUs per worker, fractions allowed.
        training_gpus: GPUs per training, 0 or 1.
        cpus_per_node: CPUs of the largest node.
    """

    num_workers: int
    gpus_per_worker: float
    training_gpus: int
    cpus_per_node: int


@contextmanager
def ray_session(config: Config) -> Iterator[Resources]:
    """Connects to Ray, or starts it here and stops it at the end; opened once per command.

    Raises:
        ConnectionError: No cluster answers at `ray.address`.
    """
    _connect(config.ray)
    try:
        yield _resources(config)
    finally:
        ray.shutdown()


def _connect(settings: RayConfig) -> None:
    os.environ.update(WORKER_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the searcher reports failures
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {
        "runtime_env": _runtime_env(),
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "namespace": "autosnn",
    }
    if settings.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        _stay_on_loopback()
        ray.init(
            address="local",
            include_dashboard=settings.dashboard,
            _node_ip_address="127.0.0.1",
            dashboard_host="127.0.0.1",
            **options,
        )
        return
    try:
        ray.init(address=settings.address, **options)
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"ray.address is '{settings.address}', but no Ray cluster answers there: {error}. Start one with "
            "'ray start --head', or leave --ray.address out to use this machine alone."
        ) from error


def _stay_on_loopback() -> None:
    """Makes a Ray started here listen on 127.0.0.1 only.

    Ray replaces a node address of 127.0.0.1 by the machine's public one unless this switch, meant for
    desktops, says that no other machine will join.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False


def _runtime_env() -> dict[str, Any]:
    """What worker processes start with: environment variables and the configuration of their logs."""
    level = {name: value for name, value in os.environ.items() if name == LOG_VARIABLE}
    return {
        "env_vars": WORKER_ENVIRONMENT | {"PYTHONPATH": _python_path()} | level,
        "worker_process_setup_hook": "pipeline.console.configure_worker_logging",
    }


def _python_path() -> str:
    """Makes workers import the project from the driver's location."""
    project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH", "")]))


def _resources(config: Config) -> Resources:
    totals = ray.cluster_resources()
    cpus, gpus = totals.get("CPU", 1.0), totals.get("GPU", 0.0)
    gpus_per_worker = config.ray.gpus_per_worker
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if gpus else 0.0
    fitting = math.floor(cpus / config.threads_per_worker)
    if gpus_per_worker:
        fitting = min(fitting, math.floor(gpus / gpus_per_worker))
    return Resources(
        num_workers=config.ray.num_workers or max(1, fitting),
        gpus_per_worker=gpus_per_worker,
        training_gpus=min(1, math.floor(gpus)),
        cpus_per_node=int(max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])),
    )
