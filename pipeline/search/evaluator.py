"""The trial actor: loads data and weights once, stays warm, scores one group of candidates a trial."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from ray import tune

from pipeline.config.tree import config_from_json
from pipeline.data import load_data
from pipeline.node_facts import NodeFacts, check_node
from pipeline.search.answers import Answer
from pipeline.search.engine import load_search_engine
from pipeline.search.weights import SharedWeights
from snn.engines.engine import EngineSpec
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation, best_possible_fitness
from snn.search_space import Architecture

logger = logging.getLogger(__name__)

_STDERR = 2


class Evaluator(tune.Trainable):
    """Scores candidates on D_val with the super-network's weights.

    A trial's config holds `candidates`, a list of (id, architecture as text), and `threshold`, the fitness
    below which a candidate may be stopped early (or None). Its one result holds `answers`, an Answer for
    each candidate.

    Data and weights are loaded in the first trial: an actor that hangs before its first one is not noticed.
    A trial that takes too long ends its process, and the searcher hands its candidates out again.
    """

    def setup(  # type: ignore[override]  # Tune adds what with_parameters was given
        self,
        config: dict[str, Any],
        run_config: dict[str, Any],
        weights_actor: str,
        engine: EngineSpec,
        device_type: str,
        spikes_reference: float,
        driver: NodeFacts | None = None,
    ) -> None:
        self.worker = f"{os.uname().nodename}-{os.getpid()}"
        self.setup_error = ""
        self.loaded = False
        self.run_config = run_config
        self.weights_actor = weights_actor
        self.engine = engine
        self.device_type = device_type
        self.spikes_reference = spikes_reference
        self.driver = driver
        self.reset_config(config)

    def _load(self) -> None:
        try:
            self.settings = config_from_json(self.run_config)
            check_node(self.settings, self.driver)
            torch.set_num_threads(self.engine.num_threads)
            data = load_data(self.settings)
            self.samples = data.search_val()
            self.weights = SharedWeights(self.weights_actor)
            device = torch.device(self.device_type)
            self.network = load_search_engine(self.engine, self.settings, data, self.weights.arrays, device)
            self.loaded = True
        except Exception as error:  # reported by `step`, so that the user sees it once and in full
            logger.exception("the evaluator could not start")
            self.setup_error = f"{self.worker}: {type(error).__name__}: {error}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial's candidates; the actor stays as it is."""
        self.candidates = [(int(i), Architecture.parse(text)) for i, text in new_config["candidates"]]
        self.threshold: float | None = new_config.get("threshold")
        return True

    def step(self) -> dict[str, Any]:
        if not self.loaded:
            self._load()
        if self.setup_error:
            return {"setup_error": self.setup_error, "done": True}
        start, cpu_start = time.perf_counter(), time.process_time()
        seconds_allowed = self.settings.ray.evaluation_timeout * len(self.candidates)
        faulthandler.dump_traceback_later(seconds_allowed, exit=True, file=_STDERR)
        try:
            answers = self._answers()
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._check_weights()
        if self.setup_error:
            return {"setup_error": self.setup_error, "done": True}
        busy = time.perf_counter() - start
        return {
            "answers": [replace(a, worker=self.worker, seconds=busy / len(answers)) for a in answers],
            "busy_seconds": busy,
            "cpu_seconds": time.process_time() - cpu_start,
            "done": True,
        }

    def _answers(self) -> list[Answer]:
        """Evaluates the group together; if that raises, each candidate alone, so that one fails by itself."""
        try:
            return self._evaluate(self.candidates)
        except Exception as error:
            if len(self.candidates) == 1:
                logger.exception("the evaluation of %s failed", self.candidates[0][1])
                return [Answer(self.candidates[0][0], error=f"{type(error).__name__}: {error}")]
        group, answers = self.candidates, list[Answer]()
        for candidate in group:
            self.candidates = [candidate]
            answers += self._answers()
        return answers

    def _evaluate(self, candidates: list[tuple[int, Architecture]]) -> list[Answer]:
        results = evaluate_architectures(
            self.network,
            [architecture for _, architecture in candidates],
            self.samples.batches(self.engine.batch_size, self.network.device),
            num_threads=self.engine.num_threads,
            stop=None if self.threshold is None else self._cannot_reach(self.threshold),
        )
        return [Answer(i, result) for (i, _), result in zip(candidates, results, strict=True)]

    def _cannot_reach(self, threshold: float) -> Callable[[Evaluation], bool]:
        """Tells whether a candidate's fitness must end below the threshold, whatever is left gives."""

        def stop(so_far: Evaluation) -> bool:
            bound = best_possible_fitness(
                so_far,
                num_samples=len(self.samples),
                spikes_reference=self.spikes_reference,
                spike_exponent=self.settings.search.spike_exponent,
            )
            return bound < threshold

        return stop

    def _check_weights(self) -> None:
        """Refuses the trial's results if the shared weights have changed."""
        if not self.weights.intact():
            self.setup_error = (
                f"{self.worker}: the super-network's weights in shared memory were overwritten. Nothing "
                "that was evaluated with them is kept; run the search again."
            )
