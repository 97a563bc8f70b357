"""The benchmark: how fast the code is on this machine, as ratios to a plain implementation."""
