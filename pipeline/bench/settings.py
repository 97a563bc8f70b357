"""The command `bench`: what is measured; light enough for a command line's help."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from tyro.conf import arg

Section = Literal[
    "candidate", "rates", "sharing", "training", "cluster", "weights", "start-up", "control-plane"
]
SECTIONS: tuple[Section, ...] = get_args(Section)
DEFAULT_SECTIONS = SECTIONS[:-1]


@dataclass(frozen=True)
class BenchSettings:
    """Measures speeds on this machine as ratios to a plain implementation; estimates a config's hours."""

    config: str = "cifar10"
    """Named config whose network, batch sizes and epochs are measured, unless `supernet` is given."""
    quick: bool = False
    """Fewer rounds and cases."""
    out: Path = Path("bench")
    """Folder of bench.json."""
    supernet: Path | None = None
    """Run folder whose super-network and D_val are measured instead of generated ones."""
    data_root: Annotated[Path | None, arg(name="data.root", aliases=["--data-root"])] = None
    """Folder of that run's data sets, if it has moved."""
    price_per_worker_hour: float | None = None
    """Price of an hour on a machine like this one; adds costs to the estimate."""
    sections: tuple[Section, ...] = ()
    """Only these sections; all but `control-plane` if none is given."""
    ray_address: Annotated[str | None, arg(name="ray.address", aliases=["--ray-address"])] = None
    """Cluster whose control plane is measured, instead of 64 virtual CPUs of this machine."""

    def __post_init__(self) -> None:
        price = self.price_per_worker_hour
        if price is not None and not 0 <= price < math.inf:
            raise ValueError(f"price_per_worker_hour must be a finite number of at least 0, got {price}.")

    def run(self) -> None:
        """Measures, prints a table and writes bench.json."""
        # OpenMP threads that wait by spinning fall far behind where other processes use the CPUs too, those
        # of the plain implementation most of all. torch reads this when it is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        from pipeline.bench.run import bench

        bench(self)
