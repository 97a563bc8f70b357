"""An object store on this machine that speaks the S3 protocol and checks its secrets (SeaweedFS)."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from processes import wait_until

BUCKET = "bucket"
_PORTS = [
    *(f"{part}.port{kind}" for part in ("master", "volume", "filer", "admin") for kind in ("", ".grpc")),
    *("s3.port.grpc", "s3.port.iceberg", "s3.port.lance"),
]


class Store:
    """A server that is running; made by `object_store`.

    Attributes:
        address: Host and port.
        environment: Variables with its address and the credentials that it takes.
    """

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.address = f"{host}:{_free_port()}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "AWS_ENDPOINT_URL": f"http://{self.address}",
            "AWS_REGION": "us-east-1",
        }
        self._ports = {name: _free_port() for name in _PORTS}
        self.process = self._start()

    def stop(self) -> None:
        """Kills the server: connections are refused from now on."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start(self) -> None:
        """Starts it again with what it stored."""
        self.process = self._start()

    def away(self, seconds: float) -> None:
        """Stops it for some time."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def _start(self) -> subprocess.Popen[bytes]:
        options: dict[str, object] = {
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "0.0.0.0",
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "s3.port": self.address.rpartition(":")[2],
            **self._ports,
        }
        self.folder.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [Path(sys.executable).with_name("weed"), "mini", *(f"-{k}={v}" for k, v in options.items())],
            env={**os.environ, **self.environment, "S3_BUCKET": BUCKET},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_until(self._answers, 60, "the object store")
        return process

    def _answers(self) -> bool:
        """Whether it has its bucket, and refuses requests without credentials, as it does once all is up."""
        try:
            urllib.request.urlopen(f"http://{self.address}/{BUCKET}", timeout=1)
        except urllib.error.HTTPError as error:
            return error.code == 403
        except OSError:
            return False
        return False


@contextlib.contextmanager
def object_store(folder: Path, host: str = "127.0.0.1") -> Iterator[Store]:
    """A server with an empty bucket; `host` is an address of this machine that its clients use."""
    store = Store(folder, host)
    try:
        yield store
    finally:
        store.stop()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
