"""What is recorded of the nodes that a run works on: how many there are, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

THIS_MACHINE = "this machine"
"""Node type of a run that joins no cluster."""


@dataclass(frozen=True)
class ClusterSample:
    """The cluster of a run at a moment (cluster.json).

    Attributes:
        time: UNIX time in seconds.
        nodes: Nodes with CPUs or GPUs to work with.
        cpus: CPUs of these nodes.
        gpus: Their GPUs.
        evaluations: Evaluations that the search had by then.
    """

    time: float
    nodes: int
    cpus: float
    gpus: float
    evaluations: int


@dataclass(frozen=True)
class StageTime:
    """The time of a stage in all attempts (ledger.json).

    Attributes:
        stage: Its name.
        wall_seconds: Time that commands spent in it.
        joules: Energy of the driver's machine meanwhile, as its processors and GPUs count; None if none does.
    """

    stage: str
    wall_seconds: float
    joules: float | None


@dataclass(frozen=True)
class NodeTime:
    """The nodes of one type during a stage (ledger.json).

    Attributes:
        stage: Its name.
        node_type: An autoscaler's name for them; "node" for others, "this machine" without a cluster.
        node_seconds: Time summed over the nodes, idle ones included.
        cpu_seconds: Time summed over their CPUs.
        gpu_seconds: Time summed over their GPUs.
        dollars: By the prices at that time; None without a price.
    """

    stage: str
    node_type: str
    node_seconds: float
    cpu_seconds: float
    gpu_seconds: float
    dollars: float | None
