"""A Ray cluster of two nodes on this machine, of which the second can be taken away and another added."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from processes import kill_family, write_token

# Two nodes on this machine. The line "remove" on standard input takes the second away, "add" adds another; at
# its end all are ended.
TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
second = cluster.add_node(**node)
print(cluster.address, second.node_id, flush=True)
for line in sys.stdin:
    if line == "add\\n":
        cluster.add_node(**node)
    else:
        cluster.remove_node(second, allow_graceful=False)
cluster.shutdown()
"""


@contextlib.contextmanager
def two_nodes(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A cluster of two nodes with a CPU each: its process, its address and the second node's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address, second = process.stdout.readline().split()
        yield process, address, second
        process.stdin.close()
        process.wait(60)
    finally:
        kill_family(process)


@contextlib.contextmanager
def small_cluster() -> Iterator[tuple[subprocess.Popen[str], str, str, dict[str, str]]]:
    """What two_nodes yields, and the environment of a driver; with a token and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ours = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(write_token(Path(folder))),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_TMPDIR": folder,
        }
        with two_nodes(os.environ | ours) as nodes:
            yield *nodes, ours
