"""Runs trainings as Ray tasks: shows their progress, keeps their checkpoints, starts lost ones again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipeline.console import TrainingProgress
from pipeline.storage.curves import write_curves
from pipeline.storage.files import write_bytes
from pipeline.storage.records import EpochRecord
from pipeline.training.job import Checkpoint, Event, Progress, Trained, TrainingJob, run_training
from snn.training.trainer import TrainingDiverged

logger = logging.getLogger(__name__)

_STARTS_PER_JOB = 4


@dataclass
class _Running:
    """A job on its way: its place in the list, the stream of its events, what it has shown."""

    place: int
    events: Any
    starts: int = 1
    samples: int = 0


def run_trainings(
    jobs: Sequence[TrainingJob],
    checkpoints: Sequence[Path],
    curves: Sequence[Path],
    on_trained: Callable[[int, Trained], None],
    *,
    title: str,
    num_threads: int,
    num_gpus: float,
) -> None:
    """Runs the jobs, as many at once as the cluster's CPUs and GPUs hold.

    Args:
        jobs: What to train.
        checkpoints: Of each job the file of its last state; read to go on, removed at the end.
        curves: Of each job the folder of its TensorBoard files.
        on_trained: Gets the place of a job and its result, as it finishes.
        title: What the bar is called.
        num_threads: CPUs and torch threads of each job.
        num_gpus: GPUs of each job.

    Raises:
        TrainingDiverged: A loss is no finite number; its last good checkpoint stays.
        RuntimeError: A job's process died again and again.
    """

    stage = _Stage(jobs, checkpoints, curves, on_trained, title, num_threads, num_gpus)
    try:
        stage.run()
    finally:
        stage.stop()


class _Stage:
    """The jobs on their way and what becomes of their events; the arguments are those of run_trainings."""

    def __init__(
        self,
        jobs: Sequence[TrainingJob],
        checkpoints: Sequence[Path],
        curves: Sequence[Path],
        on_trained: Callable[[int, Trained], None],
        title: str,
        num_threads: int,
        num_gpus: float,
    ) -> None:
        self.jobs = jobs
        self.checkpoints = checkpoints
        self.curves = curves
        self.on_trained = on_trained
        self.title = title
        self.num_threads = num_threads
        self.num_gpus = num_gpus
        self.bar: TrainingProgress | None = None
        self.running = {place: _Running(place, self._start(place)) for place in range(len(jobs))}

    def run(self) -> None:
        """Handles events as they come until every job is at its end."""
        while self.running:
            events = [job.events for job in self.running.values()]
            ready, _ = ray.wait(events, num_returns=1)
            job = next(job for job in self.running.values() if job.events == ready[0])
            try:
                with _clear_errors(self.checkpoints[job.place]):
                    self._handle(job, ray.get(next(job.events)))
            except StopIteration:
                del self.running[job.place]
            except ray.exceptions.RayError as error:
                self._start_again(job, error)

    def stop(self) -> None:
        """Ends what still runs, after an error or Ctrl-C."""
        if self.bar is not None:
            self.bar.close()
        for job in self.running.values():
            ray.cancel(job.events, force=True)

    def _start(self, place: int) -> Any:
        checkpoint = self.checkpoints[place]
        task = ray.remote(run_training).options(
            num_cpus=self.num_threads, num_gpus=self.num_gpus, max_retries=0, num_returns="streaming"
        )
        state = checkpoint.read_bytes() if checkpoint.exists() else None
        return task.remote(self.jobs[place], state, self.num_threads)

    def _start_again(self, job: _Running, error: ray.exceptions.RayError) -> None:
        if job.starts == _STARTS_PER_JOB:
            raise RuntimeError(
                f"The process of {self.title} died {job.starts} times; the last error: {error}. "
                "It may have run out of memory: lower its batch_size."
            ) from error
        logger.warning("a training process was lost (%s); starting it again", type(error).__name__)
        job.events, job.starts = self._start(job.place), job.starts + 1

    def _handle(self, job: _Running, event: Event) -> None:
        if isinstance(event, Progress):
            if self.bar is None:
                self.bar = TrainingProgress(self.title, event.total * len(self.jobs))
            self.bar.advance(event.samples - job.samples, event.note)
            job.samples = event.samples
        elif isinstance(event, EpochRecord):
            write_curves(self.curves[job.place], event)
        elif isinstance(event, Checkpoint):
            write_bytes(self.checkpoints[job.place], event.data)
        else:
            self.on_trained(job.place, event)
            self.checkpoints[job.place].unlink(missing_ok=True)


@contextmanager
def _clear_errors(checkpoint: Path) -> Iterator[None]:
    """Turns an error raised inside a task into that error itself; a lost process stays a RayError."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TrainingDiverged):
            kept = f" The last good checkpoint is kept: {checkpoint}" if checkpoint.exists() else ""
            raise TrainingDiverged(f"{cause}{kept}") from None
        raise cause from None
