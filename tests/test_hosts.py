"""The hosts that cluster tests run on are hosts: reachable, cut off, healed, ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hosts import Host, network, why_no_hosts
from processes import wait_until

pytestmark = pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())


def reaches(host: Host, other: Host) -> bool:
    """Whether a connection to the other host's port 8000 can be made within a second."""
    connect = f"import socket; socket.create_connection(('{other.address}', 8000), 1)"
    return host.run([sys.executable, "-c", connect], check=False).returncode == 0


def test_hosts_have_their_own_processes_folders_and_links() -> None:
    with network() as lab:
        first, second = lab.host("first"), lab.host("second")
        assert first.run(["hostname"]).stdout == "first\n"
        assert first.run(["sh", "-c", "echo $HOME"]).stdout == f"{first.folder}/home\n"
        server = second.start([sys.executable, "-m", "http.server", "8000"], second.folder / "out")
        wait_until(lambda: reaches(first, second), 10, "the server")
        second.cut()
        assert not reaches(first, second)
        second.heal()
        wait_until(lambda: reaches(first, second), 10, "the healed link")
        assert server.poll() is None and not set(first.pids()) & set(second.pids())
        names = sorted(psutil.Process(pid).name() for pid in second.pids())
        assert names == [Path(sys.executable).name, "sh", "sleep"], "the server and the host's own"
        second.end()
        assert server.wait(timeout=5) and not reaches(first, second)
    assert not Path(lab.folder).exists()
    links = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True)
    assert f"{first.address.split('.')[2]}-" not in links.stdout.replace("lab", "")
