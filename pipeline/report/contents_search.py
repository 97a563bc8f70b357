"""What report.json holds of stage 2: the search, and the exact answers of a table of the whole space.

Units and missing values are as in `pipeline.report.contents`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.analysis.effects import Effects
from pipeline.analysis.exact import LambdaInterval, Optimum
from pipeline.storage.records import ReplayResult
from snn.options import CostName


@dataclass(frozen=True)
class Candidate:
    """One evaluated architecture; its measurements are None if the evaluation failed."""

    candidate_id: int
    generation: int
    architecture: str
    accuracy: float | None
    spikes: float | None
    synops: float | None
    energy: float | None
    fitness: float | None
    worker: str
    error: str


@dataclass(frozen=True)
class ChosenCandidate:
    """The candidate the search chose, with everything measured of it on D_val."""

    candidate_id: int
    generation: int
    architecture: str
    parents: tuple[int, ...]
    accuracy: float | None
    spikes: float | None
    fitness: float | None
    firing_rate: float | None
    num_samples: int
    spikes_per_layer: Mapping[str, float]
    firing_rate_per_layer: Mapping[str, float]
    error: str
    worker: str
    seconds: float
    synops: float | None
    energy: float | None
    num_parameters: int | None


@dataclass(frozen=True)
class FrontOf:
    """The Pareto front of accuracy and one cost, whatever the search itself saved.

    Attributes:
        cost: The cost, as in the settings.
        candidates: Ids of its members, by rising cost.
        in_common: How many of them are on the front of accuracy and spikes too.
        best: The architecture of highest fitness with this cost and the search's lambda; its front's last
            one if lambda is 0.
        best_accuracy: Its accuracy on D_val, in [0, 1].
        best_cost: What it costs per sample: spikes, synaptic operations or joules.
    """

    cost: CostName
    candidates: tuple[int, ...]
    in_common: int
    best: str
    best_accuracy: float
    best_cost: float


@dataclass(frozen=True)
class Part:
    """One part of the chosen network.

    Attributes:
        part: Its name in the backbone.
        block: What it is: the block of a searched layer, or the fixed operation.
        channels: Output channels; None for the head.
        spikes: Mean spikes per sample; 0 for a part that fires none.
        firing_rate: Spikes per neuron and time step; None for a part without spiking neurons.
    """

    part: str
    block: str
    channels: int | None
    spikes: float | None
    firing_rate: float | None


@dataclass(frozen=True)
class Course:
    """How the search ran; the fields are those of `SearchResult`."""

    engine: str
    num_known: int
    num_extras: int
    num_stopped: int
    samples_saved: float
    block_runs_saved: float | None
    evaluators_started: int
    busy_share: float


@dataclass(frozen=True)
class Generation:
    """Fitness within one generation and up to it; failed candidates are left out."""

    generation: int
    num_evaluations: int
    best_fitness: float | None
    mean_fitness: float | None
    best_so_far: float | None


@dataclass(frozen=True)
class Search:
    """Stage 2.

    Attributes:
        scoring: What candidates are scored with, as in the settings.
        algorithm: Name of the search algorithm.
        spike_exponent: The fitness' lambda.
        spikes_reference: The fitness' N_avg; None before it is measured.
        space_size: Architectures in the space.
        num_workers: Candidates evaluated at once.
        num_evaluations: Candidates evaluated so far, failed ones included.
        num_failed: Candidates whose evaluation failed.
        best: The chosen candidate; None while the search is unfinished.
        network: The parts of its network from input to output.
        cost: What the search saves, as in the settings.
        pareto_front: Ids of the candidates no other one beats, by rising cost.
        fronts: The fronts of all costs that were measured.
        course: How the search ran.
        probability_best: That the choice is the best of those scored, in [0, 1]; None if unknown.
        doubts: Why the scores cannot tell architectures apart; empty if they can.
        generations: Fitness of each generation.
        evaluations: The candidates evaluated so far; of more than 20,000 those that failed or are on a front,
            and of the others some at even distances. evaluations.parquet has all.
    """

    scoring: str
    algorithm: str
    spike_exponent: float
    spikes_reference: float | None
    space_size: int
    num_workers: int | None
    num_evaluations: int
    num_failed: int
    best: ChosenCandidate | None
    network: tuple[Part, ...]
    cost: CostName
    pareto_front: tuple[int, ...]
    fronts: tuple[FrontOf, ...]
    course: Course | None
    generations: tuple[Generation, ...]
    evaluations: tuple[Candidate, ...]
    probability_best: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """Whose weights candidates are scored with."""
        if self.scoring == "supernet":
            return "the super-network's weights"
        return "weights of its own from a short training"


@dataclass(frozen=True)
class ExactAnswers:
    """What follows from a table of the whole space.

    Attributes:
        num_failed: Evaluations that failed and are left out.
        num_dropped: Architectures that sequential elimination dropped; the answers leave them out.
        cost: What is saved, as in the settings.
        front_size: Architectures on the Pareto front.
        optima: The best architecture under each studied lambda.
        budgets: The run's budgets as text; empty if there are none.
        best_within: The most accurate architecture within the budgets; None if there is none.
        lambda_intervals: The best architecture under every lambda, from the most negative up to 0.
        effects: What each block in each layer costs and brings; None if too many failed.
    """

    num_failed: int
    num_dropped: int
    cost: CostName
    front_size: int
    optima: tuple[Optimum, ...]
    budgets: str
    best_within: Optimum | None
    lambda_intervals: tuple[LambdaInterval, ...]
    effects: Effects | None


@dataclass(frozen=True)
class Exact:
    """Exact answers, None unless the whole space is evaluated, and replays of searches on the table."""

    answers: ExactAnswers | None
    replay: tuple[ReplayResult, ...]
