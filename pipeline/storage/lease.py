"""One driver a run: a lock in a folder, a lease with an expiry in an object store."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snn.json_values import from_json, to_json
from snn.object_files import ObjectFiles, StoreAway

logger = logging.getLogger(__name__)

LEASE = "driver.json"
LOCK = ".driver.lock"
# A lease that its driver has not renewed for this long is free.
SECONDS_OF_LEASE = 30.0


@dataclass(frozen=True)
class Lease:
    """Who drives a run (driver.json).

    Attributes:
        driver: A random name of the driver.
        host: Name of its host.
        pid: Its process id there.
        machine: What tells its process ids from those of other machines and containers.
        renewals: How often it was renewed.
        released: Whether the driver has ended.
    """

    driver: str
    host: str
    pid: int
    machine: str
    renewals: int = 0
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


def own_lease() -> Lease:
    """A new lease of this process."""
    return Lease(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine())


@contextmanager
def leased(
    files: ObjectFiles,
    lease: Lease,
    *,
    on_lost: Callable[[str], None],
    on_wait: Callable[[str], None],
    seconds: float = SECONDS_OF_LEASE,
) -> Iterator[Lease | None]:
    """Holds the lease of a run for the time of the block; yields the lease before it, if any.

    Where another driver holds it, waits until it is renewed, which makes this an error, or has expired. That
    of a process of this machine that died is free at once.

    Args:
        files: The run's files.
        lease: Of this process.
        on_lost: Told, in another thread, that another driver took the lease over.
        on_wait: Told for whom it waits.
        seconds: How long a lease lasts without renewal.

    Raises:
        ValueError: Another driver works on the run.
    """
    before, version = _acquire(files, lease, on_wait, seconds)
    ended = threading.Event()
    keeper = _Keeper(files, lease, version, on_lost, ended, seconds)
    keeper.start()
    try:
        yield before
    finally:
        ended.set()
        keeper.join()
        keeper.release()


def _acquire(
    files: ObjectFiles, lease: Lease, on_wait: Callable[[str], None], seconds: float
) -> tuple[Lease | None, str]:
    seen: str | None = None
    end = time.monotonic() + seconds
    while True:
        found = files.read_version(LEASE)
        other = None if found is None else from_json(json.loads(found[0]), Lease)
        version = None if found is None else found[1]
        if other is None or other.released or _is_dead(other) or time.monotonic() > end:
            if (new := files.replace(LEASE, _written(lease), version)) is not None:
                return other, new
            seen, end = None, time.monotonic() + seconds  # somebody was faster
        elif seen is None:
            seen = version
            on_wait(f"{files} is driven by {other}; if that is dead, its lease ends in {seconds:.0f} s")
        elif seen != version:
            raise ValueError(
                f"'{files}' is driven by {other}, which is alive: stop it there, or choose another folder."
            )
        time.sleep(min(1.0, seconds / 20))


class _Keeper(threading.Thread):
    """Renews a lease until the end, or until it is lost."""

    def __init__(
        self,
        files: ObjectFiles,
        lease: Lease,
        version: str,
        on_lost: Callable[[str], None],
        ended: threading.Event,
        seconds: float,
    ) -> None:
        super().__init__(daemon=True)
        self.files, self.lease, self.version = files, lease, version
        self.on_lost, self.ended, self.seconds = on_lost, ended, seconds
        self.lost = False

    def run(self) -> None:
        while not self.ended.wait(self.seconds / 6):
            try:
                if not self._renew(replace(self.lease, renewals=self.lease.renewals + 1)):
                    return self.on_lost(f"'{self.files}' is driven by another process now")
            except StoreAway:
                continue  # as long as the store is away nobody else gets the lease

    def release(self) -> None:
        """Says that the driver has ended; where that fails, the lease expires."""
        if not self.lost:
            try:
                self._renew(replace(self.lease, released=True))
            except OSError:
                return

    def _renew(self, lease: Lease) -> bool:
        version = self.files.replace(LEASE, _written(lease), self.version)
        if version is None:  # or an answer got lost, and the repeated request met its own result
            found = self.files.read_version(LEASE)
            if found is None or json.loads(found[0]).get("driver") != lease.driver:
                self.lost = True
                return False
            version = found[1]
        self.lease, self.version = lease, version
        return True


@contextmanager
def locked(folder: Path, seconds: float = 5.0) -> Iterator[None]:
    """Holds the lock of a run's folder for the time of the block; the system frees that of a dead process.

    The folder is created; if nothing is written into it, it is removed.

    Raises:
        ValueError: Another driver holds it, for this many seconds at least.
        OSError: The folder cannot be made.
    """
    folder = folder.resolve()
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The run folder '{folder}' cannot be made: {error}. Choose another one.") from error
    with _lock_file(folder / LOCK, seconds):
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)
            if is_new:
                with suppress(OSError):  # not empty
                    folder.rmdir()


@contextmanager
def _lock_file(path: Path, seconds: float) -> Iterator[None]:
    import fcntl

    end = time.monotonic() + seconds
    while True:
        with open(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    file.seek(0)
                    raise ValueError(
                        f"'{path.parent}' is driven by {file.read() or 'another process'}: wait for it, stop "
                        "it, or choose another folder."
                    ) from None
            except OSError as error:
                logger.warning("'%s' cannot be locked (%s): start no second driver on it", path.parent, error)
                yield
                return
            else:
                if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    file.write(str(own_lease()))
                    file.flush()
                    yield
                    return
        time.sleep(0.1)


def _written(lease: Lease) -> bytes:
    return (json.dumps(to_json(lease), indent=1) + "\n").encode()


def _is_dead(lease: Lease) -> bool:
    """Whether the driver was a process of this machine that is no more."""
    return lease.machine == _machine() and not Path(f"/proc/{lease.pid}").exists()


def _machine() -> str:
    facts: list[Any] = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip())
        except OSError:
            facts.append(uuid.getnode())
    return "/".join(map(str, facts))
