"""A score without weight sharing: a candidate trained shortly from scratch, measured on D_val at rungs."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.networks import make_network
from pipeline.search.answers import Answer
from pipeline.search.engine import load_search_engine
from pipeline.search.evaluator import Candidates, Part
from pipeline.storage.records import Rung
from snn.engines.device import Device
from snn.engines.engine import EngineSpec, pack_weights
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import num_parameters, to_memory_format
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
        engine: How candidates are evaluated.
        device_type: torch's type of the device that trains and evaluates.
    """

    engine: EngineSpec
    device_type: str

    def load(self, config: Config, data: RunData) -> ShortTrainingScorer:
        """The scorer, on the run's data."""
        return ShortTrainingScorer(self.engine, config, data, torch.device(self.device_type))


class ShortTrainingScorer:
    """Trains the one candidate of a trial; answers at each rung."""

    def __init__(self, engine: EngineSpec, config: Config, data: RunData, device: torch.device) -> None:
        self.engine = engine
        self.settings = config
        self.data = data
        self.device = device

    def score(
        self, candidates: Candidates, threshold: float | None, part: Part | None
    ) -> Iterator[tuple[Sequence[Answer], bool]]:
        """The answer at each rung, with the measurements so far."""
        [(number, architecture)] = candidates
        settings = self.settings
        try:
            for evaluation, rungs in climb(self.engine, settings, self.data, architecture, self.device):
                yield [Answer(number, evaluation, rungs=rungs)], len(rungs) == settings.search.rungs
        except Exception as error:
            logger.exception("the training of %s failed", architecture)
            yield [Answer(number, error=f"{type(error).__name__}: {error}")], True

    def block_runs(self, candidates: Candidates, answers: Sequence[Answer]) -> int:
        """0: each candidate has weights of its own."""
        return 0

    def damage(self) -> str:
        """Nothing is shared that could be damaged."""
        return ""


def climb(
    engine: EngineSpec, config: Config, data: RunData, architecture: Architecture, device: torch.device
) -> Generator[tuple[Evaluation, tuple[Rung, ...]]]:
    """As `train_shortly`, with the rungs reached so far beside each evaluation."""
    rungs: tuple[Rung, ...] = ()
    numbers = config.search.rung_samples(len(data.supernet_train()))
    evaluations = train_shortly(engine, config, data, architecture, device)
    for number, evaluation in zip(numbers, evaluations, strict=False):
        rung = Rung(
            number,
            evaluation.accuracy,
            evaluation.spikes,
            evaluation.synops,
            evaluation.energy,
            evaluation.num_parameters,
        )
        rungs = (*rungs, rung)
        yield evaluation, rungs


def train_shortly(
    engine: EngineSpec, config: Config, data: RunData, architecture: Architecture, device: torch.device
) -> Generator[Evaluation]:
    """Trains an architecture from scratch on D_train and yields its evaluation on D_val at each rung.

    Loss, batch size, step size and spike penalty are those of the retraining; the learning rate stays
    constant, so that a training is the same up to a rung whatever comes after it.

    Args:
        engine: How it is evaluated.
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
        measured = copy.deepcopy(network)  # packing may share memory, and the training goes on
        debias_statistics(measured.state_dict())
        weights = pack_weights(engine, measured)
        loaded = load_search_engine(engine, config, data, weights, device, architecture)
        batches = data.search_val().batches(engine.batch_size, loaded.device)
        [evaluation] = evaluate_architectures(loaded, [architecture], batches, num_threads=engine.num_threads)
        yield replace(evaluation, num_parameters=num_parameters(network))


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
