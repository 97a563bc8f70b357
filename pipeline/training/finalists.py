"""Finalists: the candidates of highest fitness, trained shortly; the best of them is retrained in full.

The score of a super-network ranks with noise. A short training from scratch of its first K candidates is a
cheap insurance against it.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.data import load_data
from pipeline.formats import percent
from pipeline.ray.session import Resources
from pipeline.storage.records import EvaluationRow, Finalist, Finalists, complete_rows
from pipeline.storage.run_folder import RunFolder
from pipeline.training.pool import Pool

_SEED = 0


def choose_finalist(run: RunFolder, config: Config, resources: Resources) -> Finalists:
    """Trains the finalists, chooses the one of highest fitness on held-out samples, writes finalists.json.

    The test set has no part in the choice.

    Raises:
        FileNotFoundError: The search is not finished.
        TrainingDiverged: A loss is not finite.
    """
    settings = config.retrain
    epochs = settings.finalist_epochs or max(1, settings.epochs // 4)
    short = replace(
        settings,
        epochs=epochs,
        eval_every=min(settings.eval_every, epochs),
        paper_protocol=False,
    )
    short_config, reference = replace(config, retrain=short), run.read_best().spikes_reference
    first = first_candidates(run.read_evaluations(), config)
    say(f"  {len(first)} finalists, {epochs} epoch{'s' if epochs != 1 else ''} each")
    pool = Pool(run, short_config, load_data(config))
    architectures = [config.network.parse_architecture(row.architecture) for row in first]
    pool.train([(architecture, _SEED) for architecture in architectures], resources)
    rows = []
    for row, architecture in zip(first, architectures, strict=True):
        trained = pool.read(architecture, _SEED)
        spikes = trained.history[trained.chosen_epoch - 1].val_spikes or 0.0
        assert row.fitness is not None and row.evaluation is not None
        # operations are not counted while training: those of the search stand for them
        measured = replace(row.evaluation, accuracy=trained.val_accuracy, spikes=spikes)
        fitness = config.search.fitness(measured, reference)
        rows.append(Finalist(row.architecture, row.fitness, trained.val_accuracy, spikes, fitness))
    best = max(rows, key=lambda row: row.fitness)
    result = Finalists(epochs, tuple(rows), best.architecture)
    run.write_finalists(result)
    say(
        f"  best finalist: {percent(best.val_accuracy)} of the held-out samples, "
        f"{best.val_spikes:,.0f} spikes\n    {best.architecture}"
    )
    return result


def first_candidates(rows: list[EvaluationRow], config: Config) -> list[EvaluationRow]:
    """The rows of highest fitness, at most `retrain.finalists`, each of another architecture.

    Those above a budget come last, the least excess first.
    """

    def order(row: EvaluationRow) -> tuple[float, float, int]:
        assert row.evaluation is not None and row.fitness is not None
        return config.search.excess(row.evaluation), -row.fitness, row.candidate_id

    distinct = {row.architecture: row for row in sorted(complete_rows(rows), key=order, reverse=True)}
    return sorted(distinct.values(), key=order)[: config.retrain.finalists]
