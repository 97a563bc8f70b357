"""The paper's score: the accuracy and spikes of a candidate with the super-network's weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.algorithms.elimination import sample_order
from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import network_structure
from pipeline.search.answers import Answer
from pipeline.search.engine import load_search_engine
from pipeline.search.evaluator import Candidates, Part
from pipeline.search.weights import SharedWeights
from snn.engines.engine import EngineSpec
from snn.engines.trie import evaluate_architectures, score_samples
from snn.fitness import Evaluation, best_possible_fitness
from snn.model.network import count_parameters
from snn.search_space import Architecture, count_block_runs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InheritedWeights:
    """Scoring with the super-network's weights.

    Attributes:
        weights_actor: Name of the actor that hands them out.
        engine: How candidates are evaluated.
        device_type: torch's type of the device that evaluates.
        spikes_reference: N_avg of the fitness, in the unit of its cost.
    """

    weights_actor: str
    engine: EngineSpec
    device_type: str
    spikes_reference: float

    def load(self, config: Config, data: RunData) -> InheritedWeightsScorer:
        """The scorer, on the weights in the node's shared memory."""
        return InheritedWeightsScorer(self, config, data)


class InheritedWeightsScorer:
    """Evaluates groups of candidates together, each layer once for all that have the same prefix."""

    def __init__(self, scoring: InheritedWeights, config: Config, data: RunData) -> None:
        self.scoring = scoring
        self.settings = config
        self.samples = data.search_val()
        self.order = sample_order(len(self.samples), config.seed)
        self.parameters = count_parameters(network_structure(config.network, data))
        self.weights = SharedWeights(scoring.weights_actor)
        device = torch.device(scoring.device_type)
        self.network = load_search_engine(scoring.engine, config, data, self.weights.arrays, device)

    def score(
        self, candidates: Candidates, threshold: float | None, part: Part | None
    ) -> Iterator[tuple[Sequence[Answer], bool]]:
        """The answers for a group, once."""
        yield self._answers(candidates, threshold, part), True

    def block_runs(self, candidates: Candidates, answers: Sequence[Answer]) -> int:
        """Each distinct prefix once, on the samples of the candidate that saw most."""
        samples = max((a.evaluation.num_samples for a in answers if a.evaluation is not None), default=0)
        return count_block_runs(architecture for _, architecture in candidates)[0] * samples

    def damage(self) -> str:
        """Refuses a trial's results if the shared weights have changed."""
        if self.weights.intact():
            return ""
        return (
            "the super-network's weights in shared memory were overwritten. Nothing that was evaluated with "
            "them is kept; run the search again."
        )

    def _answers(self, candidates: Candidates, threshold: float | None, part: Part | None) -> list[Answer]:
        """Evaluates the group together; if that raises, each candidate alone, so that one fails by itself."""
        try:
            return self._evaluate(candidates, threshold) if part is None else self._measure(candidates, part)
        except Exception as error:
            if len(candidates) == 1:
                logger.exception("the evaluation of %s failed", candidates[0][1])
                return [Answer(candidates[0][0], error=f"{type(error).__name__}: {error}")]
        return [answer for candidate in candidates for answer in self._answers([candidate], threshold, part)]

    def _measure(self, candidates: Candidates, part: Part) -> list[Answer]:
        """Each candidate on one part of D_val."""
        engine, (start, end) = self.scoring.engine, part
        samples = replace(self.samples, indices=self.samples.indices[self.order[start:end]])
        results = score_samples(
            self.network,
            [architecture for _, architecture in candidates],
            samples.batches(engine.batch_size, self.network.device),
            num_threads=engine.num_threads,
        )
        return [
            Answer(i, self._with_parameters(evaluation, architecture), scores=scores)
            for (i, architecture), (evaluation, scores) in zip(candidates, results, strict=True)
        ]

    def _with_parameters(self, evaluation: Evaluation, architecture: Architecture) -> Evaluation:
        return replace(evaluation, num_parameters=self.parameters.of(architecture))

    def _evaluate(self, candidates: Candidates, threshold: float | None) -> list[Answer]:
        engine = self.scoring.engine
        results = evaluate_architectures(
            self.network,
            [architecture for _, architecture in candidates],
            self.samples.batches(engine.batch_size, self.network.device),
            num_threads=engine.num_threads,
            stop=None if threshold is None else self._cannot_reach(threshold),
        )
        return [
            Answer(i, self._with_parameters(result, architecture))
            for (i, architecture), result in zip(candidates, results, strict=True)
        ]

    def _cannot_reach(self, threshold: float) -> Callable[[Evaluation], bool]:
        """Tells whether a candidate's fitness must end below the threshold, whatever is left gives."""

        def stop(so_far: Evaluation) -> bool:
            bound = best_possible_fitness(
                so_far,
                num_samples=len(self.samples),
                spikes_reference=self.scoring.spikes_reference,
                spike_exponent=self.settings.search.spike_exponent,
                cost=self.settings.search.cost,
            )
            return bound < threshold

        return stop
