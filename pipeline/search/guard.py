"""Takes trials away from evaluators that hang and from nodes that leave."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ray

from pipeline.ray.nodes import leaving_nodes, node_of_actor

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0
_CANDIDATES_TO_START = 3  # an evaluator may load data and weights as long as this many candidates may take
_SECONDS_OF_GRACE = 10.0  # an evaluator that can still do so ends itself first and writes where it hung


class RunningTrial(Protocol):
    """What a guard needs of a Tune trial that runs."""

    trial_id: str
    config: dict[str, Any]
    temporary_state: Any


class Guard:
    """Watches the trials of a search from the driver.

    An evaluator that is stopped, or sits on a node that does no work, cannot say so itself. Its process is
    killed, and the searcher hands its candidates out again; an answer that comes later finds no trial.

    Args:
        seconds_per_candidate: How long the evaluation of a candidate may take. An evaluator's first trial
            may take three times as long in addition, for data and weights.
        release: Called with the id of a trial before its evaluator is killed because its node leaves: no
            candidate is to blame.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        seconds_per_candidate: float,
        release: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds_per_candidate = seconds_per_candidate
        self._release = release
        self._clock = clock
        self._next_look = 0.0
        self._since: dict[str, float] = {}
        self._actors: dict[str, object] = {}
        self._loaded: set[object] = set()
        self._killed: set[str] = set()

    def look(self, running: Sequence[RunningTrial]) -> None:
        """Looks at the trials that run now, at most once a second."""
        now = self._clock()
        self._note(running, now)
        if now < self._next_look:
            return
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        watched = [trial for trial in running if trial.trial_id not in self._killed]
        for trial in watched:
            allowed = self._seconds_allowed(trial)
            if now - self._since[trial.trial_id] > allowed:
                logger.warning("an evaluator has not answered for %.0f s; it is replaced", allowed)
                self._kill(trial)
        if leaving := leaving_nodes():
            self._clear(watched, leaving)

    def _note(self, running: Sequence[RunningTrial], now: float) -> None:
        """Takes note when each trial began, and which actors have finished one."""
        actors = {trial.trial_id: _actor_id(trial) for trial in running}
        self._loaded |= {actor for trial_id, actor in self._actors.items() if trial_id not in actors}
        self._actors = actors
        self._since = {trial_id: self._since.get(trial_id, now) for trial_id in actors}

    def _seconds_allowed(self, trial: RunningTrial) -> float:
        loading = 0 if _actor_id(trial) in self._loaded else _CANDIDATES_TO_START
        number = loading + len(trial.config["candidates"])
        return self._seconds_per_candidate * number + _SECONDS_OF_GRACE

    def _clear(self, trials: Sequence[RunningTrial], leaving: set[str]) -> None:
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if trial.trial_id not in self._killed and actor is not None and node_of_actor(actor) in leaving:
                logger.warning("a node leaves; what it evaluated is handed out again")
                self._release(trial.trial_id)
                self._kill(trial)

    def _kill(self, trial: RunningTrial) -> None:
        self._killed.add(trial.trial_id)
        ray.kill(trial.temporary_state.ray_actor)


def _actor_id(trial: RunningTrial) -> object:
    """Tells actors apart without keeping them alive, as their handles would."""
    actor = trial.temporary_state.ray_actor
    return None if actor is None else actor._actor_id
