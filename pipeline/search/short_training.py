"""A score without weight sharing: a candidate trained shortly from scratch, measured on D_val at rungs."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import make_network, network_structure
from pipeline.search.answers import Answer
from pipeline.search.evaluator import Candidates
from pipeline.storage.records import Rung
from snn.engines.device import Device
from snn.engines.engine import choose_engine, load_engine, pack_weights
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import SpikingNetwork, to_memory_format
from snn.model.spikes import record_spikes
from snn.search_space import Architecture
from snn.training.statistics import debias_statistics
from snn.training.trainer import Trainer

logger = logging.getLogger(__name__)

# Random paths on which the reference of the fitness is measured.
_NUM_REFERENCE_PATHS = 16


@dataclass(frozen=True)
class ShortTraining:
    """Scoring by a short training from scratch.

    Attributes:
        device_type: torch's type of the device that trains and evaluates.
    """

    device_type: str

    def load(self, config: Config, data: RunData) -> ShortTrainingScorer:
        """The scorer, on the run's data."""
        return ShortTrainingScorer(config, data, torch.device(self.device_type))


class ShortTrainingScorer:
    """Trains the one candidate of a trial; answers at each rung."""

    def __init__(self, config: Config, data: RunData, device: torch.device) -> None:
        self.settings = config
        self.data = data
        self.device = device

    def score(
        self, candidates: Candidates, threshold: float | None
    ) -> Iterator[tuple[Sequence[Answer], bool]]:
        """The answer at each rung, with the measurements so far."""
        [(number, architecture)] = candidates
        samples = self.settings.search.rung_samples(len(self.data.supernet_train()))
        rungs: tuple[Rung, ...] = ()
        try:
            for evaluation in train_shortly(self.settings, self.data, architecture, self.device):
                rungs += (Rung(samples[len(rungs)], evaluation.accuracy, evaluation.spikes),)
                yield [Answer(number, evaluation, rungs=rungs)], len(rungs) == len(samples)
        except Exception as error:
            logger.exception("the training of %s failed", architecture)
            yield [Answer(number, error=f"{type(error).__name__}: {error}")], True

    def damage(self) -> str:
        """Nothing is shared that could be damaged."""
        return ""


def train_shortly(
    config: Config, data: RunData, architecture: Architecture, device: torch.device
) -> Generator[Evaluation]:
    """Trains an architecture from scratch on D_train and yields its evaluation on D_val at each rung.

    Loss, batch size, step size and spike penalty are those of the retraining; the learning rate stays
    constant, so that a training is the same up to a rung whatever comes after it.

    Args:
        config: The run's settings; `search.training_samples` and `search.rungs` give the rungs.
        data: Its samples.
        architecture: The candidate.
        device: Where it is trained.

    Raises:
        TrainingDiverged: Loss or weights are not finite at the end of an epoch.
    """
    settings, samples = config.retrain, data.supernet_train()
    network = make_network(config.network, data, architecture=architecture, seed=config.seed)
    network.to(device).to(memory_format=torch.channels_last)
    trainer = Trainer(
        network,
        samples,
        lambda _: (architecture,),
        epochs=1,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        loss=settings.loss,
        spike_penalty=settings.spike_penalty,
        seed=config.seed,
        device=device,
    )
    seen = _samples_seen(trainer)
    for rung in config.search.rung_samples(len(samples)):
        while next(seen) < rung:
            pass
        yield _evaluate(copy.deepcopy(network), config, data, architecture, device)


def _evaluate(
    network: SpikingNetwork, config: Config, data: RunData, architecture: Architecture, device: torch.device
) -> Evaluation:
    """The evaluation on D_val, with the batch-norm statistics of the settings; changes the network."""
    debias_statistics(network.state_dict())
    structure = network_structure(config.network, data, architecture)
    engine = choose_engine(
        config.search.engine,
        device.type,
        structure,
        batch_size=config.search.batch_size,
        num_threads=config.threads_per_worker,
        precision=config.search.precision,
        recalibrate=config.search.num_calibrated,
    )
    calibration = data.calibration_inputs(engine.recalibrate)
    weights = pack_weights(engine, network)
    loaded = load_engine(engine, structure, weights, calibration=calibration, device=device)
    batches = data.search_val().batches(engine.batch_size, loaded.device)
    return evaluate_architectures(loaded, [architecture], batches, num_threads=engine.num_threads)[0]


def _samples_seen(trainer: Trainer) -> Generator[int]:
    """Trains without end; yields after each step the number of samples seen since the beginning."""
    while True:
        before = trainer.epoch * len(trainer.samples)
        for number in trainer.train_epoch():
            yield before + number


def untrained_reference(config: Config, data: RunData) -> float:
    """N_avg of the fitness where there is no super-network to measure it on.

    The mean number of spikes per sample of random paths of a super-network with its initial weights, as the
    first steps of its training would see them. Any other constant gives the same ranking. It is rounded to
    two digits, so that it is the same on every machine.

    Raises:
        ValueError: Nothing fires.
    """
    rng, space, samples = random.Random(config.seed), config.network.search_space(), data.supernet_train()
    network = make_network(config.network, data, seed=config.seed)
    inputs, _ = samples.batch(samples.indices[: config.retrain.batch_size], torch.device("cpu"))
    spikes = 0.0
    with torch.no_grad(), record_spikes(network) as record:
        for _ in range(_NUM_REFERENCE_PATHS):
            network(to_memory_format(inputs), space.sample(rng))
            spikes += record.per_sample().mean().item() / _NUM_REFERENCE_PATHS
            record.clear()
    if not spikes:
        raise ValueError(
            "Networks of this run fire no spikes with their initial weights, so there is nothing to search "
            f"for: lower network.v_threshold ({config.network.v_threshold:g})."
        )
    return float(f"{spikes:.2g}")


def training_hash(config: Config, data: RunData, device: Device) -> str:
    """Hash of all that trained weights depend on besides network and architecture, as of `cache_key`."""
    settings = ("retrain.batch_size", "retrain.learning_rate", "retrain.loss", "retrain.spike_penalty")
    facts = {
        **{k: v for k, v in config.identity().items() if k.startswith("data.") or k in settings},
        "scoring": "short_training",
        "rungs": config.search.rung_samples(len(data.supernet_train())),
        "seed": config.seed,
        "num_threads": config.threads_per_worker,
        "device": [device.type, device.name],
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
