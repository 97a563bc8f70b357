"""The benchmark: how fast the code is on this machine, as ratios to a plain implementation.

`pipeline.bench.run.bench` runs it; it is not listed here, as it needs torch, which the help does not load.
"""

from pipeline.bench.settings import BenchSettings

__all__ = ["BenchSettings"]
