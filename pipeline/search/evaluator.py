"""The trial actor: loads what it scores with once, stays warm, scores one group of candidates a trial."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from ray import tune

from pipeline.config.tree import Config, config_from_json
from pipeline.data import RunData, load_data
from pipeline.node_facts import NodeFacts, check_node
from pipeline.search.answers import Answer
from snn.search_space import Architecture

logger = logging.getLogger(__name__)

_STDERR = 2

Candidates = Sequence[tuple[int, Architecture]]
Part = tuple[int, int]
"""First sample and end, in the order in which sequential elimination takes D_val."""


class Scorer(Protocol):
    """Scores candidates in the process of a trial actor."""

    def score(
        self, candidates: Candidates, threshold: float | None, part: Part | None
    ) -> Iterator[tuple[Sequence[Answer], bool]]:
        """The answers for a group, and whether they are the last ones; once, or at each rung of a training.

        Args:
            candidates: Ids and architectures.
            threshold: Fitness below which a candidate may be given up; None for none.
            part: Measure this part of D_val alone; None for all of it.
        """

    def block_runs(self, candidates: Candidates, answers: Sequence[Answer]) -> int:
        """Evaluations of a block on a sample that these answers took; 0 if candidates share no weights."""

    def damage(self) -> str:
        """What makes the answers useless; empty if nothing does."""


class Scoring(Protocol):
    """What is sent to the trial actors, from which each makes its scorer."""

    def load(self, config: Config, data: RunData) -> Scorer:
        """The scorer, in the process of a trial actor."""


class Evaluator(tune.Trainable):
    """Scores candidates on D_val.

    A trial's config holds `candidates`, a list of (id, architecture as text), and `threshold`, the fitness
    below which a candidate may be given up (or None), and `part`, the Part of D_val to measure (or None for
    all of it). Each of its results holds `answers`, an Answer for each candidate.

    Data and weights are loaded in the first trial: an actor that hangs before its first one is not noticed.
    A trial that takes too long ends its process, and the searcher hands its candidates out again.
    """

    def setup(  # type: ignore[override]  # Tune adds what with_parameters was given
        self,
        config: dict[str, Any],
        run_config: dict[str, Any],
        scoring: Scoring,
        driver: NodeFacts | None = None,
    ) -> None:
        self.worker = f"{os.uname().nodename}-{os.getpid()}"
        self.setup_error = ""
        self.scorer: Scorer | None = None
        self.run_config = run_config
        self.scoring = scoring
        self.driver = driver
        self.reset_config(config)

    def _load(self) -> Scorer | None:
        try:
            self.settings = config_from_json(self.run_config)
            check_node(self.settings, self.driver)
            torch.set_num_threads(self.settings.threads_per_worker)
            return self.scoring.load(self.settings, load_data(self.settings))
        except Exception as error:  # reported by `step`, so that the user sees it once and in full
            logger.exception("the evaluator could not start")
            self.setup_error = f"{self.worker}: {type(error).__name__}: {error}"
            return None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial's candidates; the actor stays as it is."""
        self.candidates = [(int(i), Architecture.parse(text)) for i, text in new_config["candidates"]]
        self.threshold: float | None = new_config.get("threshold")
        self.part: Part | None = new_config.get("part")
        self.scores: Iterator[tuple[Sequence[Answer], bool]] | None = None
        self.busy_seconds = self.cpu_seconds = 0.0
        return True

    def step(self) -> dict[str, Any]:
        if not self.setup_error:
            self.scorer = self.scorer or self._load()
        if self.setup_error or self.scorer is None:
            return {"setup_error": self.setup_error, "done": True}
        start, cpu_start = time.perf_counter(), time.process_time()
        seconds_allowed = self.settings.seconds_per_candidate * len(self.candidates)
        faulthandler.dump_traceback_later(seconds_allowed, exit=True, file=_STDERR)
        try:
            self.scores = self.scores or self.scorer.score(self.candidates, self.threshold, self.part)
            answers, done = next(self.scores)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if damage := self.scorer.damage():
            self.setup_error = f"{self.worker}: {damage}"
            return {"setup_error": self.setup_error, "done": True}
        self.busy_seconds += time.perf_counter() - start
        self.cpu_seconds += time.process_time() - cpu_start
        seconds = self.busy_seconds / len(answers)
        return {
            "answers": [replace(answer, worker=self.worker, seconds=seconds) for answer in answers],
            "busy_seconds": self.busy_seconds,
            "cpu_seconds": self.cpu_seconds,
            "block_runs": self.scorer.block_runs(self.candidates, answers),
            "done": done,
        }
