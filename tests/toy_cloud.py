"""A cloud on this machine: an HTTP service that makes and ends hosts, and Ray's node provider for it.

The provider runs in `ray up` and in the autoscaler of the head; both know the cloud by its URL alone.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from ray.autoscaler.node_provider import NodeProvider


class Machine(Protocol):
    """What the cloud rents out."""

    @property
    def address(self) -> str:
        """Its address."""

    def end(self) -> None:
        """Ends it with all that it runs."""


@dataclass
class _Rented:
    machine: Machine
    tags: dict[str, str]


@dataclass
class ToyCloud:
    """Rents out machines.

    Args:
        make: Makes a machine of a name.

    Attributes:
        history: Number of machines after each change.
        launched: Node configuration of every machine that was made.
    """

    make: Callable[[str], Machine]
    history: list[int] = field(default_factory=list)
    launched: list[dict[str, Any]] = field(default_factory=list)
    _rented: dict[str, _Rented] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        with self._lock:
            for _ in range(count):
                self.launched.append(node_config)
                name = f"vm{len(self.launched)}"
                self._rented[name] = _Rented(self.make(name), dict(tags))
                self.history.append(len(self._rented))

    def end(self, name: str) -> None:
        with self._lock:
            if rented := self._rented.pop(name, None):
                rented.machine.end()
                self.history.append(len(self._rented))

    def end_all(self) -> None:
        for name in list(self._rented):
            self.end(name)

    def tag(self, name: str, tags: dict[str, str]) -> None:
        with self._lock:
            self._rented[name].tags.update(tags)

    def list(self) -> dict[str, dict[str, Any]]:
        """Address and tags of each machine."""
        with self._lock:
            return {
                name: {"address": rented.machine.address, "tags": rented.tags}
                for name, rented in self._rented.items()
            }

    @contextlib.contextmanager
    def served(self, address: str) -> Iterator[str]:
        """The URL of the cloud's service, which answers at an address of this machine."""
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                result = getattr(cloud, self.path[1:])(**call)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(result).encode())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{address}:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            self.end_all()


class ToyCloudProvider(NodeProvider):
    """Ray's view of the cloud: `provider: {type: external, module: toy_cloud.ToyCloudProvider, url: ...}`."""

    def _call(self, method: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self.provider_config['url']}/{method}", json.dumps(arguments).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _get(self, node_id: str) -> dict[str, Any]:
        return self._call("list").get(node_id, {"address": "", "tags": {}})

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        machines = self._call("list").items()
        return [name for name, machine in machines if tag_filters.items() <= machine["tags"].items()]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._call("list")

    def is_terminated(self, node_id: str) -> bool:
        return not self.is_running(node_id)

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._get(node_id)["tags"]

    def external_ip(self, node_id: str) -> str:
        return self._get(node_id)["address"]

    internal_ip = external_ip

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        self._call("create", node_config=node_config, tags=tags, count=count)

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self._call("tag", name=node_id, tags=tags)

    def terminate_node(self, node_id: str) -> None:
        self._call("end", name=node_id)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config
