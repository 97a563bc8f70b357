"""What the stages measure: the records that the run folder stores and the report joins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from snn.energy import Energy
from snn.fitness import Evaluation, TimeCourse


@dataclass(frozen=True)
class DataSplit:
    """Facts about one split of the data.

    Attributes:
        fingerprint: Hash of the data set it was taken from.
        num_samples: Its number of samples.
        samples_per_class: Number of samples of each class, by name.
        notes: Remarks on the data, such as files that could not be read.
        events_per_sample: Min, median, mean and max of the events per sample; None for images.
    """

    fingerprint: str
    num_samples: int
    samples_per_class: dict[str, int]
    notes: tuple[str, ...]
    events_per_sample: dict[str, float] | None = None


@dataclass(frozen=True)
class Environment:
    """Where the numbers of a run come from (environment.json).

    Attributes:
        created: Time of the run's start, ISO 8601 in UTC.
        commit: Commit of the code; "unknown" outside a checkout.
        python: Version of Python.
        versions: Version of each package that results depend on.
        platform: Operating system and architecture.
        cpu: Model of the CPU.
        num_cpus: Logical CPUs; None if unknown.
        gpus: Names of the GPUs.
        data: The splits by name.
    """

    created: str
    commit: str
    python: str
    versions: dict[str, str]
    platform: str
    cpu: str
    num_cpus: int | None
    gpus: tuple[str, ...]
    data: dict[str, DataSplit]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a training, as drawn in the training curves.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss.
        train_accuracy: Share of training samples predicted right while training, in [0, 1].
        spikes: Mean spikes per training sample.
        seconds: Wall time of the epoch.
        val_accuracy: Accuracy on the held-out samples, where measured.
        val_spikes: Mean spikes per held-out sample, where measured.
        test_accuracy: Accuracy on the test set, where the paper's protocol asks for it.
        test_spikes: Mean spikes per test sample, likewise.
    """

    epoch: int
    loss: float
    train_accuracy: float
    spikes: float
    seconds: float
    val_accuracy: float | None = None
    val_spikes: float | None = None
    test_accuracy: float | None = None
    test_spikes: float | None = None


