"""Ray: started here or joined, what its cluster has, and what work that cannot start waits for."""

from pipeline.ray.course import recorded_cluster
from pipeline.ray.session import Resources, ray_session
from pipeline.ray.waiting import Waiting, get_when_started, refuse_what_no_node_has

__all__ = [
    "Resources",
    "Waiting",
    "get_when_started",
    "ray_session",
    "recorded_cluster",
    "refuse_what_no_node_has",
]
