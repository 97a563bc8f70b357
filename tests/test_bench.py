"""The benchmark: the plain implementation agrees with ours, timings alternate, targets show in the table."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from toys import BACKBONES, make_network

from pipeline.bench import rates as rates_module
from pipeline.bench import run as bench_module
from pipeline.bench import steps
from pipeline.bench.convolutions import ConvolutionsAlone, fastest_convolutions
from pipeline.bench.deviation import compare_results
from pipeline.bench.hours import NUM_WORKERS, Speeds, assumptions, estimate_hours
from pipeline.bench.own_process import own_process
from pipeline.bench.plain import PlainPath, PlainTrainer, convolutions_of, evaluate_plainly
from pipeline.bench.rates import Cell, bench_rates, dense_wins, set_firing_rate
from pipeline.bench.run import render_hours, render_table
from pipeline.bench.settings import BenchSettings
from pipeline.bench.start_up import bench_start_up
from pipeline.bench.steps import task_of, with_channels
from pipeline.bench.stopwatch import Comparison, OtherProcesses, SectionResult, alternate
from pipeline.bench.subject import generated_subject, repeated
from pipeline.bench.training import bench_training
from pipeline.config.named import named_config
from pipeline.config.tree import DataConfig
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import firing_rates
from snn.search_space import AUTOSNN_BLOCKS, Architecture, SearchSpace


def batches(shape=(3, 16, 16), *, num_samples: int = 20, frames: int = 0):
    generator = torch.Generator().manual_seed(0)
    size = (frames, num_samples, *shape) if frames else (num_samples, *shape)
    inputs = torch.rand(size, generator=generator) - 0.5
    return [(inputs, torch.arange(num_samples) % 3)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subject():
    return generated_subject(named_config("demo"), num_images=200)


def test_deviation_of_a_faster_mode_shows_in_accuracy_spikes_and_ranks() -> None:
    exact = [Evaluation(0.1 * i, 100.0 + i, 0.1, 50) for i in range(1, 9)]
    same = compare_results("mode", exact, exact, -0.08)
    assert [c.ratio for c in same.comparisons] == pytest.approx([1, 1, 1])
    assert same.facts["mean_deviation_of_accuracy"] == same.facts["mean_relative_deviation_of_spikes"] == 0
    reversed_results = [replace(e, accuracy=0.9 - e.accuracy, spikes=1.1 * e.spikes) for e in exact]
    other = compare_results("mode", reversed_results, exact, -0.08)
    assert [c.ratio for c in other.comparisons] == pytest.approx([1.1, 1, -1])
    assert other.facts["mean_relative_deviation_of_spikes"] == pytest.approx(0.1)
    assert other.facts["mean_deviation_of_accuracy"] == pytest.approx(0.4)


def assert_plain_agrees(network, architecture, samples) -> None:
    accuracy, spikes = evaluate_plainly(network, architecture, samples)
    ours = evaluate_architectures(network, [architecture], samples)[0]
    assert accuracy == ours.accuracy
    assert spikes == pytest.approx(ours.spikes, rel=1e-3)
    assert spikes > 0


@pytest.mark.parametrize("block", [*AUTOSNN_BLOCKS, "SIB_k3_e3"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_plain_implementation_has_our_accuracy_and_spikes(backbone, block) -> None:
    depth = 8 if backbone == "SNN_3" else 5
    strided = backbone == "SNN_3" and block.startswith("SIB")
    network = make_network(backbone, [(block,)] * depth, shape=(3, 32, 32) if strided else (3, 16, 16))
    samples = batches((3, 32, 32) if strided else (3, 16, 16))
    assert_plain_agrees(network, Architecture((block,) * depth), samples)


@pytest.mark.parametrize("neuron", ["IF", "LIF"])
def test_plain_implementation_supports_every_neuron(neuron) -> None:
    assert_plain_agrees(make_network(neuron=neuron), SearchSpace(5).sample(random.Random(0)), batches())


def test_plain_implementation_agrees_with_ours_on_event_frames() -> None:
    network = make_network(stem="event", shape=(2, 64, 64))
    samples = batches((2, 64, 64), num_samples=6, frames=4)
    assert_plain_agrees(network, SearchSpace(5).sample(random.Random(1)), samples)


def test_plain_training_has_our_gradients_with_one_time_step() -> None:
    ours, plain = make_network(time_steps=1).train(), make_network(time_steps=1).train()
    architecture = SearchSpace(5).sample(random.Random(2))
    ((inputs, labels),) = batches()
    target = functional.one_hot(labels, 3).float()
    for rates in (
        firing_rates(ours(inputs, architecture)),
        PlainPath(plain, architecture).votes(inputs).mean(0),
    ):
        functional.mse_loss(rates, target).backward()
    for (name, parameter), (_, other) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, other.grad, rtol=1e-3, atol=1e-6), name


def test_plain_training_learns() -> None:
    network = make_network()
    trainer = PlainTrainer(network, learning_rate=1e-2)
    ((inputs, labels),) = batches()
    losses = [trainer.step(inputs, labels, Architecture(("SRB_k3",) * 5)) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_convolutions_of_a_path_are_those_that_the_plain_implementation_runs() -> None:
    network = make_network(time_steps=3)
    path = Architecture(("SRB_k5", "SCB_k3", "skip_connect", "SRB_k3", "skip_connect"))
    ((inputs, _),) = batches(num_samples=2)
    convolutions = convolutions_of(network, path, inputs)
    assert [c.runs for c in convolutions] == [1] + [3] * 7
    assert [c.weight_shape[2] for c in convolutions] == [3, 5, 5, 3, 3, 3, 3, 1]
    assert convolutions[0].input_shape == (3, 16, 16)
    assert convolutions[-1].input_shape == (8, 4, 4)
    ConvolutionsAlone(convolutions, batch_size=2, channels_last=True, backward=True).run()
    assert fastest_convolutions(convolutions, batch_sizes=(1, 2)).batch_size in (1, 2)


def test_contestants_take_turns_and_the_median_counts() -> None:
    order: list[str] = []
    timings = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert len(timings["a"].seconds) == 3
    assert timings["a"].median == sorted(timings["a"].seconds)[1]
    assert timings["a"].spread >= 0
    assert len(alternate({"a": lambda: None}, rounds=9, longest=0.0)["a"].seconds) == 1


def test_a_contestant_keeps_its_own_process_from_round_to_round() -> None:
    with own_process(partial, os.getpid) as run, own_process(partial, torch.get_num_threads) as threads:
        assert run() == run() != os.getpid()
        assert threads() == torch.get_num_threads()


def test_a_contestant_that_cannot_be_made_says_why() -> None:
    with pytest.raises(ZeroDivisionError), own_process(divmod, 1, 0):
        pass


@pytest.mark.parametrize("make", [steps.spikingjelly, steps.plain])
def test_contestants_of_training_take_every_step_from_a_task_of_values(subject, make) -> None:
    task = task_of(subject, num_steps=2, batch_size=4)
    data = task.data()
    assert len(task.samples(data)) == 8
    weights = task.network(data).state_dict()
    for name, value in subject.network.state_dict().items():
        assert torch.equal(weights[name], value), name
    wide = with_channels(task, 12, num_steps=1, batch_size=4)
    assert wide.network(data).stem.conv.out_channels == 12
    assert make(task)().num_images == 8 and make(wide)().num_images == 4


@pytest.mark.slow
def test_training_is_compared_with_few_and_with_many_channels(subject) -> None:
    result = bench_training(subject, quick=True)
    names = [line.name for line in result.comparisons]
    assert names[-1] == "training / spikingjelly, C = 64" and len(names) == len(set(names)) == 4
    assert all(line.ours > 0 and line.theirs > 0 for line in result.comparisons)
    assert result.facts["images_per_second"].keys() == {"plain_96", "spikingjelly", "ours", "convolutions"}
    assert "N " in result.facts["convolutions"]


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_every_layer_of_neurons_fires_at_the_rate_it_is_set_to(rate) -> None:
    network, architecture = make_network(time_steps=4), Architecture(("SRB_k3", "SCB_k3") * 2 + ("SRB_k5",))
    ((inputs, labels),) = batches(num_samples=8)
    set_firing_rate(network, architecture, inputs, rate)
    found = evaluate_architectures(network, [architecture], [(inputs, labels)])[0]
    layers = {k: v for k, v in found.firing_rate_per_layer.items() if k == "stem" or k.startswith("layer")}
    assert layers and all(v == pytest.approx(rate, rel=0.15) for v in layers.values())


def test_dense_wins_where_the_ratio_of_the_times_crosses_1() -> None:
    def cells(channels: int, *ratios: float) -> list[Cell]:
        measured = zip((0.1, 0.2, 0.3), ratios, strict=True)
        return [Cell(channels, rate, rate, ratio, 1.0, {}) for rate, ratio in measured]

    assert dense_wins([*cells(1, 0.2, 0.8, 1.2), *cells(2, 0.1, 0.2, 0.9), *cells(3, 1.1, 2, 3)]) == {
        "C = 1": "above 25.0 %",
        "C = 2": "at none up to 30.0 %",
        "C = 3": "at every rate from 10.0 %",
    }


def test_engines_are_compared_over_rates_and_channels(subject, monkeypatch) -> None:
    monkeypatch.setattr(rates_module, "_QUICK_CHANNELS", (2, 4))
    result = bench_rates(subject, quick=True)
    assert len(result.comparisons) == len(result.facts["cells"]) == 4
    assert result.comparisons[0].name == "event-driven, C = 2, rate 5 % / dense"
    assert result.facts["dense_wins"].keys() == {"C = 2", "C = 4"}
    assert all(abs(cell["firing_rate"] / cell["wanted"] - 1) < 0.5 for cell in result.facts["cells"])


@pytest.mark.slow
def test_commands_are_timed_until_they_answer() -> None:
    result = bench_start_up(quick=True)
    assert [line.target for line in result.comparisons] == [2.0, 3.5, 6.0]
    assert all(line.ours > 0.05 and line.absolute for line in result.comparisons)


def test_cpu_share_of_other_processes_is_between_0_and_1() -> None:
    with OtherProcesses() as others:
        sum(range(3_000_000))
    assert 0 <= others.share <= 1


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({}, None),
        ({"target": 2.0}, False),
        ({"target": 4.0}, True),
        ({"target": 2.0, "at_least": True}, True),
        ({"target": 50.0, "absolute": True}, True),
    ],
)
def test_target_bounds_the_ratio_or_our_own_value(options, met) -> None:
    assert Comparison("x", "s", 30.0, 10.0, **options).met is met


def test_table_has_a_line_per_comparison() -> None:
    lines = render_table(
        [
            Comparison("speed / plain", "img/s", 1234.5, 400, 2.5, True),
            Comparison("memory / torch", "MiB", 20, 0, 10.0, absolute=True),
        ]
    ).splitlines()
    assert lines[0].split() == ["ours", "theirs", "ratio", "target", "met"]
    assert lines[1].split() == ["speed", "/", "plain", "[img/s]", "1,234", "400", "3.09", ">=", "2.5", "yes"]
    assert lines[2].split() == ["memory", "/", "torch", "[MiB]", "20", "0", "<=", "10", "MiB", "NO"]


def test_generated_network_fires_at_the_rate_of_a_trained_one(subject) -> None:
    assert 0.03 < subject.firing_rate < 0.15
    again = generated_subject(named_config("demo"), num_images=200)
    assert torch.equal(again.network.head.weight, subject.network.head.weight)
    assert again.firing_rate == subject.firing_rate
    assert len(repeated(subject.train, 5000)) == 5000
    assert sum(len(labels) for _, labels in subject.batches(1000, 128)) == 1000
    norms = [m for m in subject.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.momentum == 0.1 and not norm.training for norm in norms)


def test_more_workers_take_less_time_and_cost_no_less(subject) -> None:
    stages = estimate_hours(subject, Speeds(100.0, 0.001, 0.001), price=2.0)
    by_stage = {
        name: [s for s in stages if s.stage == name] for name in dict.fromkeys(s.stage for s in stages)
    }
    training, evolution, space = by_stage.values()
    assert [stage.num_workers for stage in space] == list(NUM_WORKERS)
    assert len({stage.hours for stage in training}) == 1
    for stages in (evolution, space):
        assert [s.hours for s in stages] == sorted((s.hours for s in stages), reverse=True)
        assert [s.cost for s in stages] == sorted(s.cost for s in stages)
    assert space[0].hours == pytest.approx(0.001 * 3905 * assumptions(subject)["num_val"] / 3600)
    assert "super-network" in render_hours(list(training))
    assert estimate_hours(subject, Speeds(None, None, None), price=None) == []


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        (DataConfig(dataset="recordings"), "number of recordings in 'recordings'"),
        (DataConfig(dataset="nmnist", window_ms=50), "number of windows of 50 ms in 'nmnist'"),
    ],
)
def test_unknown_number_of_samples_gives_no_estimate_and_a_reason(subject, data, unknown) -> None:
    other = replace(subject, config=replace(subject.config, data=data))
    assert estimate_hours(other, Speeds(100.0, 0.001, 0.001), price=None) == []
    assumed = assumptions(other)
    assert unknown in assumed["unknown"] and "--supernet RUN_DIR" in assumed["unknown"]
    assert assumed["num_train"] is assumed["num_val"] is None


def test_samples_of_a_run_are_counted_and_generated_ones_are_not(subject) -> None:
    published = assumptions(replace(subject, config=named_config("cifar10")))
    assert (published["num_train"], published["num_val"], published["unknown"]) == (40_000, 10_000, None)
    own = replace(subject, config=named_config("cifar10"), generated=False)
    assert assumptions(own)["num_train"] == len(subject.train) == 160
    assert assumptions(own)["num_val"] == len(subject.val) == 40


def test_failed_section_does_not_lose_the_others(subject, monkeypatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> SectionResult:
        raise OSError("no room")

    monkeypatch.setattr(bench_module, "generated_subject", lambda _: subject)
    monkeypatch.setattr(bench_module, "bench_training", fail)
    monkeypatch.setattr(
        bench_module,
        "bench_one_candidate",
        lambda *_, **__: SectionResult((Comparison("a / b", "s", 1.0, 2.0),), {"note": "x"}),
    )
    settings = BenchSettings("demo", out=tmp_path, sections=("training", "candidate"))
    values = bench_module.bench(settings)
    assert list(values["seconds"]) == ["candidate", "training"]
    assert values["failures"] == {"training": "failed: OSError: no room"}
    read = json.loads((tmp_path / "bench.json").read_text())
    assert read["comparisons"][0]["ratio"] == 0.5
    assert np.isclose(read["subject"]["firing_rate"], values["subject"]["firing_rate"])
