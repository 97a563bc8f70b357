"""Stage 3: trains the chosen architectures from scratch and tests each of them once."""

from __future__ import annotations

from pipeline.config.tree import Config
from pipeline.finished import named_architecture, planned_networks, unfinished_networks
from pipeline.ray.session import Resources
from pipeline.storage.records import RetrainResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.children import train_children
from pipeline.training.finalists import choose_finalist
from pipeline.training.plan import plan_retraining


def retrain(run: RunFolder, config: Config, resources: Resources) -> list[RetrainResult]:
    """Retrains what the config names, once per seed; finished networks are not trained again.

    "best" is the search's choice, or with `retrain.finalists` the best of its first candidates.

    The epoch is chosen by accuracy on held-out training samples, then tested once. The paper's protocol,
    the best epoch on the test set, is reported beside it, labelled.

    Raises:
        FileNotFoundError: "best" is asked for, but the search is not finished.
        TrainingDiverged: A loss is not finite; the last good checkpoint stays.
    """
    networks = planned_networks(config)
    if _needs_finalist(config) and not run.has_finalists():
        choose_finalist(run, config, resources)
    plans, labels = [], dict[int | None, str]()
    for number in unfinished_networks(run, config):
        label, seed = networks[number]
        labels[number] = label
        plans.append(plan_retraining(config, number, named_architecture(run, config, label), seed))
    train_children(
        run, plans, resources, label=lambda plan: labels[plan.number], environment=run.read_environment()
    )
    return [run.read_retrained(number) for number in range(len(networks))]


def _needs_finalist(config: Config) -> bool:
    return config.retrain.finalists > 1 and "best" in config.retrain.architectures
