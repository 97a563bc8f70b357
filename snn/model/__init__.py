"""The spiking network: neurons, candidate blocks, super-network and child, spike counts."""

from snn.model.network import SpikingNetwork, child_weights
from snn.model.neuron import SpikingNeuron
from snn.model.spikes import record_spikes

__all__ = ["SpikingNetwork", "SpikingNeuron", "child_weights", "record_spikes"]
