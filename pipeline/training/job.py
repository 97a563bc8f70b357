"""One training from scratch, as a stream of events; where it runs and where its files go is not its affair.

It yields how far it got, a record per epoch, a checkpoint now and then, and the result at the end. Given
a checkpoint it goes on from there as if it had not been interrupted.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.networks import make_network
from pipeline.storage.records import Cost, EpochRecord
from snn.data.sample_set import SampleSet
from snn.engines.engine import make_inference
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation, TimeCourse
from snn.model.network import SpikingNetwork, num_parameters, to_memory_format
from snn.model.spikes import count_operations
from snn.model.time_course import measure_time_course
from snn.search_space import Architecture
from snn.training.trainer import EpochMeans, Trainer

_SECONDS_BETWEEN_EVENTS = 1.0


@dataclass(frozen=True)
class TrainingJob:
    """What is trained.

    Attributes:
        config: The run's settings.
        architecture: Blocks of the child to retrain; None trains the super-network.
        seed: Seed of the initial weights, of the order of samples, of augmentation and paths.
    """

    config: Config
    architecture: str | None
    seed: int


@dataclass(frozen=True)
class Progress:
    """Samples seen since the training began (epochs before a checkpoint included)."""

    samples: int
    total: int
    note: str


@dataclass(frozen=True)
class Checkpoint:
    """State to go on from, as the bytes of a torch file."""

    epoch: int
    data: bytes


@dataclass(frozen=True)
class Trained:
    """The end of a training.

    Attributes:
        weights: State dict; of the chosen epoch for a child, of the last one for the super-network.
        chosen_epoch: Epoch the weights are from.
        test: Evaluation of a child's weights on the test set, with synops and macs.
        time_course: What the child does over time, on the held-out samples.
    """

    weights: dict[str, Tensor]
    history: tuple[EpochRecord, ...]
    chosen_epoch: int
    test: Evaluation | None
    time_course: TimeCourse | None
    num_parameters: int
    num_train: int
    num_val: int
    cost: Cost


Event = Progress | EpochRecord | Checkpoint | Trained


def run_training(job: TrainingJob, checkpoint: bytes | None, num_threads: int) -> Generator[Event]:
    """Trains; see the module's docstring for the events.

    Args:
        job: What to train.
        checkpoint: A state to go on from.
        num_threads: CPU threads of torch.

    Raises:
        TrainingDiverged: The loss is no finite number.
    """
    torch.set_num_threads(num_threads)
    training = _Training(job, load_data(job.config))
    if checkpoint is not None:
        training.restore(checkpoint)
    yield from training.run()


class _Training:
    def __init__(self, job: TrainingJob, data: RunData) -> None:
        self.job = job
        self.data = data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        config = job.config
        self.architecture = None
        if job.architecture is not None:
            self.architecture = config.network.parse_architecture(job.architecture)
        self.settings = config.retrain if self.architecture else config.supernet
        self.network = make_network(config.network, data, architecture=self.architecture, seed=job.seed)
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.trainer = Trainer(
            self.network,
            data.retrain_train() if self.architecture else data.supernet_train(),
            lambda rng: self.architecture or config.network.search_space().sample(rng),
            epochs=self.settings.epochs,
            batch_size=self.settings.batch_size,
            learning_rate=self.settings.learning_rate,
            schedule=config.retrain.learning_rate_schedule if self.architecture else "constant",
            seed=job.seed,
            device=self.device,
        )
        self.val = data.retrain_val() if self.architecture else data.val()
        self.history: list[EpochRecord] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.cost = Cost()

    def run(self) -> Generator[Event]:
        while self.trainer.epoch < self.settings.epochs:
            start, cpu_start = time.perf_counter(), time.process_time()
            means = yield from self._train_epoch()
            self._record(means, start)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
            self.cost += Cost(wall, cpu, wall if self.device.type == "cuda" else 0.0)
            yield self.history[-1]
            epoch = self.trainer.epoch
            if epoch % self.settings.checkpoint_every == 0 and epoch < self.settings.epochs:
                yield Checkpoint(epoch, self._state())
        yield self._finish()

    def restore(self, checkpoint: bytes) -> None:
        state = torch.load(io.BytesIO(checkpoint), map_location=self.device, weights_only=True)
        self.trainer.load_state_dict(state["trainer"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.best = tuple(state["best"]) if state["best"] else None  # type: ignore[assignment]
        self.cost = Cost(**state["cost"])

    def _state(self) -> bytes:
        buffer = io.BytesIO()
        state: dict[str, Any] = {
            "trainer": self.trainer.state_dict(),
            "history": [vars(record) for record in self.history],
            "best": self.best,
            "cost": vars(self.cost),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def _train_epoch(self) -> Generator[Event, None, EpochMeans]:
        per_epoch = len(self.trainer.samples)
        before, total = self.trainer.epoch * per_epoch, self.settings.epochs * per_epoch
        note = _note(self.history)
        steps = self.trainer.train_epoch()
        last = time.perf_counter()
        while True:
            try:
                done = next(steps)
            except StopIteration as stop:
                yield Progress(before + per_epoch, total, note)
                return stop.value
            if time.perf_counter() - last > _SECONDS_BETWEEN_EVENTS:
                last = time.perf_counter()
                yield Progress(before + done, total, note)

    def _record(self, means: EpochMeans, start: float) -> None:
        epoch = self.trainer.epoch
        val = test = None
        last = epoch == self.settings.epochs
        if self.architecture and (last or epoch % self.job.config.retrain.eval_every == 0):
            val = self._evaluate(self.val)
            if self.job.config.retrain.paper_protocol:
                test = self._evaluate(self.data.test_set())
            if self.best is None or val.accuracy > self.best[0]:
                self.best = (val.accuracy, epoch, _copied(self.network))
        self.history.append(
            EpochRecord(
                epoch=epoch,
                loss=means.loss,
                train_accuracy=means.accuracy,
                spikes=means.spikes,
                seconds=time.perf_counter() - start,
                val_accuracy=val.accuracy if val else None,
                val_spikes=val.spikes if val else None,
                test_accuracy=test.accuracy if test else None,
                test_spikes=test.spikes if test else None,
            )
        )

    def _finish(self) -> Trained:
        start, cpu_start = time.perf_counter(), time.process_time()
        test = time_course = None
        if self.best is not None:
            self.network.load_state_dict(self.best[2])
            test, time_course = self._test_once(), self._time_course()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        return Trained(
            weights={name: value.cpu().contiguous() for name, value in _copied(self.network).items()},
            history=tuple(self.history),
            chosen_epoch=self.best[1] if self.best else self.trainer.epoch,
            test=test,
            time_course=time_course,
            num_parameters=num_parameters(self.network),
            num_train=len(self.trainer.samples),
            num_val=len(self.val),
            cost=self.cost + Cost(wall, cpu, wall if self.device.type == "cuda" else 0.0),
        )

    def _evaluate(self, samples: SampleSet) -> Evaluation:
        assert self.architecture is not None
        return evaluate_on(self.network, self.architecture, samples, self.job.config)

    def _test_once(self) -> Evaluation:
        assert self.architecture is not None
        return evaluate_with_operations(
            self.network, self.architecture, self.data.test_set(), self.job.config, self.device
        )

    def _time_course(self) -> TimeCourse:
        assert self.architecture is not None
        batches = self.val.batches(self.job.config.search.batch_size, self.device)
        return measure_time_course(self.network, self.architecture, batches)


def evaluate_on(
    network: SpikingNetwork,
    architecture: Architecture,
    samples: SampleSet,
    config: Config,
) -> Evaluation:
    """Accuracy and spikes of one architecture on a set of samples."""
    prepared = make_inference(network, config.search.engine, precision=config.search.precision)
    batches = samples.batches(config.search.batch_size, prepared.device)
    return evaluate_architectures(prepared, [architecture], batches)[0]


def evaluate_with_operations(
    network: SpikingNetwork,
    architecture: Architecture,
    samples: SampleSet,
    config: Config,
    device: torch.device,
) -> Evaluation:
    """As `evaluate_on`, with synaptic operations and multiply-accumulates per sample in any case."""
    result = evaluate_on(network, architecture, samples, config)
    if result.synops is not None:
        return result
    network.eval()
    with torch.inference_mode(), count_operations(network) as totals:
        for inputs, _ in samples.batches(config.search.batch_size, device):
            network(to_memory_format(inputs), architecture)
    synops, macs = (totals[kind].item() / result.num_samples for kind in ("synops", "macs"))
    return dataclasses.replace(result, synops=synops, macs=macs)


def _note(history: list[EpochRecord]) -> str:
    if not history:
        return ""
    return f"loss {history[-1].loss:.3f} acc {100 * history[-1].train_accuracy:.0f}%"


def _copied(network: SpikingNetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
