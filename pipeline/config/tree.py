"""A run's settings: one tree of dataclasses that check their values when they are created."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.config.budget import BudgetConfig
from pipeline.config.search import SearchConfig, check_exhaustive
from pipeline.config.training import RetrainConfig, Seed, Share, SupernetConfig, TrainingConfig, check_workers
from pipeline.identity import NO_IDENTITY, added, identity_of, with_added
from snn.datasets import DATASETS, Dataset, DatasetName, EventDataset, look_up_dataset
from snn.json_values import field_names, from_json, to_json
from snn.options import (
    PIXELS,
    POSITIVE_FLOAT32,
    TIME_STEPS,
    EventValues,
    FrameOptions,
    MomentsName,
    NeuronName,
    Range,
    Text,
    check_settings,
)
from snn.search_space import (
    AUTOSNN_BLOCKS,
    Architecture,
    Backbone,
    BackboneName,
    SearchSpace,
    StemName,
    make_backbone,
)

Threads = Annotated[int, Range(1, 4096)]
Side = Annotated[int, Range(1, 32_768)]
NumSamples = Annotated[int, Range(2, 1_000_000_000)]


@dataclass(frozen=True)
class SamplesConfig:
    """Which samples a run uses and how training samples are augmented."""

    dataset: Annotated[DatasetName, Text(100)] = "cifar10"
    """Data set; `digits` ships with scikit-learn, `digits_events` is simulated from it, the others are read
    below `root`; `images` and `recordings` are folders SPLIT/CLASS/FILE of your own images, or recordings of
    an event camera."""
    root: Path = field(default=Path("data"), metadata=NO_IDENTITY)
    """Folder of the data sets; not part of a run's identity."""
    download: bool = field(default=False, metadata=NO_IDENTITY)
    """Download a missing data set through torchvision or tonic; not part of a run's identity."""
    image_size: Annotated[int, Range(8, 1024)] = field(default=32, metadata=added(32))
    """`images` only: side in pixels to which your images are resized and centre-cropped."""
    test_fraction: Share | None = field(default=None, metadata=added(None))
    """`images` only: share of each class that is for testing, if your images have no folder test or val."""
    train_fraction: Share = 0.8
    """Share of the training set that trains the super-network (D_train); the rest is D_val."""
    max_train_samples: NumSamples | None = None
    """Use at most this many training samples (before the split into D_train and D_val), classes balanced."""
    max_test_samples: NumSamples | None = None
    """Use at most this many test samples, classes balanced."""
    flip: bool = True
    """Mirror training images at random; off where a mirror image belongs to another class or to none."""
    crop_padding: Annotated[int, Range(0, 1024)] = 4
    """Largest shift of a training sample in pixels (random crop after zero padding)."""
    cutout: Annotated[int, PIXELS] = 0
    """Side in pixels of the square blanked at random in training samples; 0 is off."""
    event_drop: Annotated[float, Range(0.0, 1.0, high_excluded=True)] = 0.0
    """Events only: the largest share of events dropped at random from a training sample."""
    event_values: EventValues = "count"
    """Events only: the network sees counts, or counts divided by the sample's mean count."""
    split_windows: bool = False
    """Events only: split each recording in time, with one window left out between the sides, instead of
    keeping its windows together; one recording per class is enough then."""
    sensor_size: tuple[Side, Side] | None = None
    """`recordings` only: width and height of the sensor in pixels; None measures it without outliers."""


@dataclass(frozen=True)
class DataConfig(FrameOptions, SamplesConfig):
    """The samples that are trained, validated and tested on."""

    def __post_init__(self) -> None:
        look_up_dataset(self.dataset, Dataset)  # raises if there is none of this name
        super().__post_init__()
        if self.split_windows and not self.is_events:
            raise ValueError(
                f"data.split_windows splits event recordings in time, but data.dataset '{self.dataset}' has "
                "images: leave it out."
            )
        if "\0" in str(self.root):
            raise ValueError(
                f"data.root must be a path, which holds no NUL character, got {str(self.root)!r}."
            )

    @property
    def is_events(self) -> bool:
        """Whether the samples are event frames [T, 2, H, W] rather than images [C, H, W]."""
        return isinstance(DATASETS[self.dataset], EventDataset)


