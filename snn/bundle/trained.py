"""A trained network, loaded from its bundle: predicts classes and counts what each sample costs."""

# N samples, T time steps, K classes

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn.bundle.files import read_file
from snn.bundle.inputs import prepare
from snn.description import DESCRIPTION, WEIGHTS, Description
from snn.engines.engine import make_inference
from snn.engines.event_driven import EventDrivenNetwork
from snn.engines.inference import InferenceNetwork
from snn.json_values import from_json
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.spikes import part_of, record_operations, record_spikes
from snn.search_space import Architecture, SearchedLayer, make_backbone

_DENSE_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """What a network says of N samples, and what it took.

    Attributes:
        classes: Index of the class with most votes, [N]; the first one in a tie.
        class_names: Name of each of the K classes.
        votes: Spikes of each class's voters over all time steps, [N, K]; at most 10 T each. Of a network with
            ReLU, logits.
        spikes: Spikes of each sample, [N]: every binary output of a neuron or max-pool, summed over all time
            steps, from the stem to the voters (the official code's count).
        spikes_per_layer: The same for each counted part, from input to output.
        synops: Synaptic operations of each sample, [N]: one for each synapse that a spike reaches.
        macs: Multiply-accumulates of each sample, [N]: those of the stem, whose input is analog.
    """

    classes: NDArray[np.int64]
    class_names: tuple[str, ...]
    votes: NDArray[Any]
    spikes: NDArray[np.int64]
    spikes_per_layer: dict[str, NDArray[np.int64]]
    synops: NDArray[np.int64]
    macs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """Name of each sample's class."""
        return [self.class_names[i] for i in self.classes]


