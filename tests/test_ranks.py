"""Data-parallel training: several ranks train as one does with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from snn.data.sample_set import SampleSet
from snn.model.network import SpikingNetwork
from snn.model.synced_norm import synchronise_norms
from snn.search_space import SearchSpace, make_backbone
from snn.training.paths import path_sampler
from snn.training.ranks import Ranks
from snn.training.trainer import Trainer

SPACE = SearchSpace(5)
# The last of three batches has 2 samples, fewer than there are ranks if there are three.
NUM_SAMPLES, BATCH_SIZE, EPOCHS = 22, 10, 3


def make_trainer(*, ranks: Ranks | None = None, **settings: Any) -> Trainer:
    """A super-network on random images or frames in float64, where rounding flips no spikes."""
    frames, sampling = settings.pop("frames", False), settings.pop("sampling", "uniform")
    torch.manual_seed(0)
    network = SpikingNetwork(
        make_backbone("AutoSNN", channels=4, stem="image"),
        [SPACE.blocks] * 5,
        input_shape=(2, 32, 32),
        num_classes=3,
        time_steps=2,
        moments=settings.pop("moments", "sequence"),
    )
    if ranks is not None:
        synchronise_norms(network)
    network.double().to(memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (NUM_SAMPLES, *((2,) if frames else ()), 2, 32, 32), dtype=np.uint8)

    def prepare(batch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        noisy = batch.double() / 64 + torch.rand(len(batch), *[1] * (batch.dim() - 1), generator=generator)
        return noisy.transpose(0, 1) if frames else noisy

    sample_set = SampleSet(samples, rng.integers(0, 3, NUM_SAMPLES), np.arange(NUM_SAMPLES), prepare)
    return Trainer(
        network,
        sample_set,
        path_sampler(sampling, SPACE),
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        learning_rate=1e-2,
        seed=1,
        device=torch.device("cpu"),
        ranks=ranks,
        **settings,
    )


def train(trainer: Trainer, epochs: int = EPOCHS) -> list[tuple[float, float, float]]:
    """Loss, accuracy and spikes of each epoch."""
    means = []
    for _ in range(epochs):
        steps = trainer.train_epoch()
        try:
            while True:
                next(steps)
        except StopIteration as stop:
            means.append((stop.value.loss, stop.value.accuracy, stop.value.spikes))
    return means


SETTINGS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "fair, shared kernels": {"sampling": "fair", "shared_kernels": True},
    "frames, moments of time steps": {"moments": "time_step", "loss": "tet", "frames": True},
    "penalty, average": {"spike_penalty": 2.0, "loss": "cross_entropy", "average": 0.9},
}


def train_rank(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=size)
    for name, settings in SETTINGS.items():
        trainer = make_trainer(ranks=Ranks(), **settings)
        means = train(trainer)
        torch.save((means, trainer.state_dict()["network"]), f"{folder}/{name} {rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Number of ranks, and the folder of what they trained."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(train_rank, (request.param, str(folder)), nprocs=request.param)
    return request.param, folder


@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_train_as_one(name: str, trained: tuple[int, Path]) -> None:
    size, folder = trained
    alone = make_trainer(**SETTINGS[name])
    expected = train(alone)
    states = [torch.load(folder / f"{name} {rank}.pt") for rank in range(size)]
    for means, weights in states:
        # Spikes are counted in float32, and so a penalty on them.
        np.testing.assert_allclose(means, expected, rtol=1e-7 if "penalty" in name else 1e-12)
        for key, value in alone.network.state_dict().items():
            loose = size == 3 and key.endswith("running_var")  # see Ranks.share
            rtol, atol = 1e-2 if loose else 1e-7, 1e-6 if "penalty" in name else 1e-9
            torch.testing.assert_close(weights[key], value, rtol=rtol, atol=atol)
            assert torch.equal(weights[key], states[0][1][key])
    assert expected[0][2] > 0  # it fires
