"""The benchmark: how fast the code is on this machine, as ratios against the plain way."""
