"""Stage 1: trains the super-network and measures the reference of the spike-aware fitness."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config.tree import Config, list_differences
from pipeline.console import say
from pipeline.data import RunData
from pipeline.formats import duration, percent
from pipeline.networks import make_network
from pipeline.ray.session import Resources
from pipeline.storage.records import Cost, SupernetResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.group import Group
from pipeline.training.job import Trained
from pipeline.training.plan import TrainingPlan, plan_supernet
from pipeline.training.tasks import run_trainings
from snn.engines.trie import evaluate_architectures
from snn.model.network import SpikingNetwork, num_parameters
from snn.model.reference import OfficialSupernet, read_official_supernet
from snn.search_space import AUTOSNN_BLOCKS
from snn.training.trainer import TrainingDiverged

# Random paths on which the spikes_reference of an imported super-network is measured.
_NUM_REFERENCE_PATHS = 64


def train_supernet(run: RunFolder, config: Config, resources: Resources) -> SupernetResult:
    """Trains on D_train, one uniformly drawn path per step, and writes weights and supernet.json.

    spikes_reference (the paper's N_avg) is the mean number of spikes per sample over the last epoch, each
    step on its own random path. Differs from the official code, which averages over its whole log.

    Raises:
        TrainingDiverged: The loss is not finite, or nothing fires; the last good checkpoint stays.
    """

    def on_trained(_plan: TrainingPlan, trained: Trained) -> None:
        last = trained.history[-1]
        if not last.spikes:
            raise TrainingDiverged(
                "The super-network fires no spikes, so there is nothing to search for. In another folder, "
                f"lower network.v_threshold ({config.network.v_threshold:g}) or supernet.learning_rate."
            )
        result = SupernetResult(
            source="trained",
            weights_sha256=run.write_supernet_weights(trained.outcome.weights),
            spikes_reference=last.spikes,
            num_train=trained.num_train,
            num_val=trained.num_val,
            num_parameters=trained.num_parameters,
            cost=trained.cost,
            history=trained.history,
        )
        run.write_supernet(result)
        rate = len(trained.history) * trained.num_train / trained.cost.wall_seconds
        say(
            f"  {len(trained.history)} epochs on {trained.num_train:,} samples in "
            f"{duration(trained.cost.wall_seconds)} ({rate:,.0f} samples/s)\n"
            f"  accuracy of random paths {percent(last.train_accuracy)}, "
            f"spikes_reference {last.spikes:,.0f}"
        )

    run_trainings(
        run,
        [plan_supernet(config)],
        on_trained,
        title="super-network",
        num_threads=config.training_threads,
        group=Group.of_supernet(config, resources),
    )
    return run.read_supernet()


@dataclass(frozen=True)
class ImportedSupernet:
    """A super-network of the official code that fits a run, before anything of it is written.

    Attributes:
        source: Name of its file.
        weights: State dict under our names.
        num_parameters: Number of trained numbers in it.
        spikes_reference: Mean spikes per sample of 64 random paths on the part of D_val that the search uses.
    """

    source: str
    weights: dict[str, Tensor]
    num_parameters: int
    spikes_reference: float


def read_checkpoint(data: RunData, checkpoint: Path) -> ImportedSupernet:
    """Reads a super-network of the official code for a run on `data`, and measures its spikes_reference.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: The checkpoint cannot be read, does not fit the run's settings, or fires no spikes.
    """
    config, official = data.config, read_official_supernet(checkpoint)
    supernet = make_network(config.network, data)
    _check_fits(official, supernet, config, checkpoint)
    supernet.load_state_dict(official.weights)
    rng, space = random.Random(config.seed), config.network.search_space()
    paths = [space.sample(rng) for _ in range(_NUM_REFERENCE_PATHS)]
    batches = data.search_val().batches(config.search.batch_size, torch.device("cpu"))
    spikes = [result.spikes for result in evaluate_architectures(supernet, paths, batches)]
    if not any(spikes):
        raise ValueError(
            f"The super-network of checkpoint '{checkpoint}' fires no spikes on D_val, so there is nothing "
            "to search for: check its training, --data.* and --network.*, above all network.v_threshold."
        )
    return ImportedSupernet(
        source=checkpoint.name,
        weights=official.weights,
        num_parameters=num_parameters(supernet),
        spikes_reference=sum(spikes) / len(spikes),
    )


def write_imported(run: RunFolder, data: RunData, supernet: ImportedSupernet) -> None:
    """Starts a run on `data` from an imported super-network instead of training one."""
    result = SupernetResult(
        source=supernet.source,
        weights_sha256=run.write_supernet_weights(supernet.weights),
        spikes_reference=supernet.spikes_reference,
        num_train=len(data.supernet_train()),
        num_val=len(data.val()),
        num_parameters=supernet.num_parameters,
        cost=Cost(),
    )
    run.write_supernet(result)


def _check_fits(
    official: OfficialSupernet, supernet: SpikingNetwork, config: Config, checkpoint: Path
) -> None:
    network, (in_channels, height, width) = config.network, supernet.input_shape
    compared = {
        "backbone": ("AutoSNN", network.backbone),
        "channels": (official.channels, network.channels),
        "blocks": (AUTOSNN_BLOCKS, network.blocks),
        "neuron": ("PLIF", network.neuron),
        "classes": (official.num_classes, supernet.num_classes),
        "input channels": (official.in_channels, in_channels),
        "stem": ("image", supernet.backbone.stem),
        f"inputs of the head for {height}x{width} pixels": (official.num_features, supernet.head.in_features),
    }
    differences = [
        f"{name} {theirs} there, {ours} in the run"
        for name, (theirs, ours) in compared.items()
        if theirs != ours
    ]
    if differences:
        raise ValueError(
            f"Checkpoint '{checkpoint}' does not fit config '{config.name}': {'; '.join(differences)}. "
            "Choose the config with --config and its settings with --network.*."
        )


def reuse_supernet(run: RunFolder, data: RunData, source: RunFolder) -> None:
    """Starts a run on `data` from the finished super-network of another run instead of training one.

    Raises:
        FileNotFoundError: The other run has no super-network.
        ValueError: It was trained with other settings or on other data, or its weights are damaged.
    """
    run.check(data.config)
    result = source.read_supernet()
    trained_on = source.read_environment().data["D_train"].fingerprint
    differences = list_differences(
        _identity(source.read_config(), trained_on),
        _identity(data.config, data.train.fingerprint),
    )
    if differences:
        raise ValueError(
            f"The super-network of '{source}' was trained with other settings:\n{differences}\n"
            "Use the same settings, or train a super-network by leaving --reuse-supernet out."
        )
    run.copy_supernet_weights(source)
    run.write_supernet(replace(result, source=f"trained in {source}"))
    say(f"super-network taken from {source}")


def _identity(config: Config, fingerprint: str) -> dict[str, Any]:
    """All that a super-network depends on, as `section.field` -> value."""
    settings = ("seed", "training_threads", "data.", "network.", "supernet.")
    kept = {key: value for key, value in config.identity().items() if key.startswith(settings)}
    return kept | {"hash of the data": fingerprint}
