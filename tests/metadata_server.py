"""The metadata server of a cloud, which answers as the cloud's own does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token"


class MetadataServer:
    """A machine's metadata; `deadline`, in UNIX time, is set when the machine is taken away."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.asked: list[str] = []

    def answer(self, method: str, path: str, headers: dict[str, str]) -> str | None:
        """The answer to a request; None is "not found"."""
        self.asked.append(path)
        if path.startswith("/latest"):
            return self._aws(method, path, headers)
        if path.startswith("/computeMetadata") and headers.get("Metadata-Flavor") == "Google":
            return "TRUE" if self.deadline else "FALSE"
        if path.startswith("/metadata/instance/compute/name") and headers.get("Metadata") == "true":
            return "this-machine"
        if path.startswith("/metadata/scheduledevents") and headers.get("Metadata") == "true":
            return json.dumps({"Events": self._azure_events()})
        return None

    def _aws(self, method: str, path: str, headers: dict[str, str]) -> str | None:
        if path == "/latest/api/token":
            return TOKEN if method == "PUT" else None
        allowed = headers.get("X-Aws-Ec2-Metadata-Token") == TOKEN
        if not allowed or self.deadline is None or not path.endswith("/spot/instance-action"):
            return None
        time = datetime.fromtimestamp(self.deadline, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps({"action": "terminate", "time": time})

    def _azure_events(self) -> list[dict[str, object]]:
        other = {"EventType": "Preempt", "Resources": ["another"], "NotBefore": ""}
        if self.deadline is None:
            return [other]
        before = datetime.fromtimestamp(self.deadline, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return [other, {"EventType": "Preempt", "Resources": ["this-machine"], "NotBefore": before}]

    @contextlib.contextmanager
    def served(self, address: str) -> Iterator[str]:
        """Its URL at an address of this machine."""
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = {name.title(): value for name, value in self.headers.items()}
                text = metadata.answer(self.command, self.path, headers)
                self.send_response(404 if text is None else 200)
                self.end_headers()
                self.wfile.write((text or "").encode())

            do_PUT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((address, 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{address}:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
