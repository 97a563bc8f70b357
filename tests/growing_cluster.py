"""A Ray cluster on this machine whose autoscaler starts and ends nodes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import kill_family

_HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # what Ray's fake provider calls its head
_PORT = 7321


@dataclass(frozen=True)
class GrowingCluster:
    """A running cluster.

    Attributes:
        address: Of its head.
        environment: Variables of a process that joins it.
    """

    address: str
    environment: Mapping[str, str]


@contextlib.contextmanager
def growing_cluster(
    node_types: dict[str, dict[str, Any]], *, idle_seconds: float
) -> Iterator[GrowingCluster]:
    """Starts a head without CPUs, and an autoscaler (version 2) that ends nodes when they are idle.

    Args:
        node_types: Entries of `available_node_types` by name.
        idle_seconds: How long a node may be idle.
    """
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        token = Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        config = Path(folder, "cluster.json")
        config.write_text(json.dumps(_config(node_types, idle_seconds)))
        ours = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": folder,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        environment = {
            **os.environ,
            **ours,
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        start = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=0"),
            *(f"--port={_PORT}", f"--temp-dir={folder}", "--include-dashboard=false"),
            *(f"--autoscaling-config={config}", "--disable-usage-stats", "--node-ip-address=127.0.0.1"),
        ]
        with Path(folder, "out").open("w") as out:
            head = subprocess.Popen(start, env=environment, stdout=out, stderr=out, cwd=folder)
            try:
                _wait_for("Ray runtime started", Path(folder, "out"), head)
                yield GrowingCluster(f"127.0.0.1:{_PORT}", ours)
            finally:
                kill_family(head)


def _config(node_types: dict[str, dict[str, Any]], idle_seconds: float) -> dict[str, Any]:
    return {
        "cluster_name": "growing",
        "max_workers": 8,
        "idle_timeout_minutes": idle_seconds / 60,
        "upscaling_speed": 100.0,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": _HEAD,
        },
        "available_node_types": {
            **node_types,
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        },
        "head_node_type": "head",
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


def _wait_for(text: str, file: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while text not in file.read_text():
        assert process.poll() is None and time.monotonic() < end, file.read_text()
        time.sleep(0.1)
