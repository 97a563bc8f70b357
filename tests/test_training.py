"""Training: learns, resumes from a checkpoint with identical results, stops on NaN weights."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from toys import make_network

from snn.data.sample_set import SampleSet
from snn.model.network import to_memory_format
from snn.model.stepwise_norm import StepwiseBatchNorm2d
from snn.options import PathSampling
from snn.search_space import SearchSpace
from snn.training.losses import LOSSES
from snn.training.paths import num_paths, path_sampler
from snn.training.statistics import debias_statistics
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


def trainer(learning_rate: float = 5e-3, sampling: PathSampling = "uniform", **options) -> Trainer:
    return Trainer(
        make_network(), stripes(), path_sampler(sampling, SearchSpace(5)), epochs=6, batch_size=16,
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
    training = trainer(sampling="fair")
    means = [epoch(training) for _ in range(12)]
    assert means[-1].loss < means[0].loss
    assert means[-1].accuracy > 0.6 > means[0].accuracy > 0
    assert means[-1].spikes > 0


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"sampling": "fair", "loss": "tet", "average": 0.9},
        {"sampling": "sandwich", "loss": "cross_entropy", "spike_penalty": 0.5},
        {"shared_kernels": True},
    ],
    ids=str,
)
def test_interrupted_training_ends_with_the_same_weights(options) -> None:
    whole = trainer(**options)
    means = [epoch(whole) for _ in range(3)]
    first = trainer(**options)
    epoch(first)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = trainer(**options)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [epoch(second) for _ in range(2)] == means[1:]
    for name, value in whole.result.state_dict().items():
        assert torch.equal(value, second.result.state_dict()[name]), name


def test_fair_step_trains_every_block_of_every_layer_once() -> None:
    space, rng = SearchSpace(5), random.Random(0)
    for _ in range(20):
        paths = path_sampler("fair", space)(rng)
        assert len(paths) == num_paths("fair", space) == len(space.blocks)
        for layer in zip(*(path.blocks for path in paths), strict=True):
            assert sorted(layer) == sorted(space.blocks)


def test_sandwich_step_takes_both_ends_and_two_random_paths() -> None:
    space = SearchSpace(5)
    smallest, largest, *others = path_sampler("sandwich", space)(random.Random(0))
    assert {*smallest.blocks} == {"skip_connect"} and {*largest.blocks} == {"SRB_k5"}
    assert len(others) == 2 and others == [space.sample(rng := random.Random(0)), space.sample(rng)]


def test_step_of_several_paths_adds_up_their_gradients() -> None:
    inputs, labels = stripes().batch(np.arange(12), CPU)
    both, one_by_one = trainer(), trainer()
    paths = [SearchSpace(5).at(7), SearchSpace(5).at(1200)]
    for training in (both, one_by_one):
        training.network.eval()  # or the second path would find other running statistics
    both.next_paths = lambda _: paths
    both._step(inputs, labels)
    for path in paths:
        one_by_one._add_gradients(path, to_memory_format(inputs), labels, 1.0)
    for name, parameter in both.network.named_parameters():
        other = one_by_one.network.get_parameter(name).grad
        assert (parameter.grad is None) == (other is None), name
        assert other is None or torch.equal(parameter.grad, other), name


def test_small_blocks_are_the_centres_of_large_ones_and_both_train_them() -> None:
    training = trainer(shared_kernels=True)
    assert training.shared_kernels is not None
    kernels = {id(p): name for name, p in training.network.named_parameters()}
    names = [(kernels[id(small)], kernels[id(large)]) for small, large in training.shared_kernels.pairs]
    assert len(names) == 5 * 2 * 2, "two convolutions of SCB and SRB in each layer"
    assert all(large == small.replace("_k3", "_k5") for small, large in names)
    small, large = training.shared_kernels.pairs[0]
    small.grad, large.grad = torch.ones_like(small), None
    training.shared_kernels.collect()
    assert small.grad is None and large.grad.sum() == small.numel() == large.grad[..., 1:4, 1:4].sum()
    before = [(small.clone(), large.clone()) for small, large in training.shared_kernels.pairs]
    epoch(training)
    for (small, large), (_, large_before) in zip(training.shared_kernels.pairs, before, strict=True):
        assert torch.equal(small, large[..., 1:4, 1:4])
        assert not torch.equal(large, large_before)


def test_moments_by_time_step_are_those_of_each_step() -> None:
    norm, plain = StepwiseBatchNorm2d(2, 3), torch.nn.BatchNorm2d(2)
    x = 3 + 5 * torch.rand(3, 10, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([plain(step) for step in x])
    torch.testing.assert_close(norm(x.flatten(0, 1)), expected.flatten(0, 1))
    assert {k: v.tolist() for k, v in norm.state_dict().items()} == {
        k: v.tolist() for k, v in plain.state_dict().items()
    }
    assert torch.equal(norm.eval()(x[0]), plain.eval()(x[0]))


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (3, 6, 3, 16, 16)], ids=["images", "frames"])
def test_every_norm_of_a_network_takes_its_moments_by_time_step(shape: tuple[int, ...]) -> None:
    inputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    path, networks = SearchSpace(5).at(1200), {}
    for moments in ("sequence", "time_step"):
        network = networks[moments] = make_network(moments=moments)
        network.train()(inputs, path)
    assert networks["time_step"].stem.norm.num_batches_tracked == 3
    tracked = [{m.num_batches_tracked.item() for m in n.modules() if isinstance(m, torch.nn.BatchNorm2d)}
               for n in networks.values()]  # fmt: skip
    assert tracked == [{0, 1}, {0, 3}]
    networks["sequence"].load_state_dict(networks["time_step"].state_dict())
    outputs = [network.eval()(inputs, path) for network in networks.values()]
    assert torch.equal(*outputs), "with stored statistics both are the same network"


def test_averaged_weights_follow_the_trained_ones() -> None:
    training, name = trainer(average=0.5), "head.weight"
    before = training.network.get_parameter(name).detach().clone()
    expected, step = before, training.train_epoch()
    for number in range(3):
        next(step)
        now = training.network.get_parameter(name).detach()
        expected = now.clone() if number == 0 else 0.5 * expected + 0.5 * now
    assert not torch.equal(now, expected)
    torch.testing.assert_close(training.result.get_parameter(name), expected)


def test_spike_penalty_lowers_the_firing_rate() -> None:
    spikes = {}
    for penalty in (0.0, 5.0):
        training = trainer(sampling="fair", spike_penalty=penalty)
        spikes[penalty] = [epoch(training).spikes for _ in range(4)][-1]
    assert spikes[5.0] < 0.7 * spikes[0.0]


def test_debiased_statistics_are_averages_of_the_batches_seen() -> None:
    norms = torch.nn.ModuleDict({"seen": torch.nn.BatchNorm2d(2), "unseen": torch.nn.BatchNorm2d(2)})
    batches = 3 + 5 * torch.rand(3, 10, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for batch in batches:
        norms["seen"](batch)
    weights = norms.state_dict()
    debias_statistics(weights)
    shares = torch.tensor([0.9**2, 0.9, 1.0]) / (0.9**2 + 0.9 + 1)
    for name, values in (
        ("running_mean", batches.mean((1, 3, 4))),
        ("running_var", batches.var((1, 3, 4), correction=1)),
    ):
        torch.testing.assert_close(weights[f"seen.{name}"], shares @ values)
    assert weights["unseen.running_mean"].eq(0).all() and weights["unseen.running_var"].eq(1).all()


def test_losses_agree_with_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    votes = torch.randint(0, 11, (4, 6, 3), generator=generator) / 10
    labels = torch.arange(6) % 3
    rates = votes.mean(0).numpy()
    wanted = np.eye(3)[labels.numpy()]
    assert LOSSES["mse"](votes, labels).item() == pytest.approx(np.mean((rates - wanted) ** 2))

    def entropy(logits: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels.numpy()]))

    assert LOSSES["cross_entropy"](votes, labels).item() == pytest.approx(entropy(10 * rates))
    steps = [entropy(10 * step.numpy()) for step in votes]
    assert LOSSES["tet"](votes, labels).item() == pytest.approx(np.mean(steps))


@pytest.mark.parametrize("part", ["stem.conv.weight", "head.weight"])
def test_nan_weights_stop_the_training_although_the_loss_is_finite(part) -> None:
    training = trainer()
    with torch.no_grad():
        training.network.get_parameter(part).fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match=r"NaN in epoch 1 .*learning rate \(it is 0.005\)"):
        epoch(training)
