"""The samples of a run: data set, splits, and the conversion of samples into a network's input."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.tree import Config, DataConfig
from pipeline.config.variables import STAGED_DATA
from pipeline.storage.records import EventExamples
from snn.data.camera.frames import augment_frames, to_network_input
from snn.data.camera.load import load_events
from snn.data.images import augment_images, load_images, normalise_images
from snn.data.sample_set import SampleSet
from snn.data.samples import LabelledSamples
from snn.data.splits import UnsplittableClass, balanced_subset, split_in_time, stratified_split
from snn.datasets import EventDataset, ImageDataset, Split, look_up_dataset
from snn.options import FrameOptions, FrameSettings

Indices = NDArray[np.int64]

_MEASURED_IMAGES = 10_000  # for mean and standard deviation


@dataclass(frozen=True)
class RunData:
    """Training and test set of a run and their splits; the same on every node.

    Attributes:
        config: The run's settings.
        train: The data set's training samples.
        test: The data set's test samples.
    """

    config: Config
    train: LabelledSamples
    test: LabelledSamples

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image or of an event frame."""
        channels, height, width = self.train.samples.shape[-3:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return self.train.num_classes

    def supernet_train(self) -> SampleSet:
        """D_train: the samples that train the super-network."""
        return self._train_set(self._supernet_split[0])

    def val(self) -> SampleSet:
        """All of D_val."""
        return self._train_set(self._supernet_split[1])

    def search_val(self) -> SampleSet:
        """The part of D_val on which candidates are scored."""
        indices = self._supernet_split[1]
        size = self.config.search.max_val_samples
        chosen = balanced_subset(
            self.train.labels[indices],
            size=size,
            seed=self.config.seed,
            groups=self.train.groups[indices],
        )
        return self._train_set(indices[chosen])

    def calibration_inputs(self, number: int) -> Tensor | None:
        """The first inputs of D_train without augmentation, to measure statistics on; None for none."""
        if not number:
            return None
        samples = self.supernet_train()
        return samples.batch(samples.indices[:number], torch.device("cpu"))[0]

    def retrain_train(self) -> SampleSet:
        """The used training samples without those held out to choose an epoch."""
        return self._train_set(self._retrain_split[0])

    def retrain_val(self) -> SampleSet:
        """Samples held out of retraining to choose the epoch."""
        return self._train_set(self._retrain_split[1])

    def test_set(self) -> SampleSet:
        """Test samples, for the final accuracy only."""
        size = self.config.data.max_test_samples
        indices = balanced_subset(self.test.labels, size=size, seed=self.config.seed)
        return SampleSet(self.test.samples, self.test.labels, indices, self._prepare)

    def facts(self) -> dict[str, Any]:
        """Facts of each split for the report: fingerprint, samples per class, notes, events per sample."""
        sets = {
            "D_train": self.supernet_train(),
            "D_val": self.val(),
            "scored on in the search": self.search_val(),
            "retraining": self.retrain_train(),
            "held out of retraining": self.retrain_val(),
            "test": self.test_set(),
        }
        facts = {}
        for name, samples in sets.items():
            source = self.test if name == "test" else self.train
            numbers = np.bincount(samples.labels[samples.indices], minlength=self.num_classes).tolist()
            facts[name] = {
                "fingerprint": source.fingerprint,
                "num_samples": len(samples),
                "samples_per_class": dict(zip(source.class_names, numbers, strict=True)),
                "notes": list(source.notes),
            }
            if self.config.data.is_events:
                facts[name]["events_per_sample"] = _events_per_sample(samples)
        return facts

    def examples(self) -> EventExamples:
        """One training sample of each class that has any."""
        labels, first = np.unique(self.train.labels[self._used], return_index=True)
        names = tuple(self.train.class_names[label] for label in labels)
        return EventExamples(self.train.samples[self._used[first]], names)

    @cached_property
    def _used(self) -> Indices:
        return balanced_subset(
            self.train.labels,
            size=self.config.data.max_train_samples,
            seed=self.config.seed,
            groups=self.train.groups,
        )

    @cached_property
    def _supernet_split(self) -> tuple[Indices, Indices]:
        return self._split(self.config.data.train_fraction, "D_train and D_val")

    @cached_property
    def _retrain_split(self) -> tuple[Indices, Indices]:
        return self._split(1 - self.config.retrain.val_fraction, "trained and held-out samples")

    def _split(self, fraction: float, sides: str) -> tuple[Indices, Indices]:
        used = self._used
        labels, groups = self.train.labels[used], self.train.groups[used]
        try:
            if self.config.data.split_windows:
                first, second = split_in_time(labels, groups, fraction=fraction)
            else:
                first, second = stratified_split(
                    labels, fraction=fraction, seed=self.config.seed, groups=groups
                )
        except UnsplittableClass as error:
            raise ValueError(self._explain(error, sides)) from error
        return used[first], used[second]

    def _explain(self, error: UnsplittableClass, sides: str) -> str:
        """Which class has too few recordings or images, as each is of one class, and what to do."""
        data = self.config.data
        if data.split_windows:
            return (
                f"data.split_windows: no recording of class '{self.train.class_names[error.label]}' has two "
                f"windows, which a split into {sides} in time takes. Set a smaller --data.window-ms."
            )
        source = "recording" if data.is_events else "image"
        num_samples = int((self.train.labels[self._used] == error.label).sum())
        name, limit = self.train.class_names[error.label], data.max_train_samples
        more = f", or raise data.max_train_samples above {limit:,}" if limit is not None else ""
        windows = " Or split each recording in time (--data.split-windows)." if data.is_events else ""
        return (
            f"Class '{name}' of {data.dataset} has {error.num_groups:,} {source} to train on (samples: "
            f"{num_samples:,}), but a split into {sides} takes 2, as samples of one {source} stay together. "
            f"Add {source}s of this class{more}, or remove the class.{windows}"
        )

    def _train_set(self, indices: Indices) -> SampleSet:
        return SampleSet(self.train.samples, self.train.labels, indices, self._prepare)

    def _prepare(self, samples: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.config.data.is_events:
            return _prepare_frames(self.config.data, samples, generator)
        return _prepare_images(self.config.data, samples, generator, self.normalisation)

    @cached_property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of images, of values in [0, 1].

        Those of the data set if they are known; else measured on the first images of D_train, as integers,
        so that they are the same on every machine.
        """
        entry = look_up_dataset(self.config.data.dataset, ImageDataset)
        if entry.mean is not None and entry.std is not None:
            return entry.mean, entry.std
        images = self.train.samples[np.sort(self._supernet_split[0])[:_MEASURED_IMAGES]].astype(np.int64)
        number = images[:, 0].size
        sums, squares = images.sum((0, 2, 3)), (images**2).sum((0, 2, 3))
        mean = sums / number / 255
        variance = squares / number / 255**2 - mean**2
        std = np.sqrt(np.maximum(variance, (1 / 255) ** 2))  # of images of one colour too
        return tuple(mean.tolist()), tuple(std.tolist())


def _events_per_sample(samples: SampleSet) -> dict[str, float]:
    """Sums of the frames' counts, after cropping and clipping."""
    counts = np.array([samples.samples[i].sum(dtype=np.int64) for i in samples.indices])
    quantities = {
        "min": counts.min(),
        "median": np.median(counts),
        "mean": counts.mean(),
        "max": counts.max(),
    }
    return {name: float(value) for name, value in quantities.items()}


def load_data(config: Config) -> RunData:
    """Opens the run's data set; the first process of a node converts it into its memory-mapped form.

    A worker whose node does not have the data set gets the driver's samples (`pipeline.staging`).

    Raises:
        FileNotFoundError: The data set is not below `data.root`; the message lists the expected files.
    """
    data = config.data
    load = partial(
        load_images,
        data.dataset,
        root=data.root,
        download=data.download,
        image_size=data.image_size,
        test_fraction=data.test_fraction,
    )
    if data.is_events:
        load = partial(
            load_events,
            data.dataset,
            root=data.root,
            settings=frame_settings(config),
            download=data.download,
            sensor_size=data.sensor_size,
        )
    return RunData(config, _load(load, "train"), _load(load, "test"))


def _load(load: Callable[[Split], LabelledSamples], split: Split) -> LabelledSamples:
    try:
        return load(split)
    except FileNotFoundError:
        name = os.environ.get(STAGED_DATA)
        if not name:
            raise
        from pipeline.staging import fetch_samples

        if (samples := fetch_samples(name, split)) is None:
            raise
        return samples


def frame_settings(config: Config) -> FrameSettings:
    """How a run turns events into frames."""
    options = {option.name: getattr(config.data, option.name) for option in fields(FrameOptions)}
    return FrameSettings(time_steps=config.network.time_steps, **options)


def _prepare_images(
    data: DataConfig,
    samples: Tensor,
    generator: torch.Generator | None,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
) -> Tensor:
    if generator is not None:
        samples = augment_images(
            samples,
            flip=data.flip,
            crop_padding=data.crop_padding,
            cutout=data.cutout,
            generator=generator,
        )
    return normalise_images(samples, *normalisation)


def _prepare_frames(data: DataConfig, samples: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is not None:
        samples = augment_frames(
            samples,
            flip=data.flip and look_up_dataset(data.dataset, EventDataset).flips_allowed,
            shift=data.crop_padding,
            cutout=data.cutout,
            drop=data.event_drop,
            generator=generator,
        )
    return to_network_input(samples, data.event_values)
