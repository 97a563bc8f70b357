"""Tune runs as many trial actors as there are slots, and no more."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
import ray
from ray import cloudpickle, tune

from pipeline.algorithms.choose import build_search
from pipeline.bench.cluster import toy_answer, virtual_cluster
from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.ray.session import ray_session
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.trials import run_trials
from snn.search_space import SearchSpace

pytestmark = pytest.mark.slow
NUM_WORKERS = 8
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it


class SlowToStart(tune.Trainable):
    """Its trials are much shorter than the start of an actor."""

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(3)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.candidates = new_config["candidates"]
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(0.2)
        answers = [toy_answer(int(i), text) for i, text in self.candidates]
        return {"answers": answers, "busy_seconds": 0.2, "done": True}


class Unequipped(SlowToStart):
    """Answers if Ray had nothing to prepare for its process."""

    def setup(self, config: dict[str, Any]) -> None:
        assert ray.get_runtime_context().get_runtime_env_string() == "{}"
        self.reset_config(config)


def test_trials_run_in_the_workers_that_ray_has_started() -> None:
    """Ray gives an actor with a runtime environment of its own another process."""
    settings = SearchConfig(algorithm="random", max_evaluations=2)
    search = build_search(SearchSpace(5), settings, seed=0, spikes_reference=1e4)
    searcher = AskTellSearcher(search, Results(), num_workers=1)
    with ray_session(named_config("demo")):
        run_trials(searcher, Unequipped, num_workers=1)
    assert [row.error for row in searcher.results.table] == ["", ""]


def test_free_actors_do_not_replace_those_that_start() -> None:
    settings = SearchConfig(algorithm="random", max_evaluations=200)
    search = build_search(SearchSpace(5), settings, seed=0, spikes_reference=1e4)
    searcher = AskTellSearcher(search, Results(), num_workers=NUM_WORKERS, largest_group=1, speculate=True)
    with virtual_cluster():
        trials = run_trials(searcher, SlowToStart, num_workers=NUM_WORKERS)
    assert len(searcher.results.table) == 200
    assert len(trials.workers) == NUM_WORKERS
    assert trials.busy_seconds == pytest.approx(200 * 0.2)
