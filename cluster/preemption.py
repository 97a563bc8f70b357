"""Turns a cloud's notice that it takes a machine away into a drain of the machine's Ray node.

On Kubernetes and Slurm a node gets SIGTERM, at which Ray drains by itself. A virtual machine is only told
through its metadata server, which this agent asks every few seconds.
"""

from __future__ import annotations

import json
import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.console import say

logger = logging.getLogger(__name__)

Cloud = Literal["aws", "gcp", "azure"]

_SECONDS_TO_ANSWER = 2.0
_SECONDS_LEFT_ON_GCP = 30.0
_SECONDS_TO_LOOK_UP = 10.0


@dataclass(frozen=True)
class Notice:
    """The machine is taken away.

    Attributes:
        deadline: When, as UNIX time in seconds.
        text: What the cloud says.
    """

    deadline: float
    text: str


class Metadata:
    """A metadata server.

    Args:
        url: Where it answers, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
        """What it answers; None if it knows no such thing.

        Raises:
            OSError: It does not answer.
        """
        request = urllib.request.Request(self.url + path, headers=dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise


def ask_aws(metadata: Metadata) -> Notice | None:
    """The instance action of a spot machine, two minutes ahead (EC2 User Guide, IMDSv2)."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = metadata.get("/latest/api/token", lifetime, "PUT") or ""
    text = metadata.get("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    if text is None:
        return None
    action = json.loads(text)
    return Notice(_parse_time(action["time"]), action["action"])


def ask_gcp(metadata: Metadata) -> Notice | None:
    """Whether the machine is being preempted, 30 s ahead (Compute Engine, instance metadata)."""
    text = metadata.get("/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    if text is None or text.strip() != "TRUE":
        return None
    return Notice(time.time() + _SECONDS_LEFT_ON_GCP, "preempted")


def ask_azure(metadata: Metadata) -> Notice | None:
    """The scheduled event that ends this machine, 30 s ahead (Azure Instance Metadata Service)."""
    header = {"Metadata": "true"}
    name = metadata.get("/metadata/instance/compute/name?api-version=2021-02-01&format=text", header)
    text = metadata.get("/metadata/scheduledevents?api-version=2020-07-01", header)
    for event in json.loads(text or "{}").get("Events", []):
        if event["EventType"] in ("Preempt", "Terminate") and name in event["Resources"]:
            given = event.get("NotBefore")
            deadline = datetime.strptime(given, "%a, %d %b %Y %H:%M:%S GMT") if given else None
            return Notice(
                deadline.replace(tzinfo=UTC).timestamp() if deadline else time.time(), event["EventType"]
            )
    return None


_CLOUDS: dict[Cloud, tuple[str, Callable[[Metadata], Notice | None]]] = {
    "aws": ("http://169.254.169.254", ask_aws),
    "gcp": ("http://metadata.google.internal", ask_gcp),
    "azure": ("http://169.254.169.254", ask_azure),
}


def watch(cloud: Cloud, head: str, url: str | None, seconds: float) -> None:
    """Waits for the notice, then drains this machine's Ray node; a silent metadata server is asked again.

    Args:
        cloud: Whose metadata server it is.
        head: HOST:PORT of Ray's head.
        url: The metadata server, if not the cloud's own.
        seconds: Time between questions.
    """
    default, ask = _CLOUDS[cloud]
    metadata = Metadata(url or default)
    say(f"asking {metadata.url} every {seconds:g} s whether {cloud} takes this machine away")
    answers = True
    while True:
        try:
            if notice := ask(metadata):
                drain(head, notice)
                return
            answers = True
        except (OSError, ValueError, KeyError) as error:
            if answers:
                logger.warning("the metadata server does not answer: %s", error)
            answers = False
        time.sleep(seconds)


def drain(head: str, notice: Notice) -> None:
    """Asks Ray to give this machine's node no more work and to let it go.

    Raises:
        RuntimeError: The node is not in the cluster, or Ray refuses.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

    client, address = GcsClient(address=head), _own_address(head)
    nodes = client.get_all_node_info(timeout=_SECONDS_TO_LOOK_UP)
    ours = [node for node in nodes.values() if node.node_manager_address == address and not node.state]
    if not ours:
        raise RuntimeError(f"no node of the cluster at '{head}' has this machine's address, {address}")
    for node in ours:
        accepted, why = client.drain_node(
            node.node_id.hex(),
            DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            notice.text,
            int(1000 * notice.deadline),
        )
        if not accepted:
            raise RuntimeError(f"Ray does not drain node {node.node_id.hex()}: {why}")
    left = notice.deadline - time.time()
    say(f"this machine is taken away in {left:.0f} s ({notice.text}): its Ray node is drained")


def _own_address(head: str) -> str:
    """The address from which this machine reaches the head."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((head.rpartition(":")[0], 9))
        address: Any = probe.getsockname()[0]
        return str(address)


def _parse_time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
