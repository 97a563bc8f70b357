"""Stage 3: trains the chosen architectures from scratch and tests each of them once."""

from __future__ import annotations

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.formats import percent
from pipeline.ray.session import Resources
from pipeline.storage.names import metrics_of
from pipeline.storage.records import EpochRecord, PaperProtocol, RetrainResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.job import Trained
from pipeline.training.plan import TrainingPlan, plan_retraining
from pipeline.training.tasks import run_trainings
from snn.model.spikes import energy_joules
from snn.search_space import Architecture


def retrain(run: RunFolder, config: Config, resources: Resources) -> list[RetrainResult]:
    """Retrains what the config names, once per seed; finished networks are not trained again.

    The epoch is chosen by accuracy on held-out training samples, then tested once. The paper's protocol,
    the best epoch on the test set, is reported beside it, labelled.

    Raises:
        FileNotFoundError: "best" is asked for, but the search is not finished.
        TrainingDiverged: A loss is not finite; the last good checkpoint stays.
    """
    networks = planned_networks(config)
    plans = []
    for number in unfinished_networks(run, config):
        label, seed = networks[number]
        plans.append(plan_retraining(config, number, _architecture(run, config, label), seed))

    def on_trained(plan: TrainingPlan, trained: Trained) -> None:
        assert plan.number is not None
        label, seed = networks[plan.number]
        result = _result(label, str(plan.architecture), seed, trained)
        run.write_retrained(plan.number, result, trained.outcome.weights)
        say(
            f"  {label}, seed {seed}: {percent(result.test.accuracy)} of the test set, "
            f"{result.test.spikes:,.0f} spikes (epoch {result.chosen_epoch})"
        )

    run_trainings(
        run,
        plans,
        on_trained,
        title="retraining",
        num_threads=config.threads_per_worker,
        num_gpus=resources.training_gpus,
    )
    return [run.read_retrained(number) for number in range(len(networks))]


def planned_networks(config: Config) -> list[tuple[str, int]]:
    """(label, seed) of each network that is retrained; its number is its index."""
    return [(label, seed) for label in config.retrain.architectures for seed in config.retrain.seeds]


def unfinished_networks(run: RunFolder, config: Config) -> list[int]:
    """Numbers of the networks that are still to be retrained.

    Raises:
        FileNotFoundError: The weights of a finished one are missing.
        ValueError: Its files are damaged or of other settings, or it is not what the search chose.
    """
    finished = run.retrained_numbers()
    unfinished = []
    for number, (label, _) in enumerate(planned_networks(config)):
        if number not in finished:
            unfinished.append(number)
            continue
        run.retrained_weights(number)
        there, chosen = run.read_retrained(number).architecture, _architecture(run, config, label)
        if there != str(chosen):
            raise ValueError(
                f"'{run.shown(metrics_of(number))}' is of {there}, but '{label}' is {chosen}. Restore the "
                "file that belongs to it, or delete this one to train again."
            )
    return unfinished


def _architecture(run: RunFolder, config: Config, label: str) -> Architecture:
    text = run.read_best().best.architecture if label == "best" else label
    return config.network.parse_architecture(text)


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
        energy_joules=energy_joules(synops=synops, macs=macs),
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
