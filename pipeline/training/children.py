"""Trains child networks from scratch, chooses each one's epoch on held-out samples and tests it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.console import say
from pipeline.formats import percent
from pipeline.ray.session import Resources
from pipeline.storage.records import Environment, EpochRecord, PaperProtocol, RetrainResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.bundle import make_bundle
from pipeline.training.group import Group
from pipeline.training.job import Trained
from pipeline.training.plan import TrainingPlan
from pipeline.training.tasks import run_trainings
from snn.energy import operations_joules


def train_children(
    run: RunFolder,
    plans: Sequence[TrainingPlan],
    resources: Resources,
    *,
    label: Callable[[TrainingPlan], str],
    environment: Environment | None = None,
) -> None:
    """Trains children from scratch, stores each with its weights, and says how it did.

    Args:
        run: Where they are stored, by the plans' numbers.
        plans: From `plan_retraining`.
        resources: Of the cluster.
        label: What a network is called.
        environment: Where the run began; with it each network becomes a bundle.

    Raises:
        TrainingDiverged: A loss is not finite; the last good checkpoint stays.
    """

    def on_trained(plan: TrainingPlan, trained: Trained) -> None:
        assert plan.number is not None
        result = _result(label(plan), str(plan.architecture), plan.seed, trained)
        bundle = None if environment is None else make_bundle(plan.config, environment, result)
        run.write_retrained(plan.number, result, trained.outcome.weights, bundle)
        say(
            f"  {result.label}, seed {plan.seed}: {percent(result.test.accuracy)} of the test set, "
            f"{result.test.spikes:,.0f} spikes (epoch {result.chosen_epoch})"
        )

    if plans:
        run_trainings(
            run,
            plans,
            on_trained,
            title="retraining",
            num_threads=plans[0].config.threads_per_worker,
            group=Group.of_child(plans[0].config, resources),
        )


def _result(label: str, architecture: str, seed: int, trained: Trained) -> RetrainResult:
    outcome = trained.outcome
    assert outcome.test is not None
    chosen = trained.history[outcome.epoch - 1]
    assert chosen.val_accuracy is not None
    synops, macs = outcome.test.synops or 0.0, outcome.test.macs or 0.0
    return RetrainResult(
        label=label,
        architecture=architecture,
        seed=seed,
        num_parameters=trained.num_parameters,
        num_train=trained.num_train,
        num_val=trained.num_val,
        chosen_epoch=outcome.epoch,
        val_accuracy=chosen.val_accuracy,
        test=outcome.test,
        energy_joules=operations_joules(synops=synops, macs=macs),
        energy=outcome.energy,
        paper_protocol=_best_test_epoch(trained.history),
        cost=trained.cost,
        history=trained.history,
        time_course=outcome.time_course,
    )


def _best_test_epoch(history: tuple[EpochRecord, ...]) -> PaperProtocol | None:
    tested = [(r.test_accuracy, r.epoch, r.test_spikes) for r in history if r.test_accuracy is not None]
    if not tested:
        return None
    accuracy, epoch, spikes = max(tested, key=lambda entry: (entry[0], -entry[1]))
    assert spikes is not None
    return PaperProtocol(epoch, accuracy, spikes)
