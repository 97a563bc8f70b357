"""The commands `launch.py cluster ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from cluster.check import check_file
from cluster.preemption import Cloud, watch
from cluster.render import ClusterRun, Place, bring_up, render
from pipeline.config.named import CONFIGS, named_config
from pipeline.config.tree import Config
from pipeline.console import say

ABOUT = "Clusters: `render` writes a file that starts a run, `check` reads it, `doctor` examines the nodes."


@dataclass(frozen=True)
class Render:
    """Writes the file that starts a run on AWS, Google Cloud, Kubernetes, Slurm or with SkyPilot."""

    place: Annotated[Place, Positional, arg(metavar="PLACE", help="aws, gcp, kuberay, slurm or sky.")]
    name: Annotated[str, Positional, arg(metavar="NAME", help="Named config of the run.")]
    settings: Annotated[Config, arg(name="")]
    workers: int = 4
    """Trial actors at once, at most."""
    gpus_per_worker: float = 0.0
    """GPUs of each, fractions allowed."""
    cpus_per_node: int = 8
    """CPUs of a worker node."""
    storage: str | None = None
    """URI below which run folders are kept (s3://..., gs://..., az://...), instead of the driver's disk."""
    output: Path | None = None
    """The file; by default the standard output."""

    def run(self) -> None:
        ray = replace(self.settings.ray, address=None, gpus_per_worker=None)
        config = replace(self.settings, name=named_config(self.name).name, ray=ray)
        run = ClusterRun(config, self.workers, self.gpus_per_worker, self.cpus_per_node, self.storage)
        text = render(self.place, run)
        if self.output is None:
            say(text.rstrip("\n"))
            return
        self.output.write_text(text)
        _say_what_is_open(self.output)
        say(f"check it: python launch.py cluster check {self.output}")
        say(f"bring it up: {bring_up(self.place, str(self.output))}")


@dataclass(frozen=True)
class Check:
    """Finds the mistakes of a file, without a cluster; status 1 if there are any."""

    file: Annotated[Path, Positional, arg(metavar="FILE", help="File that `render` or somebody wrote.")]
    crd: Path | None = None
    """For a RayJob: KubeRay's CustomResourceDefinition of RayJobs, whose schema is checked too."""

    def run(self) -> None:
        findings = check_file(self.file, self.crd)
        for finding in findings:
            say(str(finding))
        if findings:
            raise ValueError(f"{self.file} has mistakes: {len(findings)}")
        say(f"{self.file}: no mistakes found")
        _say_what_is_open(self.file)


def _say_what_is_open(file: Path) -> None:
    lines = enumerate(file.read_text().splitlines(), start=1)
    if numbers := [str(number) for number, line in lines if "FILL_IN" in line.partition("#")[0]]:
        say(f"{file}: FILL_IN in lines {', '.join(numbers)}; cluster/README.md tells what to write there")


@dataclass(frozen=True)
class Doctor:
    """Examines a running cluster: versions, data, GPUs, kernels, disk and clock of every node."""

    name: Annotated[str, Positional, arg(metavar="NAME", help="Named config of the run it is for.")]
    settings: Annotated[Config, arg(name="")]

    def run(self) -> None:
        from cluster.doctor import examine  # it needs Ray and torch

        named_config(self.name)  # raises unless there is one
        examine(self.settings.here(ray_address=self.settings.ray.address or "auto"))


@dataclass(frozen=True)
class PreemptionAgent:
    """Waits for the cloud's notice that it takes this machine away, then drains its Ray node."""

    cloud: Annotated[Cloud, Positional, arg(metavar="CLOUD", help="aws, gcp or azure.")]
    head: str
    """HOST:PORT of Ray's head."""
    url: str | None = None
    """Metadata server, if not the cloud's own."""
    seconds: float = 5.0
    """Time between questions."""

    def run(self) -> None:
        watch(self.cloud, self.head, self.url, self.seconds)


def cluster_commands(arguments: Sequence[str]) -> dict[str, Any]:
    """The commands by name, with the settings of the config that `arguments` name as defaults."""
    name = next((argument for argument in arguments if argument in CONFIGS), "cifar10")
    return {
        "render": Render(tyro.MISSING, tyro.MISSING, CONFIGS[name]),
        "check": Check(tyro.MISSING),
        "preemption-agent": PreemptionAgent(tyro.MISSING, tyro.MISSING),
        "doctor": Doctor(tyro.MISSING, CONFIGS[name]),
    }