class TrainedNetwork:
    """A network ready for use; `snn.load` makes one.

    On a CPU with a C compiler it runs event-driven, elsewhere dense in torch.

    Args:
        description: What its bundle says of it.
        weights: State dict.
        device: Where it runs.

    Raises:
        ValueError: The weights are not those of the described network.
    """

    def __init__(
        self, description: Description, weights: dict[str, Tensor], device: torch.device | str = "cpu"
    ) -> None:
        structure = description.structure
        backbone = make_backbone(structure.backbone, channels=structure.channels, stem=structure.stem)
        self.description = description
        self.architecture = Architecture(structure.architecture)
        with torch.device("meta"):  # no memory for weights before they are known to fit
            network = SpikingNetwork(
                backbone,
                [(block,) for block in structure.architecture],
                input_shape=structure.input_shape,
                num_classes=len(description.class_names),
                time_steps=structure.time_steps,
                neuron=structure.neuron,
                v_threshold=structure.v_threshold,
                init_tau=structure.init_tau,
            )
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise ValueError(f"The weights are not those of the described network. {error}") from error
        self.network = network.to(device).eval().requires_grad_(False)
        self.engine: InferenceNetwork = make_inference(self.network)

    def __repr__(self) -> str:
        facts = self.description
        return f"<TrainedNetwork '{facts.name}': {self.architecture}, {len(facts.class_names)} classes>"

    def predict(self, samples: Any) -> Prediction:
        """Classifies pictures or recordings.

        Args:
            samples: One or several. A picture is a file, an array of uint8 [H, W, 3] or [H, W], or a Pillow
                image; one of another size than the network's is resized and centre-cropped. A recording is
                a file, or an array with the fields x, y, t (in us) and p; each of its windows is a sample.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file that cannot be read, or something of another form.
        """
        return self.predict_inputs(prepare(self.description, samples))

    def predict_inputs(self, inputs: Tensor) -> Prediction:
        """Classifies prepared inputs: images [N, C, H, W] or event frames [T, N, C, H, W]."""
        count = self._event_driven if isinstance(self.engine, EventDrivenNetwork) else self._dense
        votes, spikes, synops, macs = zip(*count(inputs), strict=True)
        layers = {layer: np.concatenate([counts[layer] for counts in spikes]) for layer in spikes[0]}
        all_votes = np.concatenate(votes)
        return Prediction(
            classes=all_votes.argmax(1),
            class_names=self.description.class_names,
            votes=all_votes,
            spikes=np.sum([*layers.values()], axis=0),
            spikes_per_layer=layers,
            synops=np.concatenate(synops),
            macs=np.concatenate(macs),
        )

    def spikes_over_time(self, samples: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Firing rates and spikes of each layer at each time step, means over the samples, [T] each.

        A rate is the share of the layer's neurons that fire, in [0, 1]. Computed densely.

        Args:
            samples: As for `predict`.
        """
        inputs = prepare(self.description, samples).to(self.engine.device)
        with torch.inference_mode(), record_spikes(self.network) as record:
            self.network(to_memory_format(inputs), self.architecture)
        counts: dict[str, NDArray[Any]] = {}
        neurons: dict[str, int] = {}
        for name, of_each_TN in record.counts.items():
            layer, mean_T = part_of(name), of_each_TN.mean(1, dtype=torch.float64).cpu().numpy()
            counts[layer] = counts.get(layer, 0) + mean_T
            neurons[layer] = neurons.get(layer, 0) + record.neurons[name]
        return {layer: counts[layer] / neurons[layer] for layer in counts}, counts

    def _event_driven(self, inputs: Tensor) -> list[_Counted]:
        axis, num_threads = _sample_axis(inputs), torch.get_num_threads()
        share = -(-inputs.shape[axis] // num_threads)
        chunks = inputs.split(min(share, self.engine.chunk_size), axis)
        forks = self.engine.forks(min(num_threads, len(chunks)))

        def run(fork: InferenceNetwork, own: int) -> list[_Counted]:
            return [self._chunk(fork, chunk) for chunk in chunks[own :: len(forks)]]

        with ThreadPoolExecutor(len(forks)) as pool:
            shares = list(pool.map(run, forks, range(len(forks))))
        return [shares[i % len(forks)][i // len(forks)] for i in range(len(chunks))]

    def _chunk(self, engine: InferenceNetwork, inputs: Tensor) -> _Counted:
        with torch.inference_mode():
            fired = engine.encode(inputs)
            blocks = iter(self.architecture.blocks)
            total, macs = fired, fired.macs or 0
            for part in self.network.backbone.body:
                block = next(blocks) if isinstance(part, SearchedLayer) else ""
                total = engine.run(part.name, block, total.spikes).after(total)
            predicted = engine.decide(total.spikes)
        total = predicted.fired.after(total)
        spikes = {layer: count for layer, (count, _) in total.counts.items()}
        votes = predicted.votes.numpy().astype(np.int64)
        assert total.synops is not None, "the event-driven engine counts operations"
        return votes, spikes, total.synops, np.full(len(votes), macs // len(votes))

    def _dense(self, inputs: Tensor) -> Iterator[_Counted]:
        for batch in inputs.split(_DENSE_BATCH, _sample_axis(inputs)):
            with (
                torch.inference_mode(),
                record_spikes(self.network) as record,
                record_operations(self.network) as done,
            ):
                votes = self.network(to_memory_format(batch.to(self.engine.device)), self.architecture)
            spikes: dict[str, NDArray[np.int64]] = {}
            for name, counts in record.counts.items():
                layer, of_each = part_of(name), _whole(counts.sum(0))
                spikes[layer] = spikes[layer] + of_each if layer in spikes else of_each
            counted = self.network.count_votes(votes)
            yield (
                _whole(counted) if self.network.spikes else counted.cpu().numpy(),
                spikes,
                _whole(done.synops),
                _whole(done.macs),
            )


_Counted = tuple[NDArray[Any], dict[str, NDArray[np.int64]], NDArray[np.int64], NDArray[np.int64]]
"""Votes [N, K], spikes [N] of each part, synaptic operations [N] and multiply-accumulates [N]."""


def load(location: str | PathLike[str], device: torch.device | str = "cpu") -> TrainedNetwork:
    """Loads a trained network.

    Args:
        location: A retrained network of a run (RUN_DIR/retrained/0): a folder, or a URI (s3://..., gs://...,
            az://...) whose credentials are in the environment.
        device: Where it runs, such as "cuda".

    Raises:
        FileNotFoundError: There is no bundle.
        ValueError: It is damaged, or of another version.
    """
    place = str(location)
    text = read_file(place, DESCRIPTION)
    try:
        description = from_json(json.loads(text), Description)
    except ValueError as error:
        raise ValueError(f"'{place}/{DESCRIPTION}' is damaged ({error}). Copy the bundle again.") from error
    weights = read_weights(place, description.weights_sha256)
    try:
        return TrainedNetwork(description, weights, device)
    except ValueError as error:
        raise ValueError(f"'{place}' is no complete bundle. {error}") from error


def read_weights(place: str, sha256: str) -> dict[str, Tensor]:
    """The weights of a bundle, if they have this hash."""
    import hashlib

    from safetensors.torch import load as load_tensors

    data = read_file(place, WEIGHTS)
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise ValueError(
            f"'{Path(place) / WEIGHTS}' is damaged or of another network: its SHA-256 is {found[:16]}..., "
            f"{DESCRIPTION} says {sha256[:16]}.... Copy the bundle again."
        )
    return load_tensors(data)


def _sample_axis(inputs: Tensor) -> int:
    return 0 if inputs.dim() == 4 else 1


def _whole(values: Tensor) -> NDArray[np.int64]:
    return values.round().cpu().numpy().astype(np.int64)
