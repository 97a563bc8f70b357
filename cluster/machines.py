"""Machine types of the clouds by their CPUs and GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One shape that each cloud rents out.

    Attributes:
        cpus: Virtual CPUs.
        gpus: GPUs.
        aws: Instance type on AWS.
        gcp: Machine type on Google Cloud.
        accelerator: Name of its GPU for SkyPilot; empty without one.
    """

    cpus: int
    gpus: int
    aws: str
    gcp: str
    accelerator: str = ""


MACHINES = (
    Machine(2, 0, "m7i.large", "n2-standard-2"),
    Machine(4, 0, "m7i.xlarge", "n2-standard-4"),
    Machine(8, 0, "m7i.2xlarge", "n2-standard-8"),
    Machine(16, 0, "m7i.4xlarge", "n2-standard-16"),
    Machine(32, 0, "m7i.8xlarge", "n2-standard-32"),
    Machine(8, 1, "g6.2xlarge", "g2-standard-8", "L4"),
    Machine(16, 1, "g6.4xlarge", "g2-standard-16", "L4"),
    Machine(48, 4, "g6.12xlarge", "g2-standard-48", "L4"),
)


def smallest_machine(cpus: int, gpus: int) -> Machine:
    """The smallest machine with at least so many CPUs and GPUs, and with none if none are asked for.

    Raises:
        ValueError: There is none in the list.
    """
    for machine in MACHINES:
        if machine.cpus >= cpus and machine.gpus >= gpus and bool(machine.gpus) == bool(gpus):
            return machine
    most = max(m.cpus for m in MACHINES if bool(m.gpus) == bool(gpus)), max(m.gpus for m in MACHINES)
    raise ValueError(
        f"--cpus-per-node is {cpus} and a node needs {gpus} GPUs, but the largest machine that files are "
        f"written for has {most[0]} CPUs and {most[1] if gpus else 0} GPUs. Ask for less, and change the "
        "machine types in the file."
    )
