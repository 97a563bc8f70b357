"""Networks trained from scratch, kept for all runs of a user with the same data and training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace

from pipeline.config.search import SearchConfig
from pipeline.config.training import SupernetConfig
from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.ray.session import Resources
from pipeline.storage.location import join, shared_cache
from pipeline.storage.records import RetrainResult
from pipeline.storage.run_folder import RunFolder
from pipeline.training.children import train_children
from pipeline.training.plan import plan_retraining
from snn.search_space import Architecture


class Pool:
    """Retrained networks by architecture and seed.

    Args:
        run: A run. With `search.cache` off the pool lies in its folder, otherwise in the user's cache.
        config: The settings of the run, for this machine.
        data: Its samples.
    """

    def __init__(self, run: RunFolder, config: Config, data: RunData) -> None:
        self.config = _without_search(config)
        facts = {**self.config.identity(), "data": [data.train.fingerprint, data.test.fingerprint]}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        parent = shared_cache(run.location) if config.search.cache else run.location
        self.folder = RunFolder(join(parent, "retrained-pool", key))
        self.folder.check(self.config)
        self.folder.write_config(self.config)

    def take_over(self, run: RunFolder) -> None:
        """Adds the retrained networks of a run with the same settings."""
        from safetensors.torch import load

        there = self.folder.retrained_numbers()
        for own in run.retrained_numbers():
            result = run.read_retrained(own)
            if (number := _number(result.architecture, result.seed)) not in there:
                weights = load(run.retrained_weights(own))
                self.folder.write_retrained(number, replace(result, label=result.architecture), weights)

    def train(self, wanted: Iterable[tuple[Architecture, int]], resources: Resources) -> None:
        """Trains the networks (architecture, seed) that are not there yet; resumes interrupted trainings."""
        there = self.folder.retrained_numbers()
        plans = [
            plan_retraining(self.config, number, architecture, seed)
            for architecture, seed in wanted
            if (number := _number(str(architecture), seed)) not in there
        ]
        train_children(self.folder, plans, resources, label=lambda plan: str(plan.architecture))

    def read(self, architecture: Architecture, seed: int) -> RetrainResult:
        """What was measured of a network."""
        return self.folder.read_retrained(_number(str(architecture), seed))


def _without_search(config: Config) -> Config:
    """The settings that a training from scratch depends on; all others have the same value in every run."""
    search = SearchConfig(
        engine=config.search.engine,
        precision=config.search.precision,
        batch_size=config.search.batch_size,
        cache=config.search.cache,
    )
    return replace(
        config,
        name="retrained",
        training_threads=1,
        data=replace(config.data, train_fraction=0.8),
        supernet=SupernetConfig(),
        search=search,
        retrain=replace(
            config.retrain, architectures=("best",), seeds=(0,), finalists=1, finalist_epochs=None
        ),
    )


def _number(architecture: str, seed: int) -> int:
    """The number of a network in the pool: the same for every run."""
    return int(hashlib.sha256(f"{architecture} {seed}".encode()).hexdigest()[:12], 16)
