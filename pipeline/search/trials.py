"""Runs the trials of a search through Ray Tune, on warm trial actors."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from pipeline.interruption import catch_signals
from pipeline.ray.waiting import Waiting
from pipeline.search.guard import Guard
from pipeline.search.searcher import AskTellSearcher


@dataclass
class Trials:
    """What the trials of a search took.

    Attributes:
        busy_seconds: Seconds of evaluation, of all workers.
        cpu_seconds: CPU seconds of them.
        block_runs: As in SearchResult.
        workers: Names of the processes that answered.
        most_at_once: How many trials ran at the same time, at most.
    """

    busy_seconds: float = 0.0
    cpu_seconds: float = 0.0
    block_runs: int = 0
    workers: set[str] = field(default_factory=set)
    most_at_once: int = 0

    def add(self, result: Mapping[str, Any]) -> None:
        """Adds the result of a trial; empty for one that was lost."""
        self.busy_seconds += result.get("busy_seconds", 0.0)
        self.cpu_seconds += result.get("cpu_seconds", 0.0)
        self.block_runs += result.get("block_runs", 0)
        self.workers |= {answer.worker for answer in result.get("answers", ())}


def run_trials(
    searcher: AskTellSearcher,
    trainable: Any,
    *,
    num_workers: int,
    cpus: float = 1,
    gpus: float = 0,
    seconds_per_candidate: float = 600.0,
) -> Trials:
    """Runs trials until the searcher is finished.

    Args:
        searcher: Says what is evaluated.
        trainable: A Tune trainable that takes trials as `pipeline.search.evaluator.Evaluator` does.
        num_workers: Trial actors at once.
        cpus: CPUs of each.
        gpus: GPUs of each, fractions allowed.
        seconds_per_candidate: After that an evaluator is considered hung and replaced.
    """
    # A variable for PyTorch Lightning. With it, trials would not be given the workers that Ray has started.
    class_cache.DEFAULT_ENV_VARS.clear()
    with tempfile.TemporaryDirectory(prefix="tune-") as storage:
        step = _Step(Waiting("a trial actor", cpus, gpus), Guard(seconds_per_candidate, searcher.release))
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_Scheduler(searcher),
                num_samples=-1,
                max_concurrent_trials=num_workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                callbacks=[step],
                storage_path=storage,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),  # the searcher hands out what was lost
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
        return step.ended


class _Scheduler(FIFOScheduler):
    """Gives a new trial the actor that became free; ends trials at the rungs where the searcher says so.

    Tune would give that actor to any trial that waits, also to one whose own actor is starting, which it
    ends then. Where actors take longer to start than trials last, most would never get to work. A trial for
    whose own actor there is no room goes first: it might wait for ever.
    """

    def __init__(self, searcher: AskTellSearcher) -> None:
        super().__init__()
        self.searcher = searcher
        self._new: Trial | None = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._new = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        for actor in tune_controller._actor_manager.pending_actors:  # those without room, the oldest first
            trial: Trial | None = tune_controller._actor_to_trial.get(actor)
            if trial is not None and trial.status == Trial.PENDING:
                return trial
        chosen, self._new = self._new, None
        return chosen

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        drops = self.searcher.drops(trial.trial_id, result)
        return str(FIFOScheduler.STOP if drops else FIFOScheduler.CONTINUE)


class _Step(tune.Callback):
    """Shows the trials to Waiting and Guard at each step of Tune, and keeps Tune's hands off signals.

    Tune keeps every trial with its last result and statistics of it, which in a long search take most of the
    driver's memory. Of an ended one only what `Trials` adds up is kept.
    """

    def __init__(self, waiting: Waiting, guard: Guard) -> None:
        self.waiting = waiting
        self.guard = guard
        self.ended = Trials()
        self._num_ended = 0  # so many of the first trials have ended

    def on_step_begin(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        catch_signals()  # Tune would end a search at SIGUSR1 as if it were finished
        self._let_go(trials)
        running = [trial for trial in trials[self._num_ended :] if trial.status == Trial.RUNNING]
        self.ended.most_at_once = max(self.ended.most_at_once, len(running))
        self.waiting.update(running=self._num_ended == len(trials) or bool(running))
        self.guard.look(running)

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        self._let_go(trials)

    def _let_go(self, trials: Sequence[Trial]) -> None:
        while self._num_ended < len(trials) and trials[self._num_ended].is_finished():
            trial = trials[self._num_ended]
            self.ended.add(trial.last_result)
            metadata = trial.run_metadata
            metadata.last_result, metadata.metric_analysis, metadata.metric_n_steps = {}, {}, {}
            self._num_ended += 1
