"""What Ray's autoscaler says of a cluster: whether one is at work, what it starts, what it cannot give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

_SECONDS_FOR_AN_ANSWER = 10.0


@dataclass(frozen=True)
class AutoscalerStatus:
    """The autoscaler's last report.

    Attributes:
        num_starting: Nodes that it has asked for and that have not joined yet.
        asked: CPUs and GPUs of each request that waits.
        infeasible: The same of each request for which it could start no node. Either no node type has that
            many, or there are as many nodes as it may start.
        failures: Why nodes could not be had, the newest last.
    """

    num_starting: int
    asked: Sequence[tuple[float, float]]
    infeasible: Sequence[tuple[float, float]]
    failures: Sequence[str]

    def cannot_give(self, cpus: float, gpus: float) -> bool:
        """Whether every request for these on one node is infeasible."""
        return 0 < self.asked.count((cpus, gpus)) <= self.infeasible.count((cpus, gpus))


def autoscaler_status() -> AutoscalerStatus | None:
    """The status of the connected cluster's autoscaler (version 2); None if it has none."""
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=_SECONDS_FOR_AN_ANSWER))
    state, demand = reply.autoscaling_state, reply.cluster_resource_state
    if not state.autoscaler_state_version:
        return None
    single = [r.request for r in demand.pending_resource_requests for _ in range(r.count)]
    return AutoscalerStatus(
        num_starting=len(state.pending_instances) + sum(r.count for r in state.pending_instance_requests),
        asked=_sizes(single, demand.pending_gang_resource_requests),
        infeasible=_sizes(state.infeasible_resource_requests, state.infeasible_gang_resource_requests),
        failures=[request.reason for request in state.failed_instance_requests],
    )


def _sizes(requests: Iterable[Any], gangs: Iterable[Any]) -> list[tuple[float, float]]:
    """(CPUs, GPUs) of requests for single tasks and of those in placement groups."""
    bundles = [r.resources_bundle for r in (*requests, *(r for gang in gangs for r in gang.requests))]
    return [(bundle.get("CPU", 0.0), bundle.get("GPU", 0.0)) for bundle in bundles]
