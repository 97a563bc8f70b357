"""Runs in object stores and folders: one driver at a time, and no write is lost while a store is away."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from processes import wait_until

from pipeline.storage import queued
from pipeline.storage.files import read_bytes
from pipeline.storage.lease import LEASE, Lease, leased, locked, own_lease
from pipeline.storage.location import join, open_files, shared_cache
from pipeline.storage.queued import QueuedFiles
from snn.json_values import from_json
from snn.object_files import ObjectFiles, StoreAway

LASTS = 0.6
STRANGER = Lease("stranger", "far", 7, "another machine")


class UnsteadyStore(ObjectFiles):
    """Objects in memory; requests fail while `away` is set, and `log` has all that was written."""

    def __init__(self, uri: str = "s3://bucket/run") -> None:
        super().__init__(uri)
        self._store = MemoryStore()
        self.away = False
        self.refuses = False
        self.log: list[str] = []

    def put(self, name: str, data: bytes) -> None:
        self._fail()
        super().put(name, data)
        self.log.append(name)

    def delete(self, name: str) -> None:
        self._fail()
        super().delete(name)
        self.log.append(f"-{name}")

    def replace(self, name: str, data: bytes, version: str | None) -> str | None:
        self._fail()
        return super().replace(name, data, version)

    def _fail(self) -> None:
        if self.away:
            raise StoreAway("the store is away.")
        if self.refuses:
            raise PermissionError("refused.")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnsteadyStore:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return UnsteadyStore()


def take(store: ObjectFiles, lease: Lease, lost: list[str] | None = None, waited: list[str] | None = None):
    on_lost, on_wait = ([] if lost is None else lost).append, ([] if waited is None else waited).append
    return leased(store, lease, on_lost=on_lost, on_wait=on_wait, seconds=LASTS)


def holder(store: ObjectFiles) -> Lease:
    return from_json(json.loads(read_bytes(store, LEASE)), Lease)


def test_only_one_of_many_writers_replaces_a_version(store: UnsteadyStore) -> None:
    first = store.replace("x", b"0", None)
    won = [store.replace("x", str(i).encode(), first) for i in range(20)]
    assert [version is not None for version in won] == [True] + 19 * [False]
    assert store.read_version("x") == (b"0", won[0])
    assert store.replace("x", b"", None) is None and store.read_version("y") is None


def test_live_driver_keeps_others_out_and_frees_the_run_at_its_end(store: UnsteadyStore) -> None:
    waited: list[str] = []
    with take(store, STRANGER) as before:
        assert before is None
        with pytest.raises(
            ValueError, match=r"s3://bucket/run' is driven by process 7 on host far, which is al"
        ):
            take(store, own_lease(), waited=waited).__enter__()
        assert "process 7 on host far" in waited[0]
    assert holder(store).released
    start = time.monotonic()
    with take(store, own_lease()) as before:
        assert before is not None and before.driver == "stranger"
        assert time.monotonic() - start < LASTS / 2


def test_lease_of_a_dead_driver_expires_and_of_a_dead_process_here_at_once(store: UnsteadyStore) -> None:
    entered = take(store, STRANGER)
    entered.__enter__()
    keeper = next(t for t in threading.enumerate() if type(t).__name__ == "_Keeper")
    keeper.ended.set()  # it is dead: it neither renews nor releases
    start = time.monotonic()
    with take(store, own_lease()):
        assert time.monotonic() - start >= LASTS
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    process.start()
    process.join()
    dead = replace(own_lease(), pid=process.pid)
    store.replace(LEASE, json.dumps(vars(dead)).encode(), store.read_version(LEASE)[1])
    start = time.monotonic()
    with take(store, own_lease()):
        assert time.monotonic() - start < LASTS / 2


def test_driver_whose_lease_was_taken_over_is_told_and_does_not_release_it(store: UnsteadyStore) -> None:
    lost: list[str] = []
    with take(store, own_lease(), lost):
        version = store.read_version(LEASE)
        assert version is not None
        store.replace(LEASE, json.dumps(vars(STRANGER)).encode(), version[1])
        wait_until(lambda: lost, 5)
    assert "driven by another process" in lost[0]
    assert holder(store) == STRANGER


def test_lost_answer_to_a_renewal_costs_no_lease(store: UnsteadyStore, monkeypatch) -> None:
    lost: list[str] = []
    real, renewals = store.replace, []

    def answer_lost(name: str, data: bytes, version: str | None) -> str | None:
        result = real(name, data, version)
        renewals.append(result)
        return None if len(renewals) == 2 else result  # repeated, it met its own result

    monkeypatch.setattr(store, "replace", answer_lost)
    with take(store, own_lease(), lost):
        wait_until(lambda: len(renewals) >= 4, 5)
    assert not lost and holder(store).released


def _hold(folder: Path, held) -> None:
    with locked(folder):
        held.set()
        time.sleep(60)


def test_folder_has_one_driver_and_that_of_a_killed_one_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "run", held))
    process.start()
    assert held.wait(10)
    with pytest.raises(ValueError, match=f"run' is driven by process {process.pid} on host"):
        locked(tmp_path / "run", seconds=0.2).__enter__()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked(tmp_path / "run", seconds=0.2):
        (tmp_path / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]
    with locked(tmp_path / "other"):
        pass
    assert not (tmp_path / "other").exists()


def test_writes_wait_for_a_store_that_is_away_and_keep_their_order(store: UnsteadyStore, caplog) -> None:
    files = QueuedFiles(store)
    names = [f"part/{i}" for i in range(5)]
    with files.queueing(own_lease(), None):
        files.put("first", b"1")
        files.flush()
        store.away = True
        for name in names:
            files.put(name, name.encode())
        files.put("part/0", b"again")
        files.delete("part/1")
        assert read_bytes(files, "part/0") == b"again" and not files.exists("part/1")
        assert files.list("part") == ["part/0", "part/2", "part/3", "part/4"]
        with pytest.raises(FileNotFoundError):
            files.open("part/1")
        wait_until(lambda: "is kept in" in caplog.text, 5)
        store.away = False
    assert store.log == ["first", *names, "part/0", "-part/1"]
    assert store.list("") == files.list("") == ["first", "part/0", "part/2", "part/3", "part/4"]
    assert not files.kept.list("") and "can be reached again" in caplog.text


@pytest.mark.parametrize("between", [None, STRANGER], ids=["nobody", "another driver"])
def test_what_could_not_be_written_is_written_by_the_next_driver(
    store: UnsteadyStore, between: Lease | None, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queued, "SECONDS_AT_END", 0.2)
    first, files = own_lease(), QueuedFiles(store)
    store.away = True
    message = "2 files could not be written to 's3://bucket/run' and are kept in"
    with pytest.raises(OSError, match=message), files.queueing(first, None):
        files.put("a", b"1")
        files.put("b", b"2")
    second = own_lease()
    if between is None:  # another attempt in vain
        with pytest.raises(OSError, match=message), QueuedFiles(store).queueing(second, first):
            pass
    store.away = False
    later = QueuedFiles(store)
    with later.queueing(own_lease(), between or second):
        later.flush()
    assert store.log == ([] if between else ["a", "b"])
    assert ("are dropped: another driver has worked on it" in caplog.text) == bool(between)
    assert not later.kept.list("")


def test_refused_write_ends_the_command_with_its_reason(store: UnsteadyStore) -> None:
    files = QueuedFiles(store)
    store.refuses = True
    with pytest.raises(PermissionError, match=r"refused\."), files.queueing(own_lease(), None):
        for _ in range(100):
            files.put("a", b"1")
            time.sleep(0.05)


def test_signal_does_not_wait_for_a_store_that_is_away(store: UnsteadyStore) -> None:
    files, start = QueuedFiles(store), time.monotonic()
    store.away = True
    with pytest.raises(KeyboardInterrupt), files.queueing(own_lease(), None):
        files.put("a", b"1")
        wait_until(lambda: files._away, 5)
        raise KeyboardInterrupt
    assert time.monotonic() - start < 8 and len(files.kept.list("")) == 1


def test_caches_of_runs_in_a_store_are_beside_them(store: UnsteadyStore, tmp_path: Path) -> None:
    assert shared_cache("s3://bucket/runs/cifar10/") == "s3://bucket/runs/cache"
    assert shared_cache("runs/cifar10") == str(tmp_path / "autosnn")
    assert join("s3://b/runs/", "x", "y") == "s3://b/runs/x/y" and join("/", "x") == "/x"


@pytest.mark.parametrize("uri", ["s3://", "ftp://host/x", "s3:///x", "s3:/bucket/x"])
def test_unknown_storage_is_refused(uri: str) -> None:
    with pytest.raises(
        ValueError, match="is no known storage: give a folder, or s3://, gs://, az:// followed"
    ):
        open_files(uri)