@dataclass(frozen=True)
class Cost:
    """What a stage or job used.

    Attributes:
        wall_seconds: From start to end, interruptions left out.
        cpu_seconds: CPU time of the processes that did the work.
        gpu_seconds: Wall seconds times the GPUs held.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            self.gpu_seconds + other.gpu_seconds,
        )


@dataclass(frozen=True)
class SupernetResult:
    """Stage 1 (supernet.json).

    Attributes:
        source: "trained" here, or the name of the imported checkpoint or of the run it was taken from.
        weights_sha256: Hash of supernet.safetensors.
        spikes_reference: The paper's N_avg, mean spikes per sample of uniformly drawn paths.
        num_train: Samples of D_train.
        num_val: Samples of D_val.
        num_parameters: Learnable parameters of the super-network.
        history: Training curve, empty for an imported checkpoint.
    """

    source: str
    weights_sha256: str
    spikes_reference: float
    num_train: int
    num_val: int
    num_parameters: int
    cost: Cost
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class Rung:
    """What a short training had reached at a measurement.

    Attributes:
        samples: Training samples seen, repeated ones counted.
        accuracy: Accuracy on D_val, in [0, 1].
        spikes: Mean spikes per sample of D_val.
        synops: Mean synaptic operations per sample, if counted.
        energy: Joules per sample with memory, likewise.
        num_parameters: Learnable parameters of the candidate, if counted.
    """

    samples: int
    accuracy: float
    spikes: float
    synops: float | None = None
    energy: float | None = None
    num_parameters: int | None = None


@dataclass(frozen=True)
class EvaluationRow:
    """A candidate with its measurement; one row of evaluations.parquet.

    Attributes:
        candidate_id: Number of the candidate, in the order the search asked for them.
        generation: Generation it belongs to, from 0.
        architecture: Its blocks as text.
        parents: Candidate ids it was bred from; empty for a random one.
        evaluation: Measurement on D_val; None if it failed. If racing stopped it, fewer samples than D_val.
        rungs: Measurements of its short training, the last of which is `evaluation`; fewer than others have
            if it was dropped. Empty if the super-network scored it.
        fitness: Spike-aware fitness; None if the evaluation failed.
        error: Why it failed; empty if it did not.
        worker: Name of the process that evaluated it.
        seconds: Wall seconds of the evaluation in that process.
    """

    candidate_id: int
    generation: int
    architecture: str
    parents: tuple[int, ...]
    evaluation: Evaluation | None = None
    fitness: float | None = None
    error: str = ""
    worker: str = ""
    seconds: float = 0.0
    rungs: tuple[Rung, ...] = ()


@dataclass(frozen=True, eq=False)
class Shard:
    """A candidate measured on one part of D_val, as sequential elimination does.

    Attributes:
        row: The candidate with its measurement on that part alone.
        look: Index of the part, from 0.
        correct: Whether each sample of the part is classified correctly, bool [n].
        cost: What each sample costs, int64 [n].
    """

    row: EvaluationRow
    look: int
    correct: NDArray[np.bool_]
    cost: NDArray[np.int64]


def complete_rows(rows: Iterable[EvaluationRow]) -> list[EvaluationRow]:
    """The rows with a measurement, less those that racing or successive halving gave up early."""
    measured = [(row, (len(row.rungs), row.evaluation.num_samples)) for row in rows if row.evaluation]
    most = max((effort for _, effort in measured), default=(0, 0))
    return [row for row, effort in measured if effort == most]


@dataclass(frozen=True)
class SearchResult:
    """Stage 2 (best.json): the chosen candidate and how the search went.

    Attributes:
        best: The candidate of highest fitness; of equal ones the first.
        algorithm: Name of the search algorithm.
        spike_exponent: The fitness' lambda.
        spikes_reference: The fitness' N_avg.
        num_evaluations: Candidates evaluated, failed ones included.
        num_failed: Candidates whose evaluation failed.
        space_size: Architectures in the space.
        num_workers: Trial actors at once; where nodes come on demand, as many as there were.
        engine: How candidates were evaluated.
        num_known: Candidates answered from an earlier attempt, the cache or an extra evaluation.
        num_extras: Architectures evaluated besides, in slots that would have been idle.
        num_stopped: Candidates that racing or successive halving gave up.
        samples_saved: Share of the candidates' samples that racing saved, in [0, 1].
        block_runs: Evaluations of a block on a sample that the trials took, common first blocks of a trial's
            candidates counted once; 0 if unknown.
        block_runs_saved: Share of block evaluations that sequential elimination saved, in [0, 1]; None
            without it.
        evaluators_started: Evaluator processes started.
        busy_share: Share of the workers' time spent evaluating, in [0, 1].
        probability_best: That the choice is the best of those scored, in [0, 1]; `pipeline.analysis.trust`.
        doubts: Why the scores cannot tell architectures apart; empty if they can.
    """

    best: EvaluationRow
    algorithm: str
    spike_exponent: float
    spikes_reference: float
    num_evaluations: int
    num_failed: int
    space_size: int
    num_workers: int
    cost: Cost
    engine: str = "dense"
    num_known: int = 0
    num_extras: int = 0
    num_stopped: int = 0
    samples_saved: float = 0.0
    block_runs: int = 0
    block_runs_saved: float | None = None
    evaluators_started: int = 0
    busy_share: float = 0.0
    probability_best: float | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finalist:
    """A candidate that was trained shortly.

    Attributes:
        architecture: Its blocks as text.
        score: Fitness by the search.
        val_accuracy: Accuracy on held-out samples after the short training, in [0, 1].
        val_spikes: Mean spikes per held-out sample.
        fitness: Fitness of these.
    """

    architecture: str
    score: float
    val_accuracy: float
    val_spikes: float
    fitness: float


@dataclass(frozen=True)
class Finalists:
    """The first candidates of a search after a short training (finalists.json).

    Attributes:
        epochs: Length of the training.
        rows: The finalists, by falling score.
        chosen: The architecture of highest fitness among them, which is retrained as "best".
    """

    epochs: int
    rows: tuple[Finalist, ...]
    chosen: str


@dataclass(frozen=True, eq=False)
class EventExamples:
    """One training sample of each class, for the report to draw (event_examples.npz).

    Attributes:
        samples: [K, T, 2, H, W] uint8 counts of events, OFF before ON.
        class_names: Names of the K classes.
    """

    samples: NDArray[np.uint8]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class PaperProtocol:
    """The paper's way of reporting: the best epoch on the test set, which is optimistic."""

    epoch: int
    accuracy: float
    spikes: float


