"""Compares the nodes of the connected cluster with the driver's, before a run and on request."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.config.tree import Config
from pipeline.node_facts import NodeFacts, describe_this_node, list_obstacles, list_remarks

logger = logging.getLogger(__name__)

_MOST_REMARKS = 5
_SECONDS_TO_ANSWER = 300.0  # the first answer of a node may convert a data set


def check_nodes(config: Config) -> None:
    """Checks that all nodes there are can take part in a run; says in what else they differ.

    Raises:
        ValueError: Some cannot; the message names them and why.
    """
    driver = describe_this_node(config)
    obstacles, remarks = [], []
    for _, facts in ask_nodes(config):
        if isinstance(facts, str):
            obstacles.append(facts)
        else:
            obstacles += list_obstacles(facts, driver)
            remarks += list_remarks(facts, driver)
    for remark in remarks[:_MOST_REMARKS]:
        logger.warning("%s", remark)
    if len(remarks) > _MOST_REMARKS:
        logger.warning(
            "%d more remarks like these: python launch.py cluster doctor %s --ray.address %s",
            len(remarks) - _MOST_REMARKS,
            config.name,
            config.ray.address,
        )
    if obstacles:
        raise ValueError("; ".join(obstacles) + ".")


def ask_nodes(config: Config) -> Iterator[tuple[dict[str, Any], NodeFacts | str]]:
    """Each node that has CPUs or GPUs, as `ray.nodes()` lists it, with its facts or why there are none."""
    nodes = [node for node in ray.nodes() if node["Alive"] and _works(node)]
    asked = {_ask(node["NodeID"], config): node for node in nodes}
    answered, _ = (
        ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_ANSWER) if asked else ([], [])
    )
    for ref, node in asked.items():
        name = f"node '{node['NodeManagerHostname']}' ({node['NodeManagerAddress']})"
        if ref not in answered:
            ray.cancel(ref, force=True)
            yield node, f"{name} has not answered within {_SECONDS_TO_ANSWER:.0f} s"
            continue
        try:
            yield node, ray.get(ref)
        except ray.exceptions.RayError as error:
            if not _is_there(node):
                continue  # it left meanwhile
            yield node, f"{name} cannot run the project's code: {str(error).splitlines()[-1]}"


def _ask(node_id: str, config: Config) -> ray.ObjectRef:
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task: Any = ray.remote(describe_this_node).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
    ref: ray.ObjectRef = task.remote(config)
    return ref


def _is_there(node: dict[str, Any]) -> bool:
    return any(other["Alive"] for other in ray.nodes() if other["NodeID"] == node["NodeID"])


def _works(node: dict[str, Any]) -> bool:
    return bool(node["Resources"].get("CPU") or node["Resources"].get("GPU"))
