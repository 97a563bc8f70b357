"""Training: learns, resumes from a checkpoint with identical results, stops on NaN weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from toys import make_network

from snn.data.sample_set import SampleSet
from snn.search_space import SearchSpace
from snn.training.trainer import EpochMeans, Trainer, TrainingDiverged

CPU = torch.device("cpu")


def stripes() -> SampleSet:
    """Three classes that differ in the direction of stripes."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 60, (90, 3, 16, 16), dtype=np.uint8)
    images[labels == 0, :, ::2] += 190
    images[labels == 1, :, :, ::2] += 190

    def prepare(x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        noise = 0 if generator is None else 0.1 * torch.randn(x.shape, generator=generator)
        return (x.float() / 255 - 0.4) * 4 + noise

    return SampleSet(images, labels, np.arange(90), prepare)


def trainer(learning_rate: float = 5e-3, **options) -> Trainer:
    return Trainer(
        make_network(), stripes(), SearchSpace(5).sample, epochs=6, batch_size=16,
        learning_rate=learning_rate, seed=3, device=CPU, **options,
    )  # fmt: skip


def epoch(training: Trainer) -> EpochMeans:
    steps = training.train_epoch()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def test_supernet_learns_on_random_paths() -> None:
    training = trainer()
    means = [epoch(training) for _ in range(12)]
    assert means[-1].loss < means[0].loss
    assert means[-1].accuracy > means[0].accuracy > 0
    assert means[-1].spikes > 0


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_interrupted_training_ends_with_the_same_weights(schedule) -> None:
    whole = trainer(schedule=schedule)
    means = [epoch(whole) for _ in range(3)]
    first = trainer(schedule=schedule)
    epoch(first)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = trainer(schedule=schedule)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [epoch(second) for _ in range(2)] == means[1:]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


@pytest.mark.parametrize("part", ["stem.conv.weight", "head.weight"])
def test_nan_weights_stop_the_training_although_the_loss_is_finite(part) -> None:
    training = trainer()
    with torch.no_grad():
        training.network.get_parameter(part).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"NaN in epoch 1 .*learning rate \(it is 0.005\)"):
        epoch(training)
