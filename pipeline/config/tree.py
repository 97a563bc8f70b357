"""A run's settings: one tree of dataclasses that check their values when they are created."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.config.identity import NO_IDENTITY
from pipeline.config.search import SearchConfig, check_exhaustive
from pipeline.json_values import from_json, to_json
from snn.datasets import DATASETS, Dataset, DatasetName, EventDataset, look_up_dataset
from snn.options import EventValues, FrameOptions, NeuronName, Schedule, at_least
from snn.search_space import (
    AUTOSNN_BLOCKS,
    Architecture,
    Backbone,
    BackboneName,
    SearchSpace,
    StemName,
    check_block,
    make_backbone,
)


@dataclass(frozen=True)
class SamplesConfig:
    """Which samples a run uses and how training samples are augmented."""

    dataset: DatasetName = "cifar10"
    """Data set; `digits` ships with scikit-learn, `digits_events` is simulated from it, the others are read
    below `root`; `recordings` is a folder SPLIT/CLASS/FILE of event-camera recordings."""
    root: Path = field(default=Path("data"), metadata=NO_IDENTITY)
    """Folder of the data sets; not part of a run's identity."""
    download: bool = field(default=False, metadata=NO_IDENTITY)
    """Download a missing data set through torchvision or tonic; not part of a run's identity."""
    train_fraction: float = 0.8
    """Share of the training set that trains the super-network (D_train); the rest is D_val."""
    max_train_samples: int | None = None
    """Use at most this many training samples (before the split into D_train and D_val), classes balanced."""
    max_test_samples: int | None = None
    """Use at most this many test samples, classes balanced."""
    flip: bool = True
    """Mirror training images at random; off where a mirror image belongs to another class or to none."""
    crop_padding: int = 4
    """Largest shift of a training sample in pixels (random crop after zero padding)."""
    cutout: int = 0
    """Side in pixels of the square blanked at random in training samples; 0 is off."""
    event_drop: float = 0.0
    """Events only: the largest share of events dropped at random from a training sample."""
    event_values: EventValues = "count"
    """Events only: the network sees counts, or counts divided by the sample's mean count."""
    sensor_size: tuple[int, int] | None = None
    """`recordings` only: width and height of the sensor in pixels; None takes what the events reach."""


@dataclass(frozen=True)
class DataConfig(FrameOptions, SamplesConfig):
    """The samples that are trained, validated and tested on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        look_up_dataset(self.dataset, Dataset)  # raises if there is none of this name
        if not 0 < self.train_fraction < 1:
            raise ValueError(
                f"data.train_fraction must lie between 0 and 1 (both excluded), got {self.train_fraction}."
            )
        at_least("data", 0, crop_padding=self.crop_padding, cutout=self.cutout)
        if not 0 <= self.event_drop < 1:
            raise ValueError(f"data.event_drop must be in [0, 1), got {self.event_drop}.")
        at_least("data", 2, max_train_samples=self.max_train_samples, max_test_samples=self.max_test_samples)

    @property
    def is_events(self) -> bool:
        """Whether the samples are event frames [T, 2, H, W] rather than images [C, H, W]."""
        return isinstance(DATASETS[self.dataset], EventDataset)


@dataclass(frozen=True)
class NetworkConfig:
    """The backbone, its neurons and the search space."""

    backbone: BackboneName = "AutoSNN"
    """Macro-architecture of the paper: AutoSNN is its SNN_1."""
    channels: int = 16
    """C, channels of the stem."""
    stem: StemName | Literal["auto"] = "auto"
    """How the input is brought to 32x32; `auto` chooses by the input's size."""
    blocks: tuple[str, ...] = AUTOSNN_BLOCKS
    """Candidate blocks of each searched layer."""
    neuron: NeuronName = "PLIF"
    """Spiking neuron model."""
    v_threshold: float = 1.0
    """Membrane potential at which a neuron fires."""
    init_tau: float = 2.0
    """Initial membrane time constant of LIF and PLIF, in time steps."""
    time_steps: int = 8
    """T, number of time steps."""

    def __post_init__(self) -> None:
        at_least("network", 1, channels=self.channels, time_steps=self.time_steps)
        if not self.init_tau > 1:
            raise ValueError(f"network.init_tau must be above 1, got {self.init_tau}.")
        if not self.v_threshold > 0:
            raise ValueError(f"network.v_threshold must be above 0, got {self.v_threshold}.")
        for block in self.blocks:
            check_block(block)
        self.search_space()  # raises if the blocks form no space

    def make_backbone(self, stem: StemName) -> Backbone:
        """The macro-architecture these settings describe."""
        return make_backbone(self.backbone, channels=self.channels, stem=stem)

    def search_space(self) -> SearchSpace:
        """All architectures these settings allow."""
        return SearchSpace(len(self.make_backbone("image").layers), self.blocks)

    def parse_architecture(self, text: str) -> Architecture:
        """Reads an architecture of this backbone from its text or a reference architecture's name."""
        return Architecture.parse(text, len(self.make_backbone("image").layers))


