"""Slurm on this machine: a controller and nodes, each a host of its own, that run jobs.

Accounting is left out: `scontrol` keeps what became of a job for an hour. Needs root, the Debian packages
munge, slurmctld, slurmd and slurm-client, and what hosts need.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from hosts import Host, network, why_no_hosts
from processes import wait_until

_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
_CONFIG = """
ClusterName=lab
SlurmctldHost={controller}({address})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=3600
{nodes}
PartitionName=lab Nodes=ALL Default=YES State=UP
"""


def why_no_slurm() -> str:
    """Why Slurm cannot run here; empty if it can."""
    if missing := [name for name in _DAEMONS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed (Debian: munge, slurmctld, slurmd, slurm-client)"
    return why_no_hosts()


class Slurm:
    """A running Slurm; made by `slurm`.

    Attributes:
        nodes: The hosts that run jobs, by name.
        home: The user's home on every node.
    """

    def __init__(self, folder: Path, controller: Host, nodes: dict[str, Host]) -> None:
        self.nodes = nodes
        self.home = Path(controller.environment["HOME"])
        self._folder = folder
        self._controller = controller
        self._environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *command: object) -> str:
        """Runs a command on the controller's host, such as scontrol, and returns its output."""
        return self._controller.run([str(word) for word in command], self._environment).stdout

    def submit(self, script: Path, **environment: str) -> int:
        """Hands in a script from the folder it lies in; returns the job's id."""
        command = ["sbatch", "--parsable", f"--chdir={script.parent}", str(script)]
        return int(self._controller.run(command, self._environment | environment).stdout)

    def job(self, number: int) -> dict[str, str]:
        """What Slurm says of a job."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "show", "job", number)))

    def wait_for_state(self, number: int, *states: str, seconds: float = 60) -> dict[str, str]:
        """Waits until a job is in one of the states; returns what Slurm says of it."""
        what = f"job {number} to be {' or '.join(states)}"
        wait_until(lambda: self.job(number)["JobState"] in states, seconds, what)
        return self.job(number)

    def end_of(self, number: int, seconds: float) -> dict[str, str]:
        """Waits until a job has ended and its nodes are free; returns what Slurm says of it."""
        self.wait_for_state(number, *_ENDED, seconds=seconds)
        wait_until(lambda: "COMPLETING" not in self.call("squeue", "--long"), 60, "free nodes")
        return self.job(number)

    def start_daemons(self) -> None:
        """Starts Slurm; each daemon ends with its host."""
        controller, munge = self._controller, self._folder / "munge"
        key = self._folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        self._daemon(
            controller,
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}"),
            *(f"--{name}-file={self._folder}/munge.{name}" for name in ("pid", "log", "seed")),
        )
        wait_until(munge.exists, 10, "munge")
        (self._folder / "state").mkdir()
        self._daemon(controller, "slurmctld", "-D")
        for name, host in self.nodes.items():
            self._daemon(host, "slurmd", "-D", "-N", name)
        wait_until(self._all_idle, 30, "the nodes")

    def _daemon(self, host: Host, *command: str) -> None:
        host.start(command, self._folder / f"{host.name}-{command[0]}.out", self._environment)

    def _all_idle(self) -> bool:
        done = self._controller.run(["sinfo", "-h", "-N", "-o", "%t"], self._environment, check=False)
        return done.stdout.split() == ["idle"] * len(self.nodes)


@contextlib.contextmanager
def slurm(num_nodes: int, cpus: int) -> Iterator[Slurm]:
    """Starts Slurm with nodes of this many CPUs; at the end they are switched off."""
    with network() as lab:
        controller = lab.host("controller")
        nodes = {name: lab.host(name) for name in (f"node{i + 1}" for i in range(num_nodes))}
        lines = [f"NodeName={name} NodeAddr={host.address} CPUs={cpus}" for name, host in nodes.items()]
        config = _CONFIG.format(
            controller=controller.name,
            address=controller.address,
            folder=lab.folder,
            nodes="\n".join(lines),
        )
        (lab.folder / "slurm.conf").write_text(config)
        made = Slurm(lab.folder, controller, nodes)
        made.start_daemons()
        yield made
