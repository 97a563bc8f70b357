"""Says what a stage lacks while Ray cannot start its work, and refuses what no node can ever give."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import ray

from pipeline.console import say
from pipeline.ray.autoscaler import AutoscalerStatus, autoscaler_status

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_BEFORE_WARNING = 30.0
_SECONDS_BETWEEN_WARNINGS = 600.0
_SECONDS_FOR_A_REFUSAL = 15.0


class Waiting:
    """Watches work that has not started.

    Args:
        what: What cannot start, such as "a trial actor".
        cpus: CPUs that it needs on one node.
        gpus: GPUs that it needs on the same node.
        number: How many times it needs them, on one or several nodes.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        what: str,
        cpus: float,
        gpus: float,
        *,
        number: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.cpus = cpus
        self.gpus = gpus
        self.number = number
        self._where = "on one node" if number == 1 else "each on one node"
        self._clock = clock
        self._next_look = self._next_warning = 0.0
        self._said = ""
        self._start_again()

    def update(self, running: bool) -> None:
        """Takes note whether anything of the stage runs now.

        Where nodes come on demand it says how many are on their way; elsewhere it warns after 30 s and then
        every 10 minutes.

        Raises:
            ValueError: No node has enough CPUs or GPUs, nor has one that the autoscaler could start.
        """
        if running:
            self._start_again()
        elif self._clock() >= self._next_look:
            self._next_look = self._clock() + SECONDS_BETWEEN_LOOKS
            status = autoscaler_status()
            if status is None:
                self._warn()
            else:
                self._say_what_comes(status)

    def _start_again(self) -> None:
        now = self._clock()
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        self._next_warning = now + _SECONDS_BEFORE_WARNING
        self._said = ""

    def _warn(self) -> None:
        if self._clock() >= self._next_warning:
            self._next_warning = self._clock() + _SECONDS_BETWEEN_WARNINGS
            logger.warning("%s waits for %s %s; %s", self.what, self._needs(), self._where, _describe_nodes())

    def _say_what_comes(self, status: AutoscalerStatus) -> None:
        reason = f" ({status.failures[-1]})" if status.failures else ""
        if status.cannot_give(self.cpus, self.gpus) and not self.fits_somewhere():
            raise ValueError(
                f"{self.what} needs {self._needs()} {self._where}, but no node of the cluster has that many, "
                f"nor has a node type that its autoscaler could start{reason}. Change the cluster's node "
                "types, or ask for less: --threads-per-worker, --training-threads, --ray.gpus-per-worker."
            )
        nodes = _count(status.num_starting, "node") if status.num_starting else "the autoscaler"
        text = f"  waiting for {nodes}: {self.what} needs {self._needs()}{reason}"
        if text != self._said:
            self._said = text
            say(text)

    def fits_somewhere(self) -> bool:
        """Whether a node that has joined has that many, free or not."""
        return any(
            node.get("CPU", 0) >= self.cpus and node.get("GPU", 0) >= self.gpus for node in _alive_nodes()
        )

    def _needs(self) -> str:
        gpus = f" and {_count(self.gpus, 'GPU')}" if self.gpus else ""
        times = f"{self.number} times " if self.number > 1 else ""
        return f"{times}{_count(self.cpus, 'CPU')}{gpus}"


def refuse_what_no_node_has(needs: Iterable[Waiting]) -> None:
    """Asks an autoscaler for nodes ahead of the work: of what nobody asks for it never says that it has none.

    Takes 15 s at most (an autoscaler looks every 5 s), and no time for what fits on a node that has joined.

    Raises:
        ValueError: As Waiting.update.
    """
    first_of_size = {(need.cpus, need.gpus): need for need in reversed(list(needs))}
    needs = [need for need in first_of_size.values() if not need.fits_somewhere()]
    asked = [ray.remote(_nothing).options(num_cpus=need.cpus, num_gpus=need.gpus).remote() for need in needs]
    end = time.monotonic() + _SECONDS_FOR_A_REFUSAL
    try:
        while needs and time.monotonic() < end:
            time.sleep(1.0)
            for need in needs:
                need.update(running=False)
            needs = [need for need in needs if not need.fits_somewhere()]
    finally:
        for ref in asked:
            ray.cancel(ref)


def _nothing() -> None:
    """A task that only needs a place."""


def get_when_started(ref: ray.ObjectRef, waiting: Waiting) -> Any:
    """The result of a task that may have to wait for a node.

    Raises:
        ValueError: As Waiting.update.
    """
    while not ray.wait([ref], timeout=SECONDS_BETWEEN_LOOKS)[0]:
        waiting.update(running=False)
    return ray.get(ref)


def _describe_nodes() -> str:
    """The cluster's CPUs and GPUs: how many are free, and what its nodes have."""
    nodes, free = _alive_nodes(), ray.available_resources()
    kinds = [kind for kind in ("CPU", "GPU") if any(kind in node for node in nodes)]
    shares = [f"{free.get(kind, 0):g} of {sum(n.get(kind, 0) for n in nodes):g} {kind}s" for kind in kinds]
    largest = [_count(max(node.get(kind, 0) for node in nodes), kind) for kind in kinds]
    return (
        f"{' and '.join(shares) or 'no CPUs'} of the cluster's {_count(len(nodes), 'node')} are free, "
        f"a node has at most {' or '.join(largest) or 'no CPUs'}"
    )


def _alive_nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"
