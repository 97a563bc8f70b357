"""Says what a stage lacks while Ray cannot start its work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import ray

logger = logging.getLogger(__name__)

SECONDS_BEFORE_WARNING = 30.0
_SECONDS_BETWEEN_WARNINGS = 600.0


class Waiting:
    """Warns while nothing of a stage runs, first after 30 s and then every 10 minutes.

    Args:
        what: What cannot start, such as "a trial actor".
        cpus: CPUs that it needs on one node.
        gpus: GPUs that it needs on the same node.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, what: str, cpus: float, gpus: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what = what
        self.cpus = cpus
        self.gpus = gpus
        self._clock = clock
        self._next_warning = clock() + SECONDS_BEFORE_WARNING

    def update(self, running: bool) -> None:
        """Takes note whether anything of the stage runs now; warns if it is time."""
        now = self._clock()
        if running:
            self._next_warning = now + SECONDS_BEFORE_WARNING
        elif now >= self._next_warning:
            self._next_warning = now + _SECONDS_BETWEEN_WARNINGS
            logger.warning("%s waits for %s on one node; %s", self.what, self._needs(), describe_nodes())

    def _needs(self) -> str:
        gpus = f" and {_count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{_count(self.cpus, 'CPU')}{gpus}"


def describe_nodes() -> str:
    """The cluster's CPUs and GPUs: how many are free, and what its nodes have."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    free = ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if any(kind in node for node in nodes)]
    shares = [f"{free.get(kind, 0):g} of {sum(n.get(kind, 0) for n in nodes):g} {kind}s" for kind in kinds]
    largest = [_count(max(node.get(kind, 0) for node in nodes), kind) for kind in kinds]
    return (
        f"{' and '.join(shares) or 'no CPUs'} of the cluster's {_count(len(nodes), 'node')} are free, "
        f"a node has at most {' or '.join(largest) or 'no CPUs'}"
    )


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"
