"""What the connected cluster knows of its nodes."""

from __future__ import annotations

from typing import Any

import ray
import ray._private.state


def leaving_nodes() -> set[str]:
    """Ids of the nodes that are asked to leave: Ray gives them no new work, and ends them once idle."""
    return set(ray._private.state.state.get_draining_nodes())


def node_of_actor(actor: Any) -> str:
    """Id of the node on which an actor runs; empty if it runs no more."""
    known: dict[str, Any] = ray._private.state.actors(actor._actor_id.hex())
    return str(known.get("Address", {}).get("NodeID", ""))
