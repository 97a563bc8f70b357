"""The super-network and samples of a benchmark, generated or taken from a run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config.tree import Config, DataConfig
from pipeline.data import RunData, load_data
from pipeline.networks import load_supernet, make_network
from pipeline.storage.run_folder import RunFolder
from snn.data.sample_set import SampleSet
from snn.data.samples import LabelledSamples
from snn.engines.engine import make_inference
from snn.engines.inference import InferenceNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork, to_memory_format
from snn.search_space import Architecture

CPU = torch.device("cpu")
Batches = Sequence[tuple[Tensor, Tensor]]

_NUM_IMAGES = 3840
_NUM_CLASSES = 10
_RECALIBRATION_BATCHES = 15
_RECALIBRATION_BATCH_SIZE = 32
# Scales the random weights of the head: unscaled, few voting neurons reach their threshold.
_HEAD_SCALE = 4.0


@dataclass(frozen=True)
class Subject:
    """The super-network and the samples that a benchmark measures.

    Attributes:
        config: Settings of the network, the trainings and the search.
        data: Source of the samples.
        network: The super-network, in eval mode.
        val: Samples for evaluation.
        train: Samples for training.
        firing_rate: Spikes per neuron and time step, mean over random architectures.
        source: Origin of network and samples, in words.
        generated: Whether the samples are generated; their number then differs from the data set's.
    """

    config: Config
    data: RunData
    network: SpikingNetwork
    val: SampleSet
    train: SampleSet
    firing_rate: float
    source: str
    generated: bool

    def random_architectures(self, number: int, *, seed: int) -> list[Architecture]:
        """Distinct architectures of the search space, drawn uniformly; all of them if it has fewer."""
        space = self.config.network.search_space()
        indices = random.Random(seed).sample(range(len(space)), min(number, len(space)))
        return [space.at(index) for index in indices]

    def batches(self, number: int, batch_size: int) -> Batches:
        """`number` samples of D_val, repeated if it has fewer; preprocessed, in memory."""
        return list(repeated(self.val, number).batches(min(batch_size, number), CPU))

    def facts(self) -> dict[str, Any]:
        network = self.config.network
        return {
            "source": self.source,
            "config": self.config.name,
            "backbone": f"{network.backbone}_{network.channels}",
            "time_steps": network.time_steps,
            "neuron": network.neuron,
            "firing_rate": self.firing_rate,
        }


def repeated(samples: SampleSet, number: int) -> SampleSet:
    """`number` of the samples, repeated if there are fewer."""
    return replace(samples, indices=np.resize(samples.indices, number))


def num_samples(batches: Batches) -> int:
    return sum(len(labels) for _, labels in batches)


def inference_network(subject: Subject) -> InferenceNetwork:
    """The super-network as evaluators hold it, on the engine of the config."""
    search = subject.config.search
    return make_inference(subject.network, search.engine, precision=search.precision)


def reference_architecture(subject: Subject) -> Architecture:
    """The paper's architecture, or one block in every layer if the search space does not contain it."""
    network = subject.config.network
    architecture = Architecture.parse("autosnn")
    if architecture in network.search_space():
        return architecture
    return Architecture((network.blocks[-1],) * network.search_space().num_layers)


def generated_subject(config: Config, *, num_images: int = _NUM_IMAGES) -> Subject:
    """A super-network with random weights on generated images of CIFAR's shape.

    Batch norm is recalibrated on random paths, so that every layer fires about as in a trained network.
    """
    data = generated_data(config, num_images)
    network = make_network(config.network, data, seed=config.seed)
    with torch.no_grad():
        network.head.weight.mul_(_HEAD_SCALE)
    recalibrate(network, config, data.supernet_train())
    source = "random weights, batch norm recalibrated, on generated smooth images of 3x32x32"
    return _subject(config, network, data, source, generated=True)


def generated_data(config: Config, num_images: int) -> RunData:
    """Generated images of CIFAR's shape, augmented like those of CIFAR-10."""
    samples = _smooth_images(num_images, config.seed)
    return RunData(replace(config, data=DataConfig(dataset="cifar10")), train=samples, test=samples)


def trained_subject(run: RunFolder, data_root: Path | None = None) -> Subject:
    """The super-network of a run, with the data of its training and search.

    Raises:
        FileNotFoundError: The run has no super-network, or its data have moved.
    """
    config = run.read_config()
    if data_root is not None:
        config = replace(config, data=replace(config.data, root=data_root))
    data = load_data(config)
    network = load_supernet(run, config.network, data)
    source = f"super-network and data of '{run}'"
    return _subject(config, network, data, source, generated=False)


def recalibrate(network: SpikingNetwork, config: Config, samples: SampleSet) -> None:
    """Sets batch norm's stored statistics to their means over random paths.

    Each layer cycles through its blocks from batch to batch, so that every block sees some of them.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's cumulative mean
    rng = random.Random(config.seed)
    orders = [rng.sample(config.network.blocks, len(config.network.blocks)) for _ in network.backbone.layers]
    batch_size = min(_RECALIBRATION_BATCH_SIZE, len(samples))
    shown = repeated(samples, _RECALIBRATION_BATCHES * batch_size)
    network.train()
    with torch.no_grad():
        for i, (inputs, _) in enumerate(shown.batches(batch_size, CPU)):
            path = Architecture(tuple(order[i % len(order)] for order in orders))
            network(to_memory_format(inputs), path)
            orders = [order[1:] + order[:1] if rng.random() < 0.5 else order for order in orders]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _subject(
    config: Config, network: SpikingNetwork, data: RunData, source: str, *, generated: bool
) -> Subject:
    val, train = data.search_val(), data.supernet_train()
    subject = Subject(config, data, network.eval(), val, train, 0.0, source, generated)
    architectures = subject.random_architectures(8, seed=config.seed)
    results = evaluate_architectures(network, architectures, subject.batches(32, 32))
    return replace(subject, firing_rate=float(np.mean([result.firing_rate for result in results])))


def _smooth_images(number: int, seed: int) -> LabelledSamples:
    """Smooth random images with a little noise, uint8 [n, 3, 32, 32]; the labels are arbitrary."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, 3, 5, 5, generator=generator)
    clouds = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
    noise = 0.05 * torch.randn(clouds.shape, generator=generator)
    images = ((clouds - 0.5) * 1.6 + 0.5 + noise).clamp(0, 1).mul(255).to(torch.uint8).numpy()
    labels = np.arange(number, dtype=np.int64) % _NUM_CLASSES
    return LabelledSamples.from_arrays(images, labels, [str(k) for k in range(_NUM_CLASSES)])
