"""Examines a running cluster: `launch.py cluster doctor`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import ray

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.node_check import ask_nodes
from pipeline.node_facts import NodeFacts, describe_this_node, list_obstacles, list_remarks
from pipeline.ray.session import ray_session

_STRANGER = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=10)
"""


def examine(config: Config) -> None:
    """Says what each node has and in what it differs from the driver's.

    Raises:
        ValueError: A node cannot take part in a run with these settings.
        ConnectionError: As `pipeline.ray.joined.joined_ray`.
    """
    with ray_session(config):
        driver = describe_this_node(config)
        say(_line({}, driver, "driver"))
        obstacles, remarks = list_obstacles(driver, driver), list[str]()
        if _lets_everybody_in():
            remarks.append(
                "the cluster lets in whoever reaches it: start Ray with RAY_AUTH_MODE=token on all nodes"
            )
        for node, facts in ask_nodes(config):
            if isinstance(facts, str):
                obstacles.append(facts)
                continue
            say(_line(node["Resources"], facts, node["NodeManagerAddress"]))
            obstacles += list_obstacles(facts, driver)
            remarks += list_remarks(facts, driver)
    for text in (*obstacles, *remarks):
        say(f"  {text}")
    if obstacles:
        raise ValueError(f"{len(obstacles)} obstacles to a run, see above")
    say("every node can take part in a run")


def _lets_everybody_in() -> bool:
    """Whether a process without a token may ask the connected cluster."""
    stranger = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    address = ray.get_runtime_context().gcs_address
    asked = subprocess.run([sys.executable, "-c", _STRANGER, address], env=stranger, capture_output=True)
    return asked.returncode == 0


def _line(resources: dict[str, Any], facts: NodeFacts, address: str) -> str:
    amount = ", ".join(f"{resources[kind]:g} {kind}s" for kind in ("CPU", "GPU") if resources.get(kind))
    parts = [
        f"{facts.host} ({address})",
        amount,
        facts.hardware["CPU"],
        "" if facts.hardware["GPUs"] == "none" else facts.hardware["GPUs"],
        f"Python {facts.software['Python']}",
        f"torch {facts.software['torch']}",
        f"Ray {facts.software['ray']}",
        "no data" if facts.no_data else f"data {facts.data['training set'][:12]}",
        "no kernels" if facts.no_kernels else "kernels",
        f"{facts.free_bytes / 2**30:.0f} GiB free",
    ]
    return "  ".join(filter(None, parts))
