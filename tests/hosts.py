"""Hosts on this machine: namespaces with their own address, process table and folders, on one network.

They share the file system, so programs and the checkout need no copies; what a host writes goes to its own
home and temporary folder. Needs root, util-linux and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_SUBNETS = range(16, 250)


def why_no_hosts() -> str:
    """Why hosts cannot be made here; empty if they can."""
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed (Debian: util-linux, iproute2)"
    tried = subprocess.run(
        [
            "unshare",
            "--net",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--mount-proc",
            "ip",
            "link",
            "show",
            "lo",
        ],
        capture_output=True,
        text=True,
    )
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else ""


class Host:
    """A host that is running; made by `Network.host`.

    Attributes:
        name: Its host name.
        address: Its IPv4 address.
        folder: Its own folder; `home` and `t`, its temporary folder, are below.
        environment: Variables that make programs use these folders.
    """

    def __init__(self, name: str, address: str, folder: Path, gateway: str, bridge: str) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self._bridge = bridge
        self._link = f"{bridge}-{address.rpartition('.')[2]}"
        home, temporary = folder / "home", folder / "t"
        for path in (home, temporary):
            path.mkdir(parents=True)
        self.environment = {"HOME": str(home), "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
        self._init = self._start()
        self._connect(gateway)

    def _start(self) -> subprocess.Popen[bytes]:
        files = {
            "hosts": f"127.0.0.1 localhost\n{self.address} {self.name}\n",
            "passwd": re.sub(
                r"(?m)^(root:.*):/root:", rf"\1:{self.folder}/home:", Path("/etc/passwd").read_text()
            ),
            "resolv.conf": "",  # no name server: an unknown name is unknown at once
        }
        for name, text in files.items():
            Path(self.folder, name).write_text(text)
        script = "; ".join(
            [
                f"hostname {self.name}",
                "mount -t tmpfs tmpfs /dev/shm",
                *(f"mount --bind {self.folder}/{name} /etc/{name}" for name in files),
                "ip link set lo up",
                "echo up",
                "while :; do sleep 9999 & wait $!; done",  # buries orphans, as init does
            ]
        )
        init = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
                *("--mount-proc", "sh", "-c", script),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it complains when its child is killed
            start_new_session=True,
        )
        assert init.stdout is not None and init.stdout.readline() == b"up\n"
        self._pid = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()[0]
        return init

    def _connect(self, gateway: str) -> None:
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._pid)
        _ip("link", "set", self._link, "master", self._bridge, "up")
        self.run(["ip", "addr", "add", f"{self.address}/24", "dev", "eth0"])
        self.run(["ip", "link", "set", "eth0", "up"])
        self.run(["ip", "route", "add", "default", "via", gateway])

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs a command on the host."""
        enter = [
            "nsenter",
            "-t",
            self._pid,
            "--net",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            f"--wd={self.folder}",
        ]
        return [*enter, "--", *command]

    def start(
        self, command: Sequence[str], out: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a command whose output goes to a file."""
        with out.open("ab") as file:
            return subprocess.Popen(
                self.command(command),
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; an AssertionError holds its output if it fails."""
        done = subprocess.run(
            self.command(command),
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert not (check and done.returncode), f"{command}: {done.stdout}{done.stderr}"
        return done

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {**inherited, **self.environment, **(more or {})}

    def pids(self) -> list[int]:
        """Process ids, outside the host, of all that it runs."""
        own = os.readlink(f"/proc/{self._pid}/ns/pid")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/pid") == own:
                    found.append(int(path.name))
        return found

    def cut(self) -> None:
        """Unplugs its cable: from now on packets vanish without an error."""
        _ip("link", "set", self._link, "nomaster")

    def heal(self) -> None:
        """Plugs its cable in again."""
        _ip("link", "set", self._link, "master", self._bridge)

    def end(self) -> None:
        """Switches it off: its processes get no signal that they could handle."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self._pid), signal.SIGKILL)
        self._init.wait()
        subprocess.run(["ip", "link", "del", self._link], capture_output=True)


class Network:
    """Hosts on one bridge; made by `network`.

    Attributes:
        address: This machine's address on the network.
    """

    def __init__(self, folder: Path, bridge: str, subnet: int) -> None:
        self.folder = folder
        self.address = f"10.77.{subnet}.1"
        self._bridge = bridge
        self._hosts: list[Host] = []

    def host(self, name: str) -> Host:
        """Switches on a host of that name."""
        number = 10 + len(self._hosts)
        address = f"{self.address.rpartition('.')[0]}.{number}"
        host = Host(name, address, self.folder / str(number), self.address, self._bridge)
        self._hosts.append(host)
        return host

    def end(self) -> None:
        for host in self._hosts:
            host.end()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network without hosts; at the end all its hosts are switched off and their folders removed."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))  # short: names of Unix sockets end after 107 bytes
    bridge, subnet = _make_bridge()
    made = Network(folder, bridge, subnet)
    try:
        yield made
    finally:
        made.end()
        _ip("link", "del", bridge)
        shutil.rmtree(folder, ignore_errors=True)


def _make_bridge() -> tuple[str, int]:
    """A bridge in the first subnet that is free; networks of other processes have theirs."""
    for subnet in _SUBNETS:
        bridge = f"lab{subnet}"
        if (
            subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True).returncode
            == 0
        ):
            _ip("addr", "add", f"10.77.{subnet}.1/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            return bridge, subnet
    raise AssertionError("no subnet is free")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
