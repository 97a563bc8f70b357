"""The joined report: everything report.json holds, in the order it holds it.

Accuracies, firing rates and shares lie in [0, 1]; spikes, SynOps and energies are per sample. What is missing
or not finite is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.analysis.ways import Way
from pipeline.report.contents_search import Exact, Search
from pipeline.storage.cluster_records import ClusterSample, NodeTime
from pipeline.storage.fidelity_records import Fidelity
from pipeline.storage.records import (
    Cost,
    DataSplit,
    Environment,
    EpochRecord,
    Finalists,
    PaperProtocol,
    SupernetResult,
)
from snn.energy import Energy
from snn.fitness import TimeCourse


@dataclass(frozen=True)
class Stage:
    """Whether a stage is finished and, if not, what is missing and which command adds it.

    `needed` is False for a stage that runs of these settings go without.
    """

    done: bool
    missing: str
    needed: bool = True


@dataclass(frozen=True)
class Stages:
    """The three stages of a run."""

    supernet: Stage
    search: Stage
    retrain: Stage


@dataclass(frozen=True)
class RetrainedNetwork:
    """One network of stage 3; `source` is the file it was read from, `label` what it was chosen as."""

    number: int
    source: str
    label: str
    architecture: str
    seed: int
    test_accuracy: float | None
    spikes: float | None
    firing_rate: float | None
    synops: float | None
    energy_joules: float | None
    num_test: int
    num_train: int
    num_val: int
    num_parameters: int
    chosen_epoch: int
    val_accuracy: float | None
    paper_protocol: PaperProtocol | None
    cost: Cost
    history: tuple[EpochRecord, ...]
    time_course: TimeCourse | None
    energy: Energy | None


@dataclass(frozen=True)
class Spread:
    """Mean, minimum and maximum over the seeds of an architecture."""

    mean: float
    min: float
    max: float


@dataclass(frozen=True)
class Comparison:
    """An architecture of stage 3 over its seeds; a spread is None if nothing was measured; `energy`: mean."""

    label: str
    architecture: str
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    chosen_epochs: tuple[int, ...]
    num_parameters: int
    test_accuracy: Spread | None
    spikes: Spread | None
    firing_rate: Spread | None
    synops: Spread | None
    energy_joules: Spread | None
    val_accuracy: Spread | None
    paper_accuracy: Spread | None
    paper_spikes: Spread | None
    energy: Energy | None


@dataclass(frozen=True)
class Costs:
    """Cost of each finished stage, their sum, the pace of the search, and what other ways would cost."""

    supernet: Cost | None
    search: Cost | None
    retrain: Cost | None
    total: Cost
    evaluations_per_hour: float | None
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    Attributes:
        commit: Commit of the code.
        seed: Seed of split, super-network and search.
        retrain_seeds: Seeds of the retraining.
        data: The splits of the data; None if environment.json is missing.
        weights_sha256: Hash of the super-network's weights.
        config: All settings as JSON values.
        environment: The whole of environment.json; None if it is missing.
        files: Path within the run folder and SHA-256 of each file that was joined.
    """

    commit: str | None
    seed: int
    retrain_seeds: tuple[int, ...]
    data: dict[str, DataSplit] | None
    weights_sha256: str | None
    config: dict[str, Any]
    environment: Environment | None
    files: dict[str, str]


@dataclass(frozen=True)
class EventSplit:
    """Facts about one split of event data; `events_per_sample` has min, median, mean and max."""

    num_samples: int | None
    events_per_sample: dict[str, float] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Events:
    """The event data, and whether a note says that they are simulated."""

    simulated: bool
    splits: dict[str, EventSplit]

    def splits_by_note(self) -> dict[str, list[str]]:
        """The text of each note, with the names of the splits that have it."""
        names: dict[str, list[str]] = {}
        for name, split in self.splits.items():
            for note in split.notes:
                names.setdefault(note, []).append(name)
        return names


@dataclass(frozen=True)
class Report:
    """All that the stages of a run left.

    `events` is None if the data are images; `cluster` is empty if the run used one machine alone,
    `fidelity` is None without a study, `finalists` if there were none.
    """

    run: str
    config_name: str
    stages: Stages
    supernet: SupernetResult | None
    search: Search
    exact: Exact | None
    retrained: tuple[RetrainedNetwork, ...]
    comparison: tuple[Comparison, ...]
    cost: Costs
    provenance: Provenance
    events: Events | None
    cluster: tuple[ClusterSample, ...] = ()
    ledger: tuple[NodeTime, ...] = ()
    fidelity: Fidelity | None = None
    finalists: Finalists | None = None

    @property
    def unit(self) -> str:
        """What a sample is called in "spikes per ..."."""
        return "sample" if self.events else "image"