@dataclass(frozen=True)
class NetworkConfig:
    """The backbone, its neurons and the search space."""

    backbone: BackboneName = "AutoSNN"
    """Macro-architecture of the paper: AutoSNN is its SNN_1."""
    channels: Annotated[int, Range(1, 1024)] = 16
    """C, channels of the stem."""
    stem: StemName | Literal["auto"] = "auto"
    """How the input is brought to 32x32; `auto` chooses by the input's size."""
    blocks: tuple[str, ...] = AUTOSNN_BLOCKS
    """Candidate blocks of each searched layer."""
    neuron: NeuronName = "PLIF"
    """Spiking neuron model; ReLU makes the paper's ANN, usually with one time step."""
    v_threshold: Annotated[float, POSITIVE_FLOAT32] = 1.0
    """Membrane potential at which a neuron fires."""
    init_tau: Annotated[float, Range(1.0, 1e6, low_excluded=True)] = 2.0
    """Initial membrane time constant of LIF and PLIF, in time steps."""
    time_steps: Annotated[int, TIME_STEPS] = 8
    """T, number of time steps."""
    moments: MomentsName = field(default="sequence", metadata=added("sequence"))
    """Over what batch norm takes its moments in training: `sequence`, over all time steps together;
    `time_step`, at each time step by itself, as the official code does."""

    def __post_init__(self) -> None:
        check_settings("network", self)
        try:
            self.search_space()
        except ValueError as error:
            raise ValueError(f"network.blocks: {error}") from error

    def make_backbone(self, stem: StemName) -> Backbone:
        """The macro-architecture these settings describe."""
        return make_backbone(self.backbone, channels=self.channels, stem=stem)

    def search_space(self) -> SearchSpace:
        """All architectures these settings allow."""
        backbone = self.make_backbone("image")
        return SearchSpace(len(backbone.layers), self.blocks, cuts=backbone.cuts)

    def parse_architecture(self, text: str) -> Architecture:
        """Reads an architecture of this backbone from its text or a reference architecture's name."""
        return Architecture.parse(text, len(self.make_backbone("image").layers))


