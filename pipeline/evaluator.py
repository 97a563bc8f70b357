"""The trial actor: loads data and weights once, stays warm, scores one group of candidates a trial."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
from ray import tune

from pipeline.config import Config, config_from_json
from pipeline.data import load_data
from pipeline.networks import make_network
from pipeline.weights import fetch_weights
from snn.search_space import Architecture
from snn.trie import evaluate_architectures


class Evaluator(tune.Trainable):
    """Scores candidates on D_val with the super-network's weights.

    A trial's config holds `candidates`, a list of (id, architecture as text). Its one result holds
    `answers`: for each candidate the fields of Evaluation, or the error that its evaluation raised.
    """

    def setup(  # type: ignore[override]  # Tune adds what with_parameters was given
        self, config: dict[str, Any], run_config: dict[str, Any], weights_actor: str
    ) -> None:
        self.worker = f"{os.uname().nodename}-{os.getpid()}"
        self.setup_error = ""
        self.reset_config(config)
        try:
            self._load(config_from_json(run_config), weights_actor)
        except Exception as error:  # reported by `step`, so that the user sees it once and in full
            self.setup_error = f"{self.worker}: {type(error).__name__}: {error}"

    def _load(self, settings: Config, weights_actor: str) -> None:
        torch.set_num_threads(settings.threads_per_worker)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        data = load_data(settings)
        self.samples = data.search_val()
        self.batch_size = settings.search.batch_size
        with torch.device("meta"):
            self.network = make_network(settings.network, data)
        self.network.load_state_dict(fetch_weights(weights_actor), assign=True)
        self.network.to(self.device).eval()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial's candidates; the actor stays as it is."""
        self.candidates = [(int(i), Architecture.parse(text)) for i, text in new_config["candidates"]]
        return True

    def step(self) -> dict[str, Any]:
        if self.setup_error:
            return {"setup_error": self.setup_error, "done": True}
        start, cpu_start = time.perf_counter(), time.process_time()
        answers = self._answers()
        seconds = (time.perf_counter() - start) / len(answers)
        for answer in answers:
            answer |= {"worker": self.worker, "seconds": seconds}
        return {"answers": answers, "cpu_seconds": time.process_time() - cpu_start, "done": True}

    def _answers(self) -> list[dict[str, Any]]:
        """Evaluates the group together; if that raises, each alone, so that one cannot take others along."""
        try:
            return self._evaluate(self.candidates)
        except Exception as error:
            if len(self.candidates) == 1:
                message = f"{type(error).__name__}: {error}"
                return [{"candidate_id": self.candidates[0][0], "error": message}]
        group, answers = self.candidates, []
        for candidate in group:
            self.candidates = [candidate]
            answers += self._answers()
        return answers

    def _evaluate(self, candidates: list[tuple[int, Architecture]]) -> list[dict[str, Any]]:
        batches = self.samples.batches(self.batch_size, self.device)
        results = evaluate_architectures(self.network, [a for _, a in candidates], batches)
        return [
            {**vars(result), "candidate_id": i, "error": ""}
            for (i, _), result in zip(candidates, results, strict=True)
        ]
