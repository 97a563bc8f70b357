"""Writes to a store that may be slow or away: they wait on the local disk, in order."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedIOBase, BytesIO
from typing import TypeVar

from pipeline.storage.files import LocalFiles, read_bytes
from pipeline.storage.lease import Lease
from snn.object_files import ObjectFiles, StoreAway
from snn.user_cache import user_cache

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# At the end of a command, and after an error or a signal: how long it waits for a store that is away.
SECONDS_AT_END = 120.0
SECONDS_AFTER_ERROR = 2.0
# How long a request waits for a store that is away, for a driver and for other commands.
SECONDS_FOR_ANSWER = 600.0
SECONDS_WITHOUT_RUN = 20.0
_SECONDS_BETWEEN_TRIES = 1.0


@dataclass(frozen=True)
class _Write:
    """A write that waits: of a file, or its deletion; and the driver that asked for it."""

    name: str
    driver: str | None
    deleted: bool


class QueuedFiles:
    """Files of an object store for a run; implements `pipeline.storage.files.Files`.

    While a driver holds the run (`queueing`), a thread writes in the order of the calls, so that the last
    file of a stage is still the last one; this object reads what it has yet to write. What waits is kept in
    the user's cache and survives the process. Otherwise writes are immediate.

    Args:
        files: The store.
    """

    def __init__(self, files: ObjectFiles) -> None:
        self.store = files
        key = hashlib.sha256(str(files).encode()).hexdigest()[:16]
        self.kept = LocalFiles(user_cache() / "unwritten" / key)
        self._changed = threading.Condition()
        self._waiting: dict[str, _Write] = {}  # by the name of the kept file, in order
        self._driver: str | None = None
        self._number = 0
        self._failure: OSError | None = None
        self._away = False

    def __str__(self) -> str:
        return str(self.store)

    def __reduce__(self) -> tuple[type[QueuedFiles], tuple[ObjectFiles]]:
        return QueuedFiles, (self.store,)

    def open(self, name: str) -> BufferedIOBase:
        with self._changed:
            if (kept := self._latest(name)) is not None:
                if self._waiting[kept].deleted:
                    raise FileNotFoundError(f"'{self}/{name}' does not exist.")
                return BytesIO(_unpacked(read_bytes(self.kept, kept))[1])
        return self._patiently(lambda: self.store.open(name))

    def put(self, name: str, data: bytes) -> None:
        if self._driver is None:
            self._patiently(lambda: self.store.put(name, data))
        else:
            self._keep(name, data, deleted=False)

    def delete(self, name: str) -> None:
        if self._driver is None:
            self._patiently(lambda: self.store.delete(name))
        else:
            self._keep(name, b"", deleted=True)

    def list(self, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/" if folder else ""
        with self._changed:
            waiting = {write.name: write.deleted for write in self._waiting.values()}
        stored = self._patiently(lambda: self.store.list(folder))
        names = {*stored, *(name for name in waiting if name.startswith(prefix))}
        return sorted(name for name in names if not waiting.get(name))

    def exists(self, name: str) -> bool:
        with self._changed:
            if (kept := self._latest(name)) is not None:
                return not self._waiting[kept].deleted
        return self._patiently(lambda: self.store.exists(name))

    def flush(self) -> None:
        with self._changed:
            while self._waiting and self._failure is None:
                self._changed.wait()
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def queueing(self, lease: Lease, before: Lease | None) -> Iterator[None]:
        """Writes in a thread during the block, and first what an earlier driver of this machine kept.

        That is dropped if another driver has worked on the run since.

        Args:
            lease: Of this driver.
            before: The lease before it.

        Raises:
            OSError: At the end, something could not be written; it stays kept, and the message says where.
        """
        self._driver = lease.driver
        self._take_over(before)
        ended = threading.Event()
        writer = threading.Thread(target=self._write, args=(ended,), daemon=True)
        writer.start()
        try:
            yield
        except BaseException:
            self._end(writer, ended, SECONDS_AFTER_ERROR)
            raise
        self._end(writer, ended, SECONDS_AT_END)
        if self._waiting:
            raise OSError(
                f"{len(self._waiting):,} files could not be written to '{self}' and are kept in "
                f"'{self.kept}': give the same command again on this machine when the storage can be reached"
                f". {self._failure or ''}"
            )

    def _end(self, writer: threading.Thread, ended: threading.Event, seconds: float) -> None:
        """Waits until everything is written, for a store that is away not for ever."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._waiting and self._failure is None and (not self._away or time.monotonic() < end):
                self._changed.wait(0.2)
            ended.set()
            self._changed.notify_all()
        writer.join(timeout=1)  # what it is about to write stays kept
        self._driver = None

    def _take_over(self, before: Lease | None) -> None:
        kept = {name: _unpacked(read_bytes(self.kept, name)) for name in self.kept.list("")}
        ours = before is not None and all(write.driver == before.driver for write, _ in kept.values())
        for name in kept if not ours else ():
            self.kept.delete(name)
        if kept and not ours:
            logger.warning(
                "%d files that could not be written to '%s' earlier are dropped: another driver has worked "
                "on it since",
                len(kept),
                self,
            )
        elif kept:
            logger.warning("%d files that could not be written to '%s' earlier are written", len(kept), self)
            for name, (write, data) in kept.items():
                self._waiting[name] = replace(write, driver=self._driver)  # they are this driver's now
                self.kept.put(name, _packed(self._waiting[name], data))
            self._number = 1 + int(max(kept))

    def _keep(self, name: str, data: bytes, *, deleted: bool) -> None:
        if self._failure is not None:
            raise self._failure
        write = _Write(name, self._driver, deleted)
        with self._changed:
            kept = f"{self._number:09d}"
            self._number += 1
            self.kept.put(kept, _packed(write, data))
            self._waiting[kept] = write
            self._changed.notify_all()

    def _write(self, ended: threading.Event) -> None:
        """The thread: writes what waits, the oldest first."""
        while True:
            with self._changed:
                while not self._waiting and not ended.is_set():
                    self._changed.wait()
                if ended.is_set():
                    return
                kept = next(iter(self._waiting))
                write, data = _unpacked(read_bytes(self.kept, kept))
            try:
                if write.deleted:
                    self.store.delete(write.name)
                else:
                    self.store.put(write.name, data)
            except StoreAway as error:
                self._say_away(error)
                ended.wait(_SECONDS_BETWEEN_TRIES)
            except OSError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                return
            else:
                self._wrote(kept)

    def _wrote(self, kept: str) -> None:
        with self._changed:
            del self._waiting[kept]
            self.kept.delete(kept)
            self._changed.notify_all()
            left = len(self._waiting)
        if self._away:
            self._away = False
            logger.warning("'%s' can be reached again; %d files are written now", self, left)

    def _say_away(self, error: StoreAway) -> None:
        if not self._away:
            self._away = True
            logger.warning(
                "%s It is tried again; what is written meanwhile is kept in '%s'.", error, self.kept
            )

    def _patiently(self, request: Callable[[], _T]) -> _T:
        """The answer of the store, for which a driver waits long."""
        end = time.monotonic() + (SECONDS_FOR_ANSWER if self._driver else SECONDS_WITHOUT_RUN)
        while True:
            try:
                return request()
            except StoreAway as error:
                if time.monotonic() > end:
                    raise
                self._say_away(error)
                time.sleep(_SECONDS_BETWEEN_TRIES)

    def _latest(self, name: str) -> str | None:
        """The kept file with what was last written under a name, if that waits."""
        return next((kept for kept, write in reversed(self._waiting.items()) if write.name == name), None)


def _packed(write: _Write, data: bytes) -> bytes:
    return json.dumps(vars(write)).encode() + b"\n" + data


def _unpacked(data: bytes) -> tuple[_Write, bytes]:
    header, _, content = data.partition(b"\n")
    return _Write(**json.loads(header)), content