@dataclass(frozen=True)
class SupernetConfig:
    """Stage 1: training the weight-sharing super-network."""

    epochs: int = 600
    """Passes over D_train."""
    batch_size: int = 96
    """Samples per step; each step trains one random path."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    checkpoint_every: int = 10
    """Epochs between checkpoints, from which an interrupted training resumes."""

    def __post_init__(self) -> None:
        at_least(
            "supernet",
            1,
            epochs=self.epochs,
            batch_size=self.batch_size,
            checkpoint_every=self.checkpoint_every,
        )
        if not self.learning_rate > 0:
            raise ValueError(f"supernet.learning_rate must be above 0, got {self.learning_rate}.")


@dataclass(frozen=True)
class RetrainConfig:
    """Stage 3: training the chosen architectures from scratch."""

    architectures: tuple[str, ...] = ("best", "autosnn")
    """Architectures to retrain: `best`, the search's choice, or names or texts of architectures."""
    seeds: tuple[int, ...] = (0,)
    """One training per architecture and seed."""
    epochs: int = 600
    """Passes over the training set."""
    batch_size: int = 96
    """Samples per step."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    learning_rate_schedule: Schedule = "constant"
    """Schedule of the learning rate: `constant` as in the paper, or `cosine` decay to zero."""
    val_fraction: float = 0.1
    """Share of the training set held out to choose the epoch that is tested."""
    eval_every: int = 1
    """Epochs between measurements on the held-out samples; the last epoch is always measured."""
    checkpoint_every: int = 10
    """Epochs between checkpoints, from which an interrupted training resumes."""
    paper_protocol: bool = True
    """Also measure the test set at each evaluation and report its best epoch, as the paper does, labelled."""

    def __post_init__(self) -> None:
        at_least(
            "retrain",
            1,
            epochs=self.epochs,
            batch_size=self.batch_size,
            eval_every=self.eval_every,
            checkpoint_every=self.checkpoint_every,
        )
        if not self.learning_rate > 0:
            raise ValueError(f"retrain.learning_rate must be above 0, got {self.learning_rate}.")
        if not 0 < self.val_fraction < 1:
            raise ValueError(
                f"retrain.val_fraction must lie between 0 and 1 (both excluded), got {self.val_fraction}."
            )
        if not self.architectures or not self.seeds:
            raise ValueError("retrain.architectures and retrain.seeds need at least one entry each.")


@dataclass(frozen=True)
class RayConfig:
    """Where the work runs. Results do not depend on it, so it is not part of a run's identity."""

    address: str | None = None
    """Cluster to join (`auto`, or ray://...); None starts Ray on this machine and stops it at the end."""
    num_workers: int | None = None
    """Trial actors that evaluate in parallel; None uses as many as the cluster's CPUs (or GPUs) allow."""
    gpus_per_worker: float | None = None
    """GPUs per worker, fractions allowed; None uses 1 if the cluster has GPUs, otherwise 0."""
    evaluation_timeout: float = 600.0
    """Seconds an evaluation may take; after that its process is considered hung and replaced."""
    dashboard: bool = False
    """Start Ray's dashboard too, if Ray is started on this machine."""

    def __post_init__(self) -> None:
        at_least("ray", 1, num_workers=self.num_workers)
        at_least("ray", 0, gpus_per_worker=self.gpus_per_worker)
        at_least("ray", 1, evaluation_timeout=self.evaluation_timeout)


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    name: str = "cifar10"
    """Name of the config that these settings started from."""
    seed: int = 0
    """Seed of the splits, the super-network's training and the search."""
    threads_per_worker: int = 1
    """CPU threads (and CPUs) per worker; part of a run's identity, as rounding depends on it."""
    training_threads: int = 2
    """CPU threads (and CPUs) of the super-network's training."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    supernet: SupernetConfig = field(default_factory=SupernetConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    ray: RayConfig = field(default_factory=RayConfig, metadata=NO_IDENTITY)

    def __post_init__(self) -> None:
        at_least(
            "config", 1, threads_per_worker=self.threads_per_worker, training_threads=self.training_threads
        )
        if self.search.algorithm == "exhaustive":
            check_exhaustive(self.network.search_space(), self.search)
        for text in self.retrain.architectures:
            if text != "best":
                self.network.parse_architecture(text)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, one nested object a section."""
        values: dict[str, Any] = to_json(self)
        return values

    def here(
        self,
        data_root: Path | None = None,
        ray_address: str | None = None,
        ray_num_workers: int | None = None,
    ) -> Config:
        """The same run on this machine: its data folder and cluster, where they are not the settings' own.

        The data folder becomes an absolute path, since workers may have another working directory.
        """
        ray = dataclasses.replace(
            self.ray,
            address=ray_address or self.ray.address,
            num_workers=ray_num_workers or self.ray.num_workers,
        )
        data = dataclasses.replace(self.data, root=(data_root or self.data.root).resolve())
        return dataclasses.replace(self, data=data, ray=ray)

    def identity(self) -> dict[str, Any]:
        """The settings that results depend on, as `section.field` -> JSON value."""
        return _identity(self, "")


def config_from_json(values: dict[str, Any]) -> Config:
    """Rebuilds a Config from `Config.to_json`.

    Raises:
        ValueError: Settings that this version does not know, or values of another type or out of range.
    """
    return from_json(values, Config)


def list_differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """One line for each setting that differs between two identities; empty if none does."""
    return "\n".join(
        f"  {key}: {there.get(key)} there, {value} asked for"
        for key, value in asked.items()
        if there.get(key) != value
    )


def _identity(section: Any, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in dataclasses.fields(section):
        value = getattr(section, setting.name)
        if NO_IDENTITY.items() <= setting.metadata.items():
            continue
        if dataclasses.is_dataclass(value):
            values |= _identity(value, f"{prefix}{setting.name}.")
        else:
            values[prefix + setting.name] = to_json(value)
    return values