@dataclass(frozen=True)
class RayConfig:
    """Where the work runs; not part of a run's identity. GPUs change the engine, and so the rounding."""

    address: Annotated[str, Text(255)] | None = None
    """Cluster to join (`auto`, or ray://...); None starts Ray on this machine and stops it at the end."""
    num_workers: Annotated[int, Range(1, 100_000)] | None = None
    """Trial actors that evaluate in parallel, neither more nor fewer; None lets the search decide."""
    gpus_per_worker: Annotated[float, Range(0.0, 1024.0)] | None = None
    """GPUs per worker, fractions allowed; None uses 1 if the cluster has GPUs, otherwise 0."""
    evaluation_timeout: Annotated[float, Range(1.0, 1e6)] | None = None
    """Seconds the scoring of a candidate may take; after that its process is considered hung and replaced.
    None allows 10 minutes, and 3 hours where candidates are trained."""
    dashboard: bool = False
    """Start Ray's dashboard too, if Ray is started on this machine."""

    def __post_init__(self) -> None:
        check_settings("ray", self)
        gpus = self.gpus_per_worker or 0
        if 0 < gpus < 0.0001 or (gpus > 1 and not float(gpus).is_integer()):
            raise ValueError(
                "ray.gpus_per_worker must be a whole number of GPUs or a fraction of one, at least 0.0001, "
                f"got {gpus}."
            )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    name: Annotated[str, Text(100)] = "cifar10"
    """Name of the config that these settings started from."""
    seed: Seed = 0
    """Seed of the splits, the super-network's training and the search."""
    threads_per_worker: Threads = 1
    """CPU threads (and CPUs) per worker; part of a run's identity, as rounding depends on it."""
    training_threads: Threads = 2
    """CPU threads (and CPUs) of the super-network's training."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    supernet: SupernetConfig = field(default_factory=SupernetConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    training: TrainingConfig = field(
        default_factory=TrainingConfig, metadata={**NO_IDENTITY, **added(TrainingConfig())}
    )
    ray: RayConfig = field(default_factory=RayConfig, metadata=NO_IDENTITY)
    budget: BudgetConfig = field(
        default_factory=BudgetConfig, metadata={**NO_IDENTITY, **added(BudgetConfig())}
    )

    def __post_init__(self) -> None:
        check_settings("", self)
        if self.search.algorithm == "exhaustive":
            check_exhaustive(self.network.search_space(), self.search)
        self._check_architectures()
        check_workers(self.training, self.supernet, self.retrain)

    @property
    def seconds_per_candidate(self) -> float:
        """How long the scoring of a candidate may take."""
        return self.ray.evaluation_timeout or (600.0 if self.search.needs_supernet else 10_800.0)

    def _check_architectures(self) -> None:
        texts: dict[Architecture, str] = {}
        for text in self.retrain.architectures:
            if text == "best":
                continue
            try:
                architecture = self.network.parse_architecture(text)
            except ValueError as error:
                raise ValueError(f"retrain.architectures: {error}") from error
            if (other := texts.setdefault(architecture, text)) != text:
                raise ValueError(
                    "retrain.architectures must be different from each other, got two texts of one "
                    f"architecture: {other!r:.60}, {text!r:.60}."
                )

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, one nested object a section."""
        values: dict[str, Any] = to_json(self)
        return values

    def here(
        self,
        data_root: Path | None = None,
        ray_address: str | None = None,
        ray_num_workers: int | None = None,
        max_hours: float | None = None,
        max_dollars: float | None = None,
        training_workers: tuple[int, ...] | None = None,
    ) -> Config:
        """The same run on this machine: data folder, cluster, workers, budget, where not the settings' own.

        The data folder becomes an absolute path, since workers may have another working directory.
        """
        ray = dataclasses.replace(
            self.ray,
            address=self.ray.address if ray_address is None else ray_address,
            num_workers=self.ray.num_workers if ray_num_workers is None else ray_num_workers,
        )
        data = dataclasses.replace(self.data, root=(data_root or self.data.root).resolve())
        budget = dataclasses.replace(
            self.budget,
            max_hours=self.budget.max_hours if max_hours is None else max_hours,
            max_dollars=self.budget.max_dollars if max_dollars is None else max_dollars,
        )
        training = dataclasses.replace(
            self.training,
            workers=self.training.workers if training_workers is None else training_workers,
        )
        return dataclasses.replace(self, data=data, ray=ray, budget=budget, training=training)

    def identity(self) -> dict[str, Any]:
        """The settings that results depend on, as `section.field` -> JSON value."""
        return identity_of(self)


def config_from_json(values: dict[str, Any]) -> Config:
    """Rebuilds a Config from `Config.to_json`.

    Raises:
        ValueError: Settings that this version does not know, or values of another type or out of range.
    """
    return from_json(values, Config)


def written_config(values: Mapping[str, Any]) -> Config:
    """Rebuilds the Config of a run folder, of this version or an earlier one.

    Raises:
        ValueError: As for `config_from_json`, or settings are missing that were not added since.
    """
    completed = with_added(values, Config)
    config = config_from_json(completed)
    if missing := field_names(config.to_json()) - field_names(completed):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    return config


def list_differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """One line for each setting that differs between two identities; empty if none does."""
    return "\n".join(
        f"  {key}: {there.get(key, 'unset')} there, {asked.get(key, 'unset')} asked for"
        for key in {**asked, **there}
        if there.get(key) != asked.get(key)
    )
