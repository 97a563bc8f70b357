"""A training on several workers at once: data-parallel, through Ray Train.

Ray Train places the workers, connects them, watches over them, and ends all of them when one is lost or
their number shall change. They begin anew, as many as there is room for, from the state after the last
epoch, which a mailbox keeps. Through it the events of rank 0 reach the driver too.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import ray
import torch

from pipeline.config.tree import Config
from pipeline.node_facts import NodeFacts, check_node
from pipeline.ray.session import Resources
from pipeline.ray.waiting import Waiting
from pipeline.training.job import Checkpoint, Event, Started, run_training
from pipeline.training.plan import TrainingPlan
from snn.training.ranks import Ranks
from snn.training.trainer import TrainingDiverged

_FAILURES_PER_EPOCH = 3
_SECONDS_BETWEEN_LOOKS = 0.5


class WorkersLost(RuntimeError):
    """A training's workers died again and again."""


@dataclass(frozen=True)
class Group:
    """The workers of a training.

    Attributes:
        workers: Their number, or the least and the most.
        num_cpus: CPUs of each.
        num_gpus: GPUs of each.
    """

    workers: tuple[int, ...]
    num_cpus: int
    num_gpus: float

    @classmethod
    def of_supernet(cls, config: Config, resources: Resources) -> Group:
        """The workers of stage 1."""
        return cls(config.training.workers, resources.training_cpus, resources.training_gpus)

    @classmethod
    def of_child(cls, config: Config, resources: Resources) -> Group:
        """The workers of each network of stage 3."""
        return cls(config.training.retrain_workers, config.threads_per_worker, resources.training_gpus)

    def waiting(self) -> Waiting:
        """Watches the training until it has begun."""
        number = self.workers[0]
        what = "a training" if number == 1 else f"a training with {number} workers"
        return Waiting(what, self.num_cpus, self.num_gpus, number=number)


def train_together(
    plan: TrainingPlan, checkpoint: bytes | None, num_threads: int, driver: NodeFacts | None, group: Group
) -> Generator[Event]:
    """Trains with several workers; the events are those of `run_training`.

    Args:
        plan: What to train.
        checkpoint: A state to resume from.
        num_threads: CPU threads of each worker.
        driver: What the workers' nodes must have in common with the driver's.
        group: The workers.

    Raises:
        TrainingDiverged: The loss is not finite.
        WorkersLost: Workers died again and again without an epoch in between.
        ValueError: A node differs from the driver's.
    """
    mailbox: Any = ray.remote(_Mailbox).options(num_cpus=0).remote(checkpoint)
    yield Started(ray.get_runtime_context().get_node_id(), 0)
    failures = 0
    while True:
        fit = _Fit(_rank_function(plan, num_threads, driver, mailbox), group)
        finished = False
        while not finished:
            finished = fit.wait(_SECONDS_BETWEEN_LOOKS)
            for event in ray.get(mailbox.take.remote()):
                if isinstance(event, Checkpoint):
                    failures = 0
                if not isinstance(event, Checkpoint) or event.epoch % plan.checkpoint_every == 0:
                    yield event
        if fit.error is None:
            return
        if (cause := ray.get(mailbox.cause.remote())) is not None:
            raise cause
        failures += 1
        if failures > _FAILURES_PER_EPOCH:
            raise WorkersLost(
                f"The workers of a training died {failures} times; the last error: {fit.error}. They may "
                "have run out of memory: lower its batch_size."
            )


class _Mailbox:
    """An actor that keeps what the ranks report until it is taken, and the last state.

    Args:
        checkpoint: The state to begin with.
    """

    def __init__(self, checkpoint: bytes | None) -> None:
        self.checkpoint = checkpoint
        self.events: list[Event] = []
        self.error: Exception | None = None

    def put(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Checkpoint):
            self.checkpoint = event.data

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def last_state(self) -> bytes | None:
        return self.checkpoint

    def fail(self, error: Exception) -> None:
        self.error = error

    def cause(self) -> Exception | None:
        """The error of a rank that another attempt would meet again."""
        return self.error


class _Fit:
    """A call of Ray Train's `fit` in a thread of its own: the life of one set of workers, or of several if
    nodes leave in an orderly way.

    Attributes:
        error: What it ended with.
    """

    def __init__(self, train_rank: Any, group: Group) -> None:
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(train_rank, group), daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Waits for its end, not longer than this; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self, train_rank: Any, group: Group) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        number: Any = group.workers if len(group.workers) > 1 else group.workers[0]
        scaling = ScalingConfig(
            num_workers=number,
            use_gpu=group.num_gpus > 0,
            resources_per_worker={"CPU": group.num_cpus, "GPU": group.num_gpus},
        )
        with tempfile.TemporaryDirectory(prefix="autosnn-train-") as folder:
            run = RunConfig(
                name="training", storage_path=folder, failure_config=FailureConfig(max_failures=0)
            )
            try:
                TorchTrainer(train_rank, scaling_config=scaling, run_config=run).fit()
            except Exception as error:
                self.error = error


def _rank_function(plan: TrainingPlan, num_threads: int, driver: NodeFacts | None, mailbox: Any) -> Any:
    """What each worker runs."""
    each_epoch = dataclasses.replace(plan, checkpoint_every=1)

    def train_rank() -> None:
        from ray.train.torch import get_device

        try:
            check_node(plan.config, driver)
            if (device := get_device()).type == "cuda":
                torch.cuda.set_device(device)
            ranks = Ranks()
            events = run_training(each_epoch, ray.get(mailbox.last_state.remote()), num_threads, ranks)
            if ranks.rank == 0:
                ray.get(mailbox.put.remote(Started("", ranks.size)))
            for event in events:
                if ranks.rank == 0:
                    ray.get(mailbox.put.remote(event))
        except Exception as error:
            # A RuntimeError may only say that another rank was lost.
            if isinstance(error, TrainingDiverged) or not isinstance(error, RuntimeError):
                ray.get(mailbox.fail.remote(error))
            raise

    return train_rank
