"""One training from scratch as a stream of events, wherever it runs.

It yields its progress, a record per epoch, checkpoints, and the result at the end. Given a checkpoint it
resumes as if it had not been interrupted.
"""

from __future__ import annotations

import io
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.data import RunData, load_data
from pipeline.networks import make_network
from pipeline.storage.records import Cost, EpochRecord
from pipeline.training.outcome import BestHeldOutEpoch, LastEpoch, Outcome, OutcomeOf
from pipeline.training.plan import TrainingPlan
from snn.data.sample_set import SampleSet
from snn.model.network import num_parameters
from snn.model.synced_norm import synchronise_norms
from snn.training.memory import keep_freed_memory
from snn.training.paths import path_sampler
from snn.training.ranks import Ranks
from snn.training.trainer import EpochMeans, Trainer

_SECONDS_BETWEEN_EVENTS = 1.0


@dataclass(frozen=True)
class Progress:
    """Samples seen since the training began, epochs before a checkpoint included."""

    samples: int
    total: int
    note: str


@dataclass(frozen=True)
class Checkpoint:
    """State to resume from, as the bytes of a torch file."""

    epoch: int
    data: bytes


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        outcome: Its weights and what was measured of them.
        history: One record per epoch.
        num_parameters: Learnable parameters.
        num_train: Training samples.
        num_val: Samples held out of the training.
        cost: What it used, interruptions left out.
    """

    outcome: Outcome
    history: tuple[EpochRecord, ...]
    num_parameters: int
    num_train: int
    num_val: int
    cost: Cost


@dataclass(frozen=True)
class Started:
    """The training has begun, or begins anew.

    Attributes:
        node: Id of the node that it runs on; empty if that is not news.
        num_workers: Workers that train together; 0 if that is not news.
    """

    node: str
    num_workers: int


Event = Started | Progress | EpochRecord | Checkpoint | Trained


def run_training(
    plan: TrainingPlan, checkpoint: bytes | None, num_threads: int, ranks: Ranks | None = None
) -> Generator[Event]:
    """Trains; see the module's docstring for the events.

    Args:
        plan: What to train.
        checkpoint: A state to resume from.
        num_threads: CPU threads of torch.
        ranks: The processes that train together; only rank 0 has states and measurements in its events, and
            an end.

    Raises:
        TrainingDiverged: The loss is not finite.
    """
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    training = _Training(plan, load_data(plan.config), ranks)
    if checkpoint is not None:
        training.restore(checkpoint)
    yield from training.run()


class _Training:
    """The loop over epochs; what its outcome is, `outcome_of` says."""

    def __init__(self, plan: TrainingPlan, data: RunData, ranks: Ranks | None) -> None:
        self.plan = plan
        self.ranks = ranks
        self.is_first = ranks is None or ranks.rank == 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = make_network(plan.config.network, data, architecture=plan.architecture, seed=plan.seed)
        if ranks is not None:
            synchronise_norms(self.network)
        self.network.to(self.device).to(memory_format=torch.channels_last)
        self.outcome_of: OutcomeOf
        if plan.architecture is None:
            samples, self.outcome_of = data.supernet_train(), LastEpoch(data)
        else:
            samples = data.retrain_train()
            self.outcome_of = BestHeldOutEpoch(plan.config, data, plan.architecture, self.device)
        self.trainer = self._make_trainer(samples)
        self.history: list[EpochRecord] = []
        self.cost = Cost()

    def run(self) -> Generator[Event]:
        while self.trainer.epoch < self.plan.epochs:
            start, cpu_start = time.perf_counter(), time.process_time()
            means = yield from self._train_epoch()
            self._record(means, start)
            self._charge(start, cpu_start)
            yield self.history[-1]
            epoch = self.trainer.epoch
            if self.is_first and epoch % self.plan.checkpoint_every == 0 and epoch < self.plan.epochs:
                yield Checkpoint(epoch, self._state())
        if self.is_first:
            yield self._finish()

    def restore(self, checkpoint: bytes) -> None:
        state = torch.load(io.BytesIO(checkpoint), map_location=self.device, weights_only=True)
        self.trainer.load_state_dict(state["trainer"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.outcome_of.restore(state["best"])
        self.cost = Cost(**state["cost"])

    def _state(self) -> bytes:
        buffer = io.BytesIO()
        state: dict[str, Any] = {
            "trainer": self.trainer.state_dict(),
            "history": [vars(record) for record in self.history],
            "best": self.outcome_of.state(),
            "cost": vars(self.cost),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def _make_trainer(self, samples: SampleSet) -> Trainer:
        plan, space = self.plan, self.plan.config.network.search_space()
        child = plan.architecture
        return Trainer(
            self.network,
            samples,
            path_sampler(plan.sampling, space) if child is None else lambda _: (child,),
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            learning_rate=plan.learning_rate,
            schedule=plan.schedule,
            loss=plan.loss,
            spike_penalty=plan.spike_penalty,
            average=plan.average,
            shared_kernels=plan.shared_kernels,
            seed=plan.seed,
            device=self.device,
            ranks=self.ranks,
        )

    def _train_epoch(self) -> Generator[Event, None, EpochMeans]:
        per_epoch = len(self.trainer.samples)
        before, total = self.trainer.epoch * per_epoch, self.plan.epochs * per_epoch
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
        measured = self.outcome_of.after_epoch(self.network, epoch) if self.is_first else {}
        self.history.append(
            EpochRecord(
                epoch=epoch,
                loss=means.loss,
                train_accuracy=means.accuracy,
                spikes=means.spikes,
                seconds=time.perf_counter() - start,
                **measured,
            )
        )

    def _finish(self) -> Trained:
        start, cpu_start = time.perf_counter(), time.process_time()
        outcome = self.outcome_of.finish(self.trainer.result, self.trainer.epoch)
        self._charge(start, cpu_start)
        return Trained(
            outcome=outcome,
            history=tuple(self.history),
            num_parameters=num_parameters(self.network),
            num_train=len(self.trainer.samples),
            num_val=self.outcome_of.num_held_out,
            cost=self.cost,
        )

    def _charge(self, start: float, cpu_start: float) -> None:
        """Adds the time since a start to the cost; other ranks are taken to have used as much as this one."""
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        processes = 1 if self.ranks is None else self.ranks.size
        self.cost += Cost(wall, cpu * processes, wall * processes if self.device.type == "cuda" else 0.0)


def _note(history: list[EpochRecord]) -> str:
    if not history:
        return ""
    return f"loss {history[-1].loss:.3f} acc {100 * history[-1].train_accuracy:.0f}%"
