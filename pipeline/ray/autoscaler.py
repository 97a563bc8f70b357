"""What Ray's autoscaler says of a cluster: whether one is at work, what it starts, what it cannot give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

_SECONDS_FOR_AN_ANSWER = 10.0


@dataclass(frozen=True)
class AutoscalerStatus:
    """The autoscaler's last report.

    Attributes:
        num_starting: Nodes that it has asked for and that have not joined yet.
        infeasible: Resources of each request that no node type can satisfy.
        failures: Why nodes could not be had, the newest last.
    """

    num_starting: int
    infeasible: Sequence[Mapping[str, float]]
    failures: Sequence[str]

    def cannot_give(self, cpus: float, gpus: float) -> bool:
        """Whether a request for these on one node is among the infeasible ones."""
        return any(r.get("CPU", 0) == cpus and r.get("GPU", 0) == gpus for r in self.infeasible)


def autoscaler_status() -> AutoscalerStatus | None:
    """The status of the connected cluster's autoscaler (version 2); None if it has none."""
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=_SECONDS_FOR_AN_ANSWER))
    state = reply.autoscaling_state
    if not state.autoscaler_state_version:
        return None
    gangs = [request for gang in state.infeasible_gang_resource_requests for request in gang.requests]
    return AutoscalerStatus(
        num_starting=len(state.pending_instances) + sum(r.count for r in state.pending_instance_requests),
        infeasible=[dict(r.resources_bundle) for r in (*state.infeasible_resource_requests, *gangs)],
        failures=[request.reason for request in state.failed_instance_requests],
    )
