"""Energy of an inference on paper: the operations alone, and with the memory that they need.

Every number is of 45 nm CMOS with 32-bit floating point, from Horowitz, "Computing's energy problem", ISSCC
2014. An estimate, not a measurement: it leaves out control, clock, input and output, and idle power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

JOULES_PER_ACCUMULATE = 0.9e-12
JOULES_PER_MULTIPLY = 3.7e-12
JOULES_PER_MULTIPLY_ACCUMULATE = JOULES_PER_MULTIPLY + JOULES_PER_ACCUMULATE
# A read of 64 bits takes 10, 20 and 100 pJ from SRAM of these sizes; a word here has 32 bits.
_JOULES_PER_WORD = ((8 << 10, 5e-12), (32 << 10, 10e-12), (1 << 20, 50e-12))
_BYTES_PER_WORD = 4


@dataclass(frozen=True)
class ConnectionWork:
    """What a convolution or linear map does for a sample; means over samples.

    Attributes:
        name: Its name in the network.
        weights: Number of weights.
        sources: Input elements.
        targets: Output elements; each has a membrane potential or, in the twin, a sum.
        synops: Accumulates: one for each synapse that a spike reaches.
        macs: Multiply-accumulates of analog input.
        twin_macs: Multiply-accumulates of the same layer in a network with ReLU and one time step.
    """

    name: str
    weights: int
    sources: int
    targets: int
    synops: float
    macs: float
    twin_macs: float


@dataclass(frozen=True)
class NeuronWork:
    """What a layer of neurons does for a sample.

    Attributes:
        name: Its name in the network.
        neurons: Their number.
        updates: Updates of a potential: neurons times time steps.
        spikes: Spikes.
    """

    name: str
    neurons: int
    updates: int
    spikes: float


@dataclass(frozen=True)
class Work:
    """What a network does for a sample.

    Attributes:
        connections: Convolutions and linear maps on its path.
        neurons: Layers of neurons on its path.
    """

    connections: tuple[ConnectionWork, ...]
    neurons: tuple[NeuronWork, ...]


@dataclass(frozen=True)
class Energy:
    """Joules of an inference.

    Attributes:
        operations: Accumulates and multiply-accumulates alone.
        analog_layer: The part of `operations` that the first layer takes, whose input is analog.
        with_memory: With updates of the potentials, and with reads and writes of weights, potentials and
            spikes or activations.
        twin_operations: Operations of the same architecture with ReLU and one time step.
        twin_with_memory: The same with reads and writes.
        break_even: So many times its spikes the network could fire before it takes more than its twin, with
            memory; 0 if it takes more without a spike.
    """

    operations: float
    analog_layer: float
    with_memory: float
    twin_operations: float
    twin_with_memory: float
    break_even: float


def operations_joules(*, synops: float, macs: float) -> float:
    """Energy of accumulates and multiply-accumulates alone."""
    return synops * JOULES_PER_ACCUMULATE + macs * JOULES_PER_MULTIPLY_ACCUMULATE


def word_joules(num_words: float) -> float:
    """Energy to read or write a word of an SRAM that holds so many words.

    Linear in the logarithm of the size between 8 KiB and 1 MiB; smaller ones count as 8 KiB, larger ones as
    banks of 1 MiB.
    """
    size = _BYTES_PER_WORD * num_words
    for (small, low), (large, high) in pairwise(_JOULES_PER_WORD):
        if size <= large:
            share = max(0.0, math.log(size / small) / math.log(large / small)) if size > 0 else 0.0
            return low + share * (high - low)
    return _JOULES_PER_WORD[-1][1]


def synop_joules(*, weights: int, targets: int) -> float:
    """Energy of a synaptic operation with its memory: reads a weight, reads and writes a potential."""
    return JOULES_PER_ACCUMULATE + word_joules(weights) + 2 * word_joules(targets)


def update_joules(neurons: int) -> float:
    """Energy of a neuron's update with its memory: a multiplication, an addition, a read and a write."""
    return JOULES_PER_MULTIPLY + JOULES_PER_ACCUMULATE + 2 * word_joules(neurons)


def spike_joules() -> float:
    """Energy of a spike: it is written to a queue of 8 KiB and read from it."""
    return 2 * word_joules(0)


def analog_joules(*, macs: float, weights: int, sources: int, targets: int) -> float:
    """Energy of a layer's multiply-accumulates with their memory; each sum is written once."""
    reads = word_joules(weights) + word_joules(sources)
    return macs * (JOULES_PER_MULTIPLY_ACCUMULATE + reads) + targets * word_joules(targets)


def energy_of(work: Work) -> Energy:
    """The energy of a network, and of the same architecture without spikes.

    Each layer has memories of its own size. A synaptic operation reads a weight and reads and writes a
    potential. A neuron reads and writes its potential at each time step and multiplies it by its leak. A
    spike is written to a queue of 8 KiB and read from it. A multiply-accumulate reads a weight and an
    activation; its sum stays in a register and is written once. Nothing is read once for several uses, which
    favours neither kind of network.
    """
    synops = sum(it.synops for it in work.connections)
    macs = sum(it.macs for it in work.connections)
    fixed = sum(_dense_joules(it, it.macs) for it in work.connections if it.macs)
    fixed += sum(it.updates * update_joules(it.neurons) for it in work.neurons)
    spiking = sum(it.synops * synop_joules(weights=it.weights, targets=it.targets) for it in work.connections)
    spiking += sum(it.spikes * spike_joules() for it in work.neurons)
    twin = sum(_dense_joules(it, it.twin_macs) for it in work.connections)
    return Energy(
        operations=operations_joules(synops=synops, macs=macs),
        analog_layer=operations_joules(synops=0, macs=macs),
        with_memory=fixed + spiking,
        twin_operations=operations_joules(synops=0, macs=sum(it.twin_macs for it in work.connections)),
        twin_with_memory=twin,
        break_even=max(0.0, (twin - fixed) / spiking) if spiking else 0.0,
    )


def _dense_joules(it: ConnectionWork, macs: float) -> float:
    return analog_joules(macs=macs, weights=it.weights, sources=it.sources, targets=it.targets)