@dataclass(frozen=True)
class RetrainResult:
    """One network of stage 3 (retrained/<n>/metrics.json).

    Attributes:
        label: What it was chosen as: "best", or the name or text given in the config.
        architecture: Its blocks as text.
        seed: Seed of its training.
        num_parameters: Learnable parameters.
        num_train: Training samples.
        num_val: Samples held out to choose the epoch.
        chosen_epoch: Epoch of the highest held-out accuracy.
        val_accuracy: That accuracy, in [0, 1].
        test: Evaluation of the chosen epoch on the test set, done once.
        energy_joules: Estimated energy of one inference, of its operations alone.
        paper_protocol: The best test epoch, where measured.
        history: Training curve.
        time_course: Accuracy and spikes over the time steps on the held-out samples, where measured.
        energy: Energy with memory, and of the same architecture without spikes, where measured; on the
            held-out samples.
        weights_sha256: Hash of weights.safetensors beside it.
    """

    label: str
    architecture: str
    seed: int
    num_parameters: int
    num_train: int
    num_val: int
    chosen_epoch: int
    val_accuracy: float
    test: Evaluation
    energy_joules: float
    paper_protocol: PaperProtocol | None
    cost: Cost
    history: tuple[EpochRecord, ...] = ()
    time_course: TimeCourse | None = None
    energy: Energy | None = None
    weights_sha256: str = ""


@dataclass(frozen=True)
class ReplayResult:
    """How an algorithm fares on a finished table, over several seeds (replay.json).

    Regret is the fitness of the table's optimum minus the best fitness found. Quartiles are lower quartile,
    median and upper quartile, each the value of one seed.

    Attributes:
        algorithm: Name of the search algorithm.
        num_seeds: Searches, one a seed.
        budget: Evaluations of each search.
        optimum_fitness: Highest fitness of the table (of those that keep the spike budget).
        regrets: Regret at the end, of each seed.
        relative_regrets: The same as a share of the optimum's fitness.
        regret_quartiles: Quartiles of `regrets`.
        found_share: Share of the seeds that found the optimum, in [0, 1].
        evaluations_to_optimum: Evaluations up to the optimum, of each seed; None if it was not found.
        evaluations_quartiles: Quartiles of them, not found being more than any number; None if not found.
        curve_evaluations: Numbers of evaluations at which the mean regret is given.
        mean_regret: Mean regret over the seeds at each of `curve_evaluations`.
    """

    algorithm: str
    num_seeds: int
    budget: int
    optimum_fitness: float
    regrets: tuple[float, ...]
    relative_regrets: tuple[float, ...]
    regret_quartiles: tuple[float, float, float]
    found_share: float
    evaluations_to_optimum: tuple[int | None, ...]
    evaluations_quartiles: tuple[int | None, int | None, int | None]
    curve_evaluations: tuple[int, ...]
    mean_regret: tuple[float, ...]
