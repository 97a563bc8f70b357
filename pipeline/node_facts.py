"""What a node must have in common with the driver's for a run to work, and for its results to be the same."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
import torch

from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.environment import package_versions
from snn.engines.device import cpu_model
from snn.kernels.library import KernelsUnavailable, check_available


@dataclass(frozen=True)
class NodeFacts:
    """Facts of a node.

    Attributes:
        host: Its host name.
        software: Version of Python (without its third number) and of each package; a run needs the same ones
            everywhere.
        data: Fingerprint of each part of the run's data set; a run needs the same ones everywhere.
        no_data: Why the data set cannot be read; empty if it can.
        hardware: Model of the CPU, names of the GPUs; where they differ, rounding may.
        no_kernels: Why the event-driven kernels cannot be used; empty if they can.
        free_bytes: Free space where temporary files go.
        open_ports: Ports of Ray's dashboard and metrics that others can reach.
        unix_time: Its clock, in seconds.
    """

    host: str
    software: Mapping[str, str]
    data: Mapping[str, str]
    no_data: str
    hardware: Mapping[str, str]
    no_kernels: str
    free_bytes: int
    open_ports: tuple[int, ...]
    unix_time: float = field(compare=False)


def describe_this_node(config: Config) -> NodeFacts:
    """The facts of the node on which this process runs; its first call converts the data set."""
    data, no_data = {}, ""
    try:
        samples = load_data(config)
        data = {"training set": samples.train.fingerprint, "test set": samples.test.fingerprint}
    except (OSError, ValueError) as error:
        no_data = str(error)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return NodeFacts(
        host=os.uname().nodename,
        software={"Python": ".".join(platform.python_version_tuple()[:2]), **package_versions()},
        data=data,
        no_data=no_data,
        hardware={"CPU": cpu_model(), "GPUs": ", ".join(gpus) or "none"},
        no_kernels=_why_no_kernels(),
        free_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
        open_ports=_open_ports(),
        unix_time=time.time(),
    )


def check_node(config: Config, driver: NodeFacts | None) -> None:
    """Checks that this node can take part in a run of the driver's; None is the driver's own node.

    Raises:
        ValueError: It cannot; the message names it and why.
    """
    if driver is not None and (obstacles := list_obstacles(describe_this_node(config), driver)):
        raise ValueError("; ".join(obstacles) + ".")


def list_obstacles(node: NodeFacts, driver: NodeFacts) -> list[str]:
    """Why a node cannot take part in a run of the driver's, a sentence each; empty if it can."""
    found = []
    for name, expected in driver.software.items():
        if (got := node.software.get(name, "not installed")) != expected:
            found.append(
                f"node '{node.host}' has {name} {got}, the driver's node has {expected}: install the same "
                "requirements.txt on both"
            )
    if node.no_data:
        found.append(f"node '{node.host}' cannot read the data set: {node.no_data}")
    found += [
        f"node '{node.host}' has another {part} than the driver's node ({node.data[part][:12]} instead of "
        f"{expected[:12]}): copy the driver's data set there"
        for part, expected in driver.data.items()
        if node.data and node.data[part] != expected
    ]
    return found


def list_remarks(node: NodeFacts, driver: NodeFacts) -> list[str]:
    """In what a node differs that a run can live with, a sentence each."""
    found = [
        f"node '{node.host}' has {name} '{node.hardware[name]}', the driver's node has '{expected}': "
        "rounding can differ"
        for name, expected in driver.hardware.items()
        if node.hardware[name] != expected and name == "CPU"
    ]
    if node.no_kernels:
        found.append(f"node '{node.host}' cannot use the event-driven kernels: {node.no_kernels}")
    if node.free_bytes < _LITTLE_SPACE:
        found.append(
            f"node '{node.host}' has only {node.free_bytes / 2**30:.1f} GiB free for temporary files"
        )
    if node.open_ports:
        found.append(
            f"Ray's dashboard or metrics listen on port {', '.join(map(str, node.open_ports))} of node "
            f"'{node.host}' for everybody: start Ray with --include-dashboard=false and "
            "RAY_enable_metrics_collection=0"
        )
    if abs(node.unix_time - driver.unix_time) > _LARGE_CLOCK_DIFFERENCE:
        found.append(
            f"the clock of node '{node.host}' differs by {node.unix_time - driver.unix_time:.0f} s from the "
            "driver's: times in its logs mislead"
        )
    return found


_LOOPBACK = ("127.0.0.1", "::1")
_WATCHED_PORTS = (8265, 8080, 52365, 44217, 44227)  # Ray's defaults: dashboard, its agent, metrics
_LITTLE_SPACE = 2 * 2**30
_LARGE_CLOCK_DIFFERENCE = 60.0


def _open_ports() -> tuple[int, ...]:
    """Ports beyond loopback that belong to the dashboard or serve metrics."""
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return tuple(sorted({a.port for a in listening if a.port in _WATCHED_PORTS and a.ip not in _LOOPBACK}))


def _why_no_kernels() -> str:
    try:
        check_available()
    except KernelsUnavailable as reason:
        return str(reason)
    return ""
