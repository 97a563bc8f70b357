"""What a study of rank fidelity measures (fidelity.json)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Measure = Literal["accuracy", "spikes", "fitness"]


@dataclass(frozen=True)
class Score:
    """What a score says of an architecture; None where it says nothing.

    Attributes:
        accuracy: Accuracy on D_val in [0, 1], or whatever stands for it: higher is better.
        spikes: Mean spikes per sample.
        fitness: Spike-aware fitness.
    """

    accuracy: float | None
    spikes: float | None = None
    fitness: float | None = None


@dataclass(frozen=True)
class StudiedArchitecture:
    """An architecture of a study, scored and trained from scratch.

    Attributes:
        label: Why it is in the study: "random", "best" (the search's choice), or its name in the config.
        architecture: Its blocks as text.
        accuracies: Test accuracy in [0, 1], one a seed.
        spikes: Mean spikes per test sample, one a seed.
        fitness: Spike-aware fitness of the means over the seeds.
        scores: What each score says of it, by name.
    """

    label: str
    architecture: str
    accuracies: tuple[float, ...]
    spikes: tuple[float, ...]
    fitness: float
    scores: dict[str, Score]


@dataclass(frozen=True)
class Estimate:
    """A value with its 90 % bootstrap interval over the architectures."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RankAgreement:
    """How far a score orders the architectures as training from scratch does.

    Attributes:
        score: Name of the score.
        measure: What is ordered.
        tau: Kendall's tau-b; None if all values are equal.
        spearman: Spearman's rho, likewise.
    """

    score: str
    measure: Measure
    tau: Estimate | None
    spearman: Estimate | None


@dataclass(frozen=True)
class Choice:
    """The architecture that a score puts first, and what it costs to believe it.

    Attributes:
        score: Name of the score; "random" is the mean over all architectures.
        architecture: The one of highest fitness by the score; empty for "random".
        accuracy_regret: Highest retrained accuracy of the study minus this one's.
        fitness_regret: Highest retrained fitness of the study minus this one's.
    """

    score: str
    architecture: str
    accuracy_regret: float
    fitness_regret: float


@dataclass(frozen=True)
class Fidelity:
    """The study.

    Attributes:
        seeds: Seeds of the trainings.
        spike_exponent: lambda of the fitness.
        spikes_reference: N_avg of the fitness.
        architectures: What was studied.
        agreements: One for each score and measure.
        ceilings: The tau that a perfect score would have, as retraining seeds differ, by measure; None with
            one seed.
        choices: One for each score, and "random".
        training_samples: Samples that a search of the run's length trains on with each score.
    """

    seeds: tuple[int, ...]
    spike_exponent: float
    spikes_reference: float
    architectures: tuple[StudiedArchitecture, ...]
    agreements: tuple[RankAgreement, ...]
    ceilings: dict[str, float | None]
    choices: tuple[Choice, ...]
    training_samples: dict[str, int] = field(default_factory=dict)
