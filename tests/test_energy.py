"""Energy on paper: what is counted, by hand and in whole networks."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from toys import BACKBONES, make_active_network, make_batch, make_network

from snn.energy import ConnectionWork, NeuronWork, Work, energy_of, word_joules
from snn.engines.dense import DenseNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.work import measure_work
from snn.search_space import Architecture

PATH = Architecture(("SCB_k3", "SRB_k5", "skip_connect", "SRB_k3", "SCB_k5"))


def test_word_of_a_larger_memory_takes_more() -> None:
    at = [word_joules(kib * 256) for kib in (0, 1, 8, 16, 32, 200, 1024, 10_000)]
    assert at[:3] == [5e-12] * 3 and at[4] == pytest.approx(10e-12) and at[6:] == [pytest.approx(50e-12)] * 2
    assert at[3] == pytest.approx(7.5e-12) and at[4] < at[5] < at[6]


def test_energy_is_what_a_hand_counts() -> None:
    work = Work(
        (
            ConnectionWork("stem", weights=27, sources=300, targets=400, synops=0, macs=1000, twin_macs=1000),
            ConnectionWork("conv", weights=144, sources=400, targets=200, synops=50, macs=0, twin_macs=700),
        ),
        (NeuronWork("a", neurons=400, updates=800, spikes=12), NeuronWork("b", 200, 400, 3)),
    )
    pico, word = 1e-12, 5e-12  # all memories are small
    energy = energy_of(work)
    assert energy.operations == pytest.approx(50 * 0.9 * pico + 1000 * 4.6 * pico)
    assert energy.analog_layer == pytest.approx(1000 * 4.6 * pico)
    stem = 1000 * (4.6 * pico + 2 * word) + 400 * word
    neurons = 1200 * (4.6 * pico + 2 * word)
    spikes = 50 * (0.9 * pico + 3 * word) + 15 * 2 * word
    assert energy.with_memory == pytest.approx(stem + neurons + spikes)
    assert energy.twin_operations == pytest.approx(1700 * 4.6 * pico)
    assert energy.twin_with_memory == pytest.approx(1700 * (4.6 * pico + 2 * word) + 600 * word)


def measured() -> Work:
    network = make_active_network()
    return measure_work(network, PATH, [make_batch(network)[0]])


def test_work_of_a_network_is_what_its_evaluation_counts() -> None:
    network = make_active_network()
    inputs, labels = make_batch(network)
    [event_driven] = evaluate_architectures(network, [PATH], [(inputs, labels)])
    [dense] = evaluate_architectures(DenseNetwork(network), [PATH], [(inputs, labels)])
    work = measure_work(network, PATH, inputs.split(5))
    assert sum(it.synops for it in work.connections) == pytest.approx(event_driven.synops, rel=2e-3)
    assert sum(it.macs for it in work.connections) == event_driven.macs
    pools = sum(dense.spikes_per_layer[name] for name in ("pool0", "pool1", "pool2"))
    assert sum(it.spikes for it in work.neurons) == pytest.approx(dense.spikes - pools, rel=1e-3)
    on_path = {name for name, _ in network.named_parameters() if name.endswith("conv.weight")}
    on_path = {n for n in on_path if not n.startswith("body") or n.split(".")[2] == PATH.blocks[int(n[10])]}
    assert {f"{it.name}.weight" for it in work.connections} == on_path | {"head.weight"}
    [stem, *others] = work.connections
    assert stem.macs == stem.twin_macs == stem.targets * 27 and all(it.macs == 0 for it in others)
    assert all(it.updates == 3 * it.neurons for it in work.neurons)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("events", [False, True])
def test_evaluation_estimates_the_energy_of_the_work(backbone: str, events: bool) -> None:
    network = make_active_network(backbone, in_channels=2 if events else 3)
    inputs, labels = make_batch(network, events=events)
    path = Architecture((PATH.blocks * 2)[: len(network.backbone.layers)])
    [evaluated] = evaluate_architectures(network, [path], [(inputs, labels)])
    assert evaluated.energy == pytest.approx(
        energy_of(measure_work(network, path, [inputs])).with_memory, rel=2e-3
    )


def test_network_that_fires_break_even_times_as_much_takes_what_its_twin_takes() -> None:
    work = measured()
    factor = energy_of(work).break_even
    assert factor > 0
    louder = Work(
        tuple(replace(it, synops=factor * it.synops) for it in work.connections),
        tuple(replace(it, spikes=factor * it.spikes) for it in work.neurons),
    )
    energy = energy_of(louder)
    assert energy.with_memory == pytest.approx(energy.twin_with_memory)
    assert energy.break_even == pytest.approx(1)


def test_network_that_loses_without_a_spike_never_pays() -> None:
    work = measured()
    slow = Work(work.connections, tuple(replace(it, updates=10**9) for it in work.neurons))
    assert energy_of(slow).break_even == 0
    silent = Work(
        tuple(replace(it, synops=0.0) for it in work.connections),
        tuple(replace(it, spikes=0.0) for it in work.neurons),
    )
    assert all(value >= 0 for value in dataclasses.astuple(energy_of(silent)))


@pytest.mark.parametrize("events", [False, True])
def test_twin_with_relu_takes_the_operations_that_are_foretold(events: bool) -> None:
    spiking = make_active_network(in_channels=2 if events else 3, channels=4)
    inputs, labels = make_batch(spiking, events=events)
    foretold = measure_work(spiking, PATH, [inputs])
    twin = make_network(shape=spiking.input_shape, time_steps=1, neuron="ReLU")
    first = inputs[:1] if events else inputs
    [evaluated] = evaluate_architectures(twin, [PATH], [(first, labels)])
    work = measure_work(twin, PATH, [first])
    assert sum(it.synops for it in work.connections) == 0 and evaluated.spikes > 0
    assert sum(it.macs for it in work.connections) == sum(it.twin_macs for it in foretold.connections)
