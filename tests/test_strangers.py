"""A cluster is closed to whoever lacks its token, and says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Host, why_no_hosts
from processes import wait_until
from ray_hosts import RayHosts, ray_hosts

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())]

ROOT = Path(__file__).resolve().parents[1]
CLIENT = 10001  # Ray's client server cannot be switched off
# What listens beyond loopback; cluster/README.md says what for.
LISTEN = {"gcs_server", "raylet", "ray::RuntimeEnv"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHosts]:
    with ray_hosts(1) as hosts:
        yield hosts


def run_and_read(cluster: RayHosts, tmp_path: Path, address: str, **environment: str) -> str:
    """All that a driver says that cannot join."""
    command = [sys.executable, str(ROOT / "launch.py"), "run", "demo", "--run-dir", str(tmp_path / "run")]
    done = cluster.head.run(
        [*command, "--ray.address", address], {**cluster.environment, **environment}, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stderr


def run(cluster: RayHosts, tmp_path: Path, address: str, **environment: str) -> str:
    """The error of a driver that cannot join."""
    errors = run_and_read(cluster, tmp_path, address, **environment).splitlines()
    [line] = [line for line in errors if line.startswith("error: ")]
    return line


def test_wrong_token_is_named(cluster: RayHosts, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    line = run(cluster, tmp_path, cluster.address, RAY_AUTH_TOKEN_PATH=str(wrong))
    assert f"does not accept the token of '{wrong}'" in line
    line = run(cluster, tmp_path, cluster.address, RAY_AUTH_TOKEN="1" * 64)
    assert "does not accept the token of RAY_AUTH_TOKEN" in line and "1111" not in line
    line = run(cluster, tmp_path, cluster.address, RAY_AUTH_MODE="disabled")
    assert "which sends none (RAY_AUTH_MODE is 'disabled')" in line


def test_token_for_all_eyes_is_warned_of(cluster: RayHosts, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    for mode, warned in ((0o644, True), (0o600, False)):
        token.chmod(mode)
        errors = run_and_read(cluster, tmp_path, cluster.address, RAY_AUTH_TOKEN_PATH=str(token))
        assert (f"can read the cluster's token, '{token}'" in errors) == warned


def test_missing_token_is_named(cluster: RayHosts, tmp_path: Path) -> None:
    line = run(cluster, tmp_path, cluster.address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert f"there is no file '{tmp_path / 'none'}'" in line and "chmod 600" in line


def test_address_at_which_nothing_answers(cluster: RayHosts, tmp_path: Path) -> None:
    line = run(cluster, tmp_path, f"{cluster.head.address}:6380")
    assert "no Ray cluster answers there" in line and "Connection refused" in line


def open_ports(host: Host, other: Host) -> dict[int, str]:
    """Ports of a host that accept a connection from another one, and who listens there."""
    listening = host.run(["ss", "-Hltnp"]).stdout.splitlines()
    owners = {int(line.split()[3].rpartition(":")[2]): line for line in listening}
    connect = (
        "import socket, sys\n"
        "for port in range(1, 65536):\n"
        "    s = socket.socket(); s.settimeout(1)\n"
        f"    if s.connect_ex(('{host.address}', port)) == 0: print(port)\n"
        "    s.close()"
    )
    found = other.run([sys.executable, "-c", connect]).stdout.split()
    return {int(port): re.findall(r'"(.*?)"', owners[int(port)])[0] for port in found}


def test_port_scan_finds_only_what_ray_needs_between_its_nodes(cluster: RayHosts) -> None:
    [worker] = cluster.workers
    on_head, on_worker = open_ports(cluster.head, worker), open_ports(worker, cluster.head)
    assert on_head.pop(6379) == "gcs_server" and on_head.pop(CLIENT) == "python"
    assert set(on_head.values()) | set(on_worker.values()) <= LISTEN
    assert not {8265, 8080, 52365} & (on_head.keys() | on_worker.keys()), "dashboard and metrics"


def test_stranger_gets_nothing(cluster: RayHosts) -> None:
    ask = "from ray._raylet import GcsClient\n"
    ask += f"GcsClient(address='{cluster.address}').internal_kv_keys(b'', namespace=None, timeout=5)"
    client = f"import ray\nray.init('ray://{cluster.head.address}:{CLIENT}')\nprint(ray.nodes())"
    [worker] = cluster.workers
    for program in (ask, client):
        command = [sys.executable, "-c", program]
        # Ray gives a client's server seconds to start, which a busy machine may exceed.
        wait_until(lambda it=command: not worker.run(it, cluster.environment, check=False).returncode)
        stranger = {**cluster.environment, "RAY_AUTH_MODE": "disabled"}
        refused = worker.run(command, stranger, check=False)
        assert refused.returncode and not refused.stdout


def test_token_is_nowhere_but_in_its_file(cluster: RayHosts) -> None:
    token = (cluster.lab.folder / "token").read_text()
    found = subprocess.run(["grep", "-rlF", token, cluster.lab.folder], capture_output=True, text=True)
    assert found.stdout.split() == [str(cluster.lab.folder / "token")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        assert token.encode() not in path.read_bytes(), path
