"""What a run costs while it runs: time of the nodes by stage, dollars, energy; and the end of its budget."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray

from pipeline.config.budget import ANY_NODE, BudgetConfig
from pipeline.interruption import BudgetSpent, interrupt, interruption
from pipeline.ray.energy import read_energy
from pipeline.storage.cluster_records import THIS_MACHINE, NodeTime, StageTime
from pipeline.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_WRITES = 30.0
_NODE_GROUP = "ray.io/node-group"


class Ledger:
    """Adds up what the connected cluster costs.

    Args:
        run: Its ledger.json is continued.
        budget: When it is spent, the command is interrupted.
        joined: Whether a cluster was joined.
    """

    def __init__(self, run: RunFolder, budget: BudgetConfig, *, joined: bool) -> None:
        self.run, self.budget, self.joined = run, budget, joined
        stages, nodes = run.read_ledger()
        self.stages = {entry.stage: entry for entry in stages}
        self.nodes = {(entry.stage, entry.node_type): entry for entry in nodes}
        self.stage = ""
        self._lock = threading.Lock()
        self._looked, self._written = time.monotonic(), time.monotonic()
        self._joules = read_energy()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ledger", daemon=True)

    def enter(self, stage: str) -> None:
        """From now on costs are those of a stage.

        Raises:
            BudgetSpent: The budget is spent already.
        """
        self._try_to_look()
        self.stage = stage
        if reason := self.spent():
            raise BudgetSpent(reason)

    def spent(self) -> str:
        """Which limit is reached; empty if none is."""
        seconds = sum(entry.wall_seconds for entry in self.stages.values())
        if self.budget.max_hours is not None and seconds >= 3600 * self.budget.max_hours:
            return f"budget.max_hours ({self.budget.max_hours:g}) is reached in {self.stage}"
        dollars = sum(entry.dollars or 0.0 for entry in self.nodes.values())
        if self.budget.max_dollars is not None and dollars >= self.budget.max_dollars:
            return f"budget.max_dollars ({self.budget.max_dollars:g}) is reached in {self.stage}"
        return ""

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Writes the ledger a last time."""
        self._ended.set()
        self._thread.join(timeout=2)
        self._write()

    def _watch(self) -> None:
        ending = False
        while not ending:
            ending = self._ended.wait(_SECONDS_BETWEEN_LOOKS)
            if ending and interruption() is not None:
                return  # a Ray that died may not answer
            if not self._try_to_look():
                return
            if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
                self._write()
            if not ending and (reason := self.spent()):
                return interrupt(BudgetSpent(reason))

    def _try_to_look(self) -> bool:
        """Whether the cluster answered; one that is lost is told by the stage."""
        try:
            self._look()
        except Exception as error:
            logger.debug("costs are recorded no more: %s", error)
            return False
        return True

    def _look(self) -> None:
        with self._lock:
            now, joules = time.monotonic(), read_energy()
            seconds, self._looked = now - self._looked, now
            used = None if joules is None or self._joules is None else max(0.0, joules - self._joules)
            self._joules = joules
            if not self.stage:
                return
            entry = self.stages.get(self.stage, StageTime(self.stage, 0.0, None))
            total = entry.joules if used is None else (entry.joules or 0.0) + used
            self.stages[self.stage] = replace(entry, wall_seconds=entry.wall_seconds + seconds, joules=total)
            for node_type, number in self._working_nodes().items():
                self._add(node_type, number, seconds)

    def _add(self, node_type: str, there: Counter[str], seconds: float) -> None:
        key, price = (self.stage, node_type), self.budget.price(node_type)
        entry = self.nodes.get(key, NodeTime(*key, 0.0, 0.0, 0.0, None))
        cost = None if price is None else seconds * there["nodes"] * price / 3600
        self.nodes[key] = replace(
            entry,
            node_seconds=entry.node_seconds + seconds * there["nodes"],
            cpu_seconds=entry.cpu_seconds + seconds * there["CPU"],
            gpu_seconds=entry.gpu_seconds + seconds * there["GPU"],
            dollars=entry.dollars if cost is None else (entry.dollars or 0.0) + cost,
        )

    def _working_nodes(self) -> dict[str, Counter[str]]:
        """Of each node type the nodes there are, their CPUs and GPUs."""
        there: dict[str, Counter[str]] = {}
        unnamed = ANY_NODE if self.joined else THIS_MACHINE
        nodes: list[dict[str, Any]] = ray.nodes()
        for node in nodes:
            if node["Alive"]:
                name = node.get("Labels", {}).get(_NODE_GROUP) or unnamed
                resources = {kind: node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU")}
                there.setdefault(name, Counter()).update({"nodes": 1, **resources})  # type: ignore[arg-type]
        return there

    def _write(self) -> None:
        self._written = time.monotonic()
        try:
            self.run.write_ledger(list(self.stages.values()), list(self.nodes.values()))
        except OSError as error:  # no finished stage fails for the sake of its costs
            logger.warning("the ledger cannot be written: %s", error)


@contextmanager
def ledger(run: RunFolder, budget: BudgetConfig, *, joined: bool) -> Iterator[Ledger]:
    """Records what the connected cluster costs during the block.

    Raises:
        ValueError: The ledger of an earlier attempt is damaged.
    """
    kept = Ledger(run, budget, joined=joined)
    kept.start()
    try:
        yield kept
    finally:
        kept.end()
