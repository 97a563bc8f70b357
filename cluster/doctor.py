"""Examines a running cluster: `launch.py cluster doctor`."""

from __future__ import annotations

from typing import Any

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.node_check import ask_nodes
from pipeline.node_facts import NodeFacts, describe_this_node, list_obstacles, list_remarks
from pipeline.ray_session import ray_session


def examine(config: Config) -> None:
    """Says what each node has and in what it differs from the driver's.

    Raises:
        ValueError: A node cannot take part in a run with these settings.
        ConnectionError: As `pipeline.joined_ray.joined_ray`.
    """
    with ray_session(config):
        driver = describe_this_node(config)
        say(_line({}, driver, "driver"))
        obstacles, remarks = list_obstacles(driver, driver), list[str]()
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
