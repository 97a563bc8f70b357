"""The spiking network: neurons, candidate blocks, super-network and child, spike counts."""
