"""Hung evaluators and leaving nodes lose their trials; healthy ones keep them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from pipeline.search.guard import Guard


@dataclass
class Trial:
    trial_id: str
    num_candidates: int = 1
    node: str = "node"
    actor: str = ""
    config: dict[str, Any] = field(init=False)
    temporary_state: Any = field(init=False)

    def __post_init__(self) -> None:
        self.config = {"candidates": [(i, "") for i in range(self.num_candidates)]}
        self.temporary_state = SimpleNamespace(ray_actor=self)
        self._actor_id = self.actor or self.trial_id


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What happens to a cluster, and which of its nodes leave."""
    state = SimpleNamespace(now=0.0, leaving=set(), killed=[], released=[])
    monkeypatch.setattr(ray, "kill", lambda trial: state.killed.append(trial.trial_id))
    monkeypatch.setattr("pipeline.search.guard.leaving_nodes", lambda: state.leaving)
    monkeypatch.setattr("pipeline.search.guard.node_of_actor", lambda trial: trial.node)
    state.guard = Guard(100.0, state.released.append, lambda: state.now)
    return state


def test_evaluator_that_does_not_answer_is_killed_once(cluster: SimpleNamespace) -> None:
    earlier = [Trial("earlier", actor="1"), Trial("earlier too", actor="2")]
    small, large = Trial("small", actor="1"), Trial("large", num_candidates=3, actor="2")
    cluster.guard.look(earlier)
    for cluster.now in (10.0, 119.0):
        cluster.guard.look([small, large])
    assert cluster.killed == []
    for cluster.now in (121.0, 122.0, 210.0):
        cluster.guard.look([small, large])
    assert cluster.killed == ["small"] and cluster.released == []
    for cluster.now in (319.0, 321.0):
        cluster.guard.look([large])
    assert cluster.killed == ["small", "large"]


def test_first_trial_of_an_evaluator_has_time_to_load(cluster: SimpleNamespace) -> None:
    trial = Trial("first")
    for cluster.now in (0.0, 409.0):
        cluster.guard.look([trial])
    assert cluster.killed == []
    cluster.now = 411.0
    cluster.guard.look([trial])
    assert cluster.killed == ["first"]


def test_time_counts_from_a_trial_s_own_start(cluster: SimpleNamespace) -> None:
    for cluster.now in range(0, 1000, 50):
        cluster.guard.look([Trial(f"trial-{cluster.now // 100}")])
    assert cluster.killed == []


def test_trials_leave_a_node_that_leaves(cluster: SimpleNamespace) -> None:
    trials = [Trial("a", node="leaves"), Trial("b", node="stays"), Trial("c", node="leaves")]
    cluster.guard.look(trials)
    cluster.leaving = {"leaves", "another"}
    for cluster.now in (5.0, 6.0, 7.0):
        cluster.guard.look(trials)
    assert cluster.killed == cluster.released == ["a", "c"]
