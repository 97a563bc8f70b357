"""Stage 3: trains the chosen architectures from scratch and tests each once."""

from __future__ import annotations

from safetensors.torch import save_file

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.formats import percent
from pipeline.ray_session import ray_session
from pipeline.storage.files import write_json, write_with
from pipeline.storage.records import EpochRecord, PaperProtocol, RetrainResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.job import Trained, TrainingJob
from pipeline.training.tasks import run_trainings
from snn.model.spikes import energy_joules


def retrain(run: RunFolder, config: Config) -> list[RetrainResult]:
    """Retrains what the config names, once per seed; finished networks are not trained again.

    The epoch is chosen by accuracy on held-out training samples, then tested once. The paper's protocol,
    the best epoch on the test set, is reported beside it, labelled.

    Raises:
        FileNotFoundError: "best" is asked for, but the search is not finished.
        TrainingDiverged: A loss is no finite number; the last good checkpoint stays.
    """
    planned = [
        (number, label, _architecture(run, config, label), seed)
        for number, (label, seed) in enumerate(
            (label, seed) for label in config.retrain.architectures for seed in config.retrain.seeds
        )
    ]
    open_jobs = [plan for plan in planned if not run.retrained_metrics_file(plan[0]).exists()]

    def on_trained(place: int, trained: Trained) -> None:
        number, label, architecture, seed = open_jobs[place]
        result = _result(label, architecture, seed, trained)
        write_with(run.retrained_weights_file(number), lambda path: save_file(trained.weights, path))
        write_json(run.retrained_metrics_file(number), result)
        say(
            f"  {label}, seed {seed}: {percent(result.test.accuracy)} of the test set, "
            f"{result.test.spikes:,.0f} spikes (epoch {result.chosen_epoch})"
        )

    if open_jobs:
        with ray_session(config) as resources:
            run_trainings(
                [TrainingJob(config, architecture, seed) for _, _, architecture, seed in open_jobs],
                [run.retrained_checkpoint_file(number) for number, *_ in open_jobs],
                [run.curves_folder(f"retrained-{number}") for number, *_ in open_jobs],
                on_trained,
                title="retraining",
                num_threads=config.threads_per_worker,
                num_gpus=resources.training_gpus,
            )
    return [run.read_retrained(number) for number, *_ in planned]


def _architecture(run: RunFolder, config: Config, label: str) -> str:
    if label == "best":
        return run.read_best().best.architecture
    return str(config.network.parse_architecture(label))


def _result(label: str, architecture: str, seed: int, trained: Trained) -> RetrainResult:
    assert trained.test is not None
    chosen = trained.history[trained.chosen_epoch - 1]
    assert chosen.val_accuracy is not None
    synops, macs = trained.test.synops or 0.0, trained.test.macs or 0.0
    return RetrainResult(
        label=label,
        architecture=architecture,
        seed=seed,
        num_parameters=trained.num_parameters,
        num_train=trained.num_train,
        num_val=trained.num_val,
        chosen_epoch=trained.chosen_epoch,
        val_accuracy=chosen.val_accuracy,
        test=trained.test,
        energy_joules=energy_joules(synops=synops, macs=macs),
        paper_protocol=_best_test_epoch(trained.history),
        cost=trained.cost,
        history=trained.history,
        time_course=trained.time_course,
    )


def _best_test_epoch(history: tuple[EpochRecord, ...]) -> PaperProtocol | None:
    tested = [(r.test_accuracy, r.epoch, r.test_spikes) for r in history if r.test_accuracy is not None]
    if not tested:
        return None
    accuracy, epoch, spikes = max(tested, key=lambda entry: (entry[0], -entry[1]))
    assert spikes is not None
    return PaperProtocol(epoch, accuracy, spikes)
