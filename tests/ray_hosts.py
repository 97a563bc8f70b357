"""A Ray cluster on hosts in namespaces, started as the files in cluster/ start it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hosts import Host, Network, network
from processes import wait_until, write_token

PORT = 6379


@dataclass
class RayHosts:
    """A head, where the driver runs, and workers; made by `ray_hosts`.

    Attributes:
        lab: Their network.
        head: The head's host; it has no CPUs for work.
        workers: The other hosts.
        environment: Variables of everything that uses the cluster.
    """

    lab: Network
    head: Host
    workers: list[Host]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where Ray's head listens."""
        return f"{self.head.address}:{PORT}"

    def start_driver(self, arguments: Sequence[str], out: Path) -> subprocess.Popen[bytes]:
        """Starts `launch.py` on the head, on this cluster."""
        launch = Path(__file__).resolve().parents[1] / "launch.py"
        command = [sys.executable, str(launch), *arguments, "--ray.address", self.address]
        return self.head.start(command, out, self.environment)


@contextlib.contextmanager
def ray_hosts(*cpus: int, variables: Mapping[str, str] | None = None) -> Iterator[RayHosts]:
    """A cluster with a worker host for each number of CPUs.

    Args:
        cpus: CPUs of each worker.
        variables: More variables of all its processes.
    """
    with network() as lab:
        head = lab.host("head")
        workers = [lab.host(f"worker{number}") for number in range(1, len(cpus) + 1)]
        token = write_token(lab.folder)
        environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_enable_metrics_collection": "0",
            **(variables or {}),
        }
        cluster = RayHosts(lab, head, workers, environment)
        _start_ray(cluster, head, "--head", f"--port={PORT}", "--include-dashboard=false", "--num-cpus=0")
        wait_until(lambda: "Ray runtime started" in (head.folder / "ray.log").read_text(), 60, "the head")
        for worker, number in zip(workers, cpus, strict=True):
            _start_ray(cluster, worker, f"--address={cluster.address}", f"--num-cpus={number}")
        for worker in workers:
            log = worker.folder / "ray.log"
            wait_until(lambda log=log: "Ray runtime started" in log.read_text(), 60, worker.name)
        yield cluster


def _start_ray(cluster: RayHosts, host: Host, *options: str) -> None:
    ray = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--block"),
        *(f"--temp-dir={host.folder}/t", "--object-store-memory=100000000", "--disable-usage-stats"),
        f"--node-ip-address={host.address}",
    ]
    loop = ["sh", "-c", 'while true; do "$@"; sleep 1; done', "loop", *ray]
    host.start(loop, host.folder / "ray.log", cluster.environment)
