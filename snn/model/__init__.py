"""The spiking network: neurons, blocks, super-network and child, what counts as a spike."""
