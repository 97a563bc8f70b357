"""Runs trainings as Ray tasks: shows their progress, stores their checkpoints, restarts lost ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.config.tree import Config
from pipeline.console import TrainingProgress, say
from pipeline.node_facts import NodeFacts, check_node, describe_this_node
from pipeline.ray.nodes import leaving_nodes
from pipeline.ray.waiting import SECONDS_BETWEEN_LOOKS
from pipeline.storage.names import checkpoint_of
from pipeline.storage.records import EpochRecord
from pipeline.storage.run_folder import RunFolder
from pipeline.training.group import Group, train_together
from pipeline.training.job import Checkpoint, Event, Progress, Started, Trained, run_training
from pipeline.training.plan import TrainingPlan
from snn.training.trainer import TrainingDiverged

logger = logging.getLogger(__name__)

_STARTS_PER_TRAINING = 4


def run_trainings(
    run: RunFolder,
    plans: Sequence[TrainingPlan],
    on_trained: Callable[[TrainingPlan, Trained], None],
    *,
    title: str,
    num_threads: int,
    group: Group,
) -> None:
    """Runs trainings, as many at once as the cluster's CPUs and GPUs hold.

    Args:
        run: Where checkpoints and curves are stored. A training resumes from its checkpoint, which is removed
            at the end.
        plans: What to train.
        on_trained: Called with each plan and its result, as it finishes.
        title: What the progress bar is called.
        num_threads: Shares of the work of each training step, which rounding depends on: torch's threads.
        group: Workers of each training; threads, CPUs and GPUs are of each of them.

    Raises:
        TrainingDiverged: A loss is not finite; the last good checkpoint stays.
        RuntimeError: A training's process died again and again.
    """
    stage = _Stage(run, plans, on_trained, title, num_threads, group)
    try:
        stage.run_all()
    finally:
        stage.stop()


def _train(
    plan: TrainingPlan, checkpoint: bytes | None, num_threads: int, driver: NodeFacts | None
) -> Generator[Event]:
    """The task: `run_training`, and before its events that it has begun."""
    check_node(plan.config, driver)
    yield Started(ray.get_runtime_context().get_node_id(), 1)
    yield from run_training(plan, checkpoint, num_threads)


@dataclass
class _Running:
    """A training under way.

    Attributes:
        plan: What is trained.
        events: The stream of its events.
        node: Id of its node; empty until it has begun.
        starts: How often it was started, but for those that had to leave their node.
        samples: Samples it has reported.
        num_workers: Workers that train together; 0 until they have begun.
    """

    plan: TrainingPlan
    events: Any
    node: str = ""
    starts: int = 1
    samples: int = 0
    num_workers: int = 0


class _Stage:
    """The trainings under way; the arguments are those of run_trainings."""

    def __init__(
        self,
        run: RunFolder,
        plans: Sequence[TrainingPlan],
        on_trained: Callable[[TrainingPlan, Trained], None],
        title: str,
        num_threads: int,
        group: Group,
    ) -> None:
        self.run = run
        self.on_trained = on_trained
        self.title = title
        self.num_threads = num_threads
        self.group = group
        self.num_plans = len(plans)
        self.bar: TrainingProgress | None = None
        self.waiting = group.waiting()
        self.next_look = 0.0
        self.driver = self._describe_driver(plans[0].config) if plans else None
        self.running = [_Running(plan, self._start(plan)) for plan in plans]

    @staticmethod
    def _describe_driver(config: Config) -> NodeFacts | None:
        """What the nodes of a cluster must have in common with this one; None on this machine alone."""
        return None if config.ray.address is None else describe_this_node(config)

    def run_all(self) -> None:
        """Handles events as they arrive until every training has ended."""
        while self.running:
            self._clear_leaving_nodes()
            ready, _ = ray.wait(
                [t.events for t in self.running], num_returns=1, timeout=SECONDS_BETWEEN_LOOKS
            )
            if not ready:
                self.waiting.update(running=any(training.num_workers for training in self.running))
                continue
            training = next(t for t in self.running if t.events == ready[0])
            try:
                with self._clear_errors(training.plan):
                    self._handle(training, ray.get(next(training.events)))
            except StopIteration:
                self.running.remove(training)
            except ray.exceptions.RayError as error:
                self._restart(training, error)

    def stop(self) -> None:
        """Ends what is still running, after an error or Ctrl-C."""
        if self.bar is not None:
            self.bar.close()
        for training in self.running:
            ray.cancel(training.events, force=True)

    def _start(self, plan: TrainingPlan) -> Any:
        group, together = self.group, self.group.workers != (1,)
        task = ray.remote(train_together if together else _train).options(
            name="run_training",
            num_cpus=0 if together else group.num_cpus,
            num_gpus=0 if together else group.num_gpus,
            max_retries=0,
            num_returns="streaming",
        )
        checkpoint = self.run.read_checkpoint(plan.number)
        return task.remote(plan, checkpoint, self.num_threads, self.driver, *([group] if together else []))

    def _clear_leaving_nodes(self) -> None:
        """Moves trainings away from nodes that leave; they go on from their last checkpoint."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        leaving = leaving_nodes()
        for training in self.running:
            if training.node in leaving:
                logger.warning("a node leaves; its training goes on elsewhere")
                ray.cancel(training.events, force=True)
                training.events, training.node = self._start(training.plan), ""

    def _restart(self, training: _Running, error: ray.exceptions.RayError) -> None:
        if training.starts == _STARTS_PER_TRAINING:
            raise RuntimeError(
                f"The process of {self.title} died {training.starts} times; the last error: {error}. "
                "It may have run out of memory: lower its batch_size."
            ) from error
        logger.warning("a training process was lost (%s); starting it again", type(error).__name__)
        training.events, training.node = self._start(training.plan), ""
        training.starts += 1

    def _handle(self, training: _Running, event: Event) -> None:
        plan = training.plan
        if isinstance(event, Started):
            training.node = event.node or training.node
            if event.num_workers:
                self._begin(training, event.num_workers)
        elif isinstance(event, Progress):
            if self.bar is None:
                self.bar = TrainingProgress(self.title, event.total * self.num_plans)
            self.bar.advance(event.samples - training.samples, event.note)
            training.samples = event.samples
        elif isinstance(event, EpochRecord):
            self.run.write_curves(plan.number, event)
        elif isinstance(event, Checkpoint):
            self.run.write_checkpoint(plan.number, event.data)
        else:
            self.on_trained(plan, event)
            self.run.files.delete(checkpoint_of(plan.number))

    def _begin(self, training: _Running, num_workers: int) -> None:
        if self.group.workers != (1,):
            again = ", from its last epoch on" if training.num_workers else ""
            say(f"  {self.title} with {num_workers} worker{'s' if num_workers != 1 else ''}{again}")
        training.num_workers = num_workers

    @contextmanager
    def _clear_errors(self, plan: TrainingPlan) -> Iterator[None]:
        """Raises the error that was raised inside a task; a lost process stays a RayError."""
        try:
            yield
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, TrainingDiverged):
                raise cause from None
            checkpoint = checkpoint_of(plan.number)
            exists = self.run.files.exists(checkpoint)
            text = f" The last good checkpoint is kept: {self.run.shown(checkpoint)}" if exists else ""
            raise TrainingDiverged(f"{cause}{text}") from None
