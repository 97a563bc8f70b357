"""Runs trainings as Ray tasks: shows their progress, keeps their checkpoints, starts lost ones again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pipeline.artifacts import write_bytes
from pipeline.console import TrainingProgress, say
from pipeline.curves import write_curves
from pipeline.records import EpochRecord
from pipeline.training_job import Checkpoint, Event, Progress, Trained, TrainingJob, run_training
from snn.training import TrainingDiverged

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

    def start(place: int) -> Any:
        checkpoint = checkpoints[place].read_bytes() if checkpoints[place].exists() else None
        task = ray.remote(run_training).options(
            num_cpus=num_threads, num_gpus=num_gpus, max_retries=0, num_returns="streaming"
        )
        return task.remote(jobs[place], checkpoint, num_threads)

    running = {place: _Running(place, start(place)) for place in range(len(jobs))}
    bar: TrainingProgress | None = None
    try:
        while running:
            job = _next_ready(list(running.values()))
            try:
                with _clear_errors(checkpoints[job.place]):
                    event = _next_event(job)
            except ray.exceptions.RayError as error:
                if job.starts == _STARTS_PER_JOB:
                    raise RuntimeError(
                        f"The process of {title} died {job.starts} times; the last error: {error}. "
                        "It may have run out of memory: lower its batch_size."
                    ) from error
                say(f"  a training process was lost ({type(error).__name__}); starting it again")
                job.events, job.starts = start(job.place), job.starts + 1
                continue
            if event is None:
                del running[job.place]
            elif isinstance(event, Progress):
                if bar is None:
                    bar = TrainingProgress(title, event.total * len(jobs))
                bar.advance(event.samples - job.samples, event.note)
                job.samples = event.samples
            elif isinstance(event, EpochRecord):
                write_curves(curves[job.place], event)
            elif isinstance(event, Checkpoint):
                write_bytes(checkpoints[job.place], event.data)
            else:
                on_trained(job.place, event)
                checkpoints[job.place].unlink(missing_ok=True)
    finally:
        if bar is not None:
            bar.close()
        for job in running.values():
            ray.cancel(job.events, force=True)


def _next_ready(running: Sequence[_Running]) -> _Running:
    ready, _ = ray.wait([job.events for job in running], num_returns=1)
    return next(job for job in running if job.events == ready[0])


def _next_event(job: _Running) -> Event | None:
    try:
        event: Event = ray.get(next(job.events))
    except StopIteration:
        return None
    return event


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
