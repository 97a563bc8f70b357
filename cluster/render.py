"""Writes the file that starts a run on a cluster, from the run's settings and a template."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Literal

from cluster.machines import Machine, smallest_machine
from pipeline.config.flags import flags_of
from pipeline.config.named import named_config
from pipeline.config.tree import Config
from snn.datasets import DATASETS
from snn.templates import text_templates

Place = Literal["aws", "gcp", "kuberay", "slurm", "sky"]

TEMPLATES: dict[Place, str] = {
    "aws": "aws.yaml.j2",
    "gcp": "gcp.yaml.j2",
    "kuberay": "kuberay.yaml.j2",
    "slurm": "slurm.sh.j2",
    "sky": "sky.yaml.j2",
}
"""The template of each place."""

_BRING_UP: dict[Place, str] = {
    "aws": "ray up {file}",
    "gcp": "ray up {file}",
    "kuberay": "kubectl apply -f {file}",
    "slurm": "sbatch {file}",
    "sky": "sky launch {file}",
}


@dataclass(frozen=True)
class ClusterRun:
    """A run and the nodes it may have.

    Args:
        config: Its settings.
        workers: Trial actors at once, at most.
        gpus_per_worker: GPUs of each, fractions allowed.
        cpus_per_node: CPUs of a worker node.
        storage: URI that run folders are kept below; None keeps them on the driver's disk.

    Raises:
        ValueError: A node does not hold a worker, or no machine has so many CPUs and GPUs.
    """

    config: Config
    workers: int
    gpus_per_worker: float = 0.0
    cpus_per_node: int = 8
    storage: str | None = None

    def __post_init__(self) -> None:
        from pipeline.storage.location import is_uri  # brings Arrow, which `--help` need not load

        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1, got {self.workers}.")
        if self.storage is not None and not is_uri(self.storage):
            raise ValueError(
                f"--storage is {self.storage!r}, but takes the URI of an object store (s3://BUCKET/PREFIX, "
                "gs://, az://); without it the driver's disk keeps the run."
            )
        needed = max(self.config.threads_per_worker, self.config.training_threads)
        if self.cpus_per_node < needed:
            raise ValueError(
                f"--cpus-per-node is {self.cpus_per_node}, but a worker or a training of this run needs "
                f"{needed} CPUs on one node. Use larger nodes, or fewer --threads-per-worker or "
                "--training-threads."
            )

    @property
    def name(self) -> str:
        """A name that clouds and Kubernetes accept."""
        text = re.sub(r"[^a-z0-9]+", "-", self.config.name.lower()).strip("-")
        return f"autosnn-{text}"[:40].rstrip("-")

    @property
    def needs_data(self) -> bool:
        """Whether the data set lies in a folder, and is not one that comes with the environment."""
        return bool(DATASETS[self.config.data.dataset].folders)

    @property
    def gpus_per_node(self) -> int:
        """GPUs of a worker node: those of one worker, but at least one if workers share it."""
        return math.ceil(self.gpus_per_worker)

    @property
    def workers_per_node(self) -> int:
        """Workers that fit on a node."""
        fitting = self.cpus_per_node // self.config.threads_per_worker
        if self.gpus_per_worker:
            fitting = min(fitting, math.floor(self.gpus_per_node / self.gpus_per_worker))
        return fitting

    @property
    def nodes(self) -> int:
        """Worker nodes that hold all workers."""
        return math.ceil(self.workers / self.workers_per_node)

    @cached_property
    def cpu_machine(self) -> Machine:
        """The machine of a worker node without GPUs."""
        return smallest_machine(self.cpus_per_node, 0)

    @cached_property
    def gpu_machine(self) -> Machine:
        """The machine of a worker node with GPUs."""
        return smallest_machine(self.cpus_per_node, self.gpus_per_node)

    def command(self, folder: str, *more: str) -> str:
        """The driver's arguments as a shell writes them: the run, its settings, its place, and more of them.

        Args:
            folder: Keeps run folders where no storage does.
            more: Written as they are: they may name variables of a shell.
        """
        flags = flags_of(self.config, named_config(self.config.name))
        if self.gpus_per_worker:
            flags += ["--ray.gpus-per-worker", f"{self.gpus_per_worker:g}"]
        place = f"--run-dir {folder}/{self.config.name}"
        if self.storage is not None:
            place = f"--storage {shlex.quote(self.storage)}"
        return " ".join([shlex.join(["run", self.config.name, *flags]), place, *more])


def render(place: Place, run: ClusterRun) -> str:
    """The file for a place.

    Raises:
        ValueError: The settings do not fit the place.
    """
    environment = text_templates("cluster")
    return environment.get_template(TEMPLATES[place]).render(run=run, version=version)


def bring_up(place: Place, file: str) -> str:
    """The command that starts what a file describes."""
    return _BRING_UP[place].format(file=shlex.quote(file))
