"""Samples on disk: written once and atomically, read without a copy."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import resource
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from data_files import load_recordings, write_recordings

from snn.data.samples import (
    LabelledSamples,
    cache_directory,
    cached_samples,
    content_key,
    copied_samples,
    exclusive_lock,
    open_samples,
)


def make(seed: int = 0, n: int = 50, shape: tuple[int, ...] = (3, 8, 8)) -> LabelledSamples:
    rng = np.random.default_rng(seed)
    return LabelledSamples.from_arrays(
        rng.integers(0, 256, size=(n, *shape), dtype=np.uint8),
        rng.integers(0, 4, size=n),
        ("a", "b", "c", "never seen"),
        groups=np.arange(n) // 5,
        notes=("one file was left out",),
    )


def build_slowly(log: Path) -> LabelledSamples:
    with log.open("a") as file:
        file.write("built\n")
    time.sleep(0.3)
    return make()


def open_or_build(directory: Path, log: Path, results: multiprocessing.SimpleQueue[str]) -> None:
    results.put(cached_samples(directory, "shared", partial(build_slowly, log)).fingerprint)


@pytest.mark.parametrize("shape", [(1, 5, 7), (4, 2, 8, 8), (3,)])
def test_samples_are_read_as_they_were_built(tmp_path: Path, shape: tuple[int, ...]) -> None:
    built = make(shape=shape)
    read = cached_samples(tmp_path / "new folder", "key", lambda: built)
    for name in ("samples", "labels", "groups"):
        assert np.array_equal(getattr(read, name), getattr(built, name))
        assert getattr(read, name).dtype == getattr(built, name).dtype
    assert (read.class_names, read.fingerprint, read.notes) == (
        built.class_names,
        built.fingerprint,
        built.notes,
    )
    assert (len(read), read.num_classes) == (50, 4)


def test_samples_lie_in_the_mapped_file_itself(tmp_path: Path) -> None:
    read = cached_samples(tmp_path, "key", make)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("memory maps can be listed on Linux only")
    spans = [line.split()[0].split("-") for line in maps.read_text().splitlines() if "key.arrow" in line]
    for values in (read.samples, read.labels, read.groups):
        address = values.__array_interface__["data"][0]
        assert any(int(low, 16) <= address < int(high, 16) for low, high in spans)


def test_samples_cannot_be_written(tmp_path: Path) -> None:
    for data in (make(), cached_samples(tmp_path, "key", make)):
        for values in (data.samples, data.labels, data.groups):
            assert not values.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                values[0] = 1


def test_second_call_does_not_build(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        cached_samples(tmp_path, "key", partial(build_slowly, log))
    assert log.read_text() == "built\n"


def test_processes_that_start_together_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results, log = context.SimpleQueue(), tmp_path / "log"
    arguments = (tmp_path / "cache", log, results)
    processes = [context.Process(target=open_or_build, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {results.get() for _ in processes} == {make().fingerprint}
    assert log.read_text() == "built\n"


def test_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "lock") as alone, (tmp_path / "lock").open() as other:
        assert alone
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_failed_build_leaves_no_file_and_the_next_one_tries(tmp_path: Path) -> None:
    def fail() -> LabelledSamples:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        cached_samples(tmp_path, "key", fail)
    (tmp_path / "key.elsewhere-1.partial").write_bytes(b"of a killed process")
    assert len(cached_samples(tmp_path, "key", make)) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.arrow", "key.lock"]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.999])
def test_error_for_a_truncated_file_names_it_and_the_remedy(tmp_path: Path, kept: float) -> None:
    cached_samples(tmp_path, "key", make)
    path = tmp_path / "key.arrow"
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(ValueError, match=r"key\.arrow is truncated or corrupt .*Delete it"):
        cached_samples(tmp_path, "key", make)


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.arrow").write_bytes(b"ARROW1\0\0" + b"x" * 5000 + b"ARROW1")
    with pytest.raises(ValueError, match="Delete it"):
        open_samples(tmp_path / "key.arrow")
    with pytest.raises(FileNotFoundError, match=r"none\.arrow"):
        open_samples(tmp_path / "none.arrow")


def test_full_disk_is_detected_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(OSError, match="Too little space") as caught:
        cached_samples(tmp_path, "key", make)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.glob("*.arrow")) + list(tmp_path.glob("*.partial"))


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process cannot grow beyond 64 KiB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
def test_disk_that_fills_while_writing_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot be stored: File too large\. .*--data\.root") as caught:
        cached_samples(tmp_path, "key", partial(make, shape=(3, 50, 50)))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_disk_that_fills_while_recordings_are_read_names_the_folder(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_recordings(tmp_path)
    request.getfixturevalue("small_files")
    with pytest.raises(
        OSError, match=r"Sample 9 of \[4, 2, 30, 30\] cannot be stored: File too large"
    ) as caught:
        load_recordings(tmp_path)
    assert caught.value.filename == str(tmp_path / "snn-cache")


def test_samples_that_cannot_be_read_back_are_an_error_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise pa.ArrowInvalid("Invalid flatbuffers message")

    monkeypatch.setattr(pa.ipc, "open_file", fail)
    with pytest.raises(
        OSError, match=r"50 samples of .* stored but cannot be read back: Invalid flat"
    ) as caught:
        cached_samples(tmp_path, "key", make)
    for words in ("data.downsample", "data.sensor_size", "--data.root", str(tmp_path)):
        assert words in str(caught.value)
    assert "Delete it" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


@pytest.mark.parametrize(
    "facts", [b"[]", b"{}", b"null", b'{"shape": null}', b"\xff", b'{"shape": [50, -1]}']
)
def test_file_with_other_facts_is_refused(tmp_path: Path, facts: bytes) -> None:
    batch = pa.record_batch({"sample": pa.array([b"abc"] * 50, pa.binary(3)), "label": [0] * 50})
    with pa.ipc.new_file(
        str(tmp_path / "key.arrow"), batch.schema.with_metadata({"snn.samples": facts})
    ) as file:
        file.write_batch(batch.replace_schema_metadata({"snn.samples": facts}))
    with pytest.raises(ValueError, match=r"key\.arrow is truncated or corrupt .*Delete it"):
        open_samples(tmp_path / "key.arrow")


def test_fingerprint_depends_on_the_whole_content_and_nothing_else() -> None:
    data = make()
    samples, labels, groups, names = data.samples, data.labels, data.groups, data.class_names
    same = LabelledSamples.from_arrays(np.asfortranarray(samples), labels.copy(), list(names), groups=groups)
    others = [
        LabelledSamples.from_arrays(samples ^ np.uint8(1), labels, names, groups=groups),
        LabelledSamples.from_arrays(samples, labels[::-1], names, groups=groups),
        LabelledSamples.from_arrays(samples, labels, names),
        LabelledSamples.from_arrays(samples, labels, names[::-1], groups=groups),
        LabelledSamples.from_arrays(samples.reshape(50, 3, 64), labels, names, groups=groups),
    ]
    assert same.fingerprint == data.fingerprint
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_arrays_that_do_not_fit_are_refused() -> None:
    samples, labels = np.zeros((4, 2, 2), np.uint8), np.array([0, 1, 2, 1])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got 0 to 2"):
        LabelledSamples.from_arrays(samples, labels, ("a", "b"))
    with pytest.raises(ValueError, match=r"labels must be int64 \[4\], got int64 \[3\]"):
        LabelledSamples.from_arrays(samples, labels[:3], ("a", "b", "c"))
    with pytest.raises(ValueError, match="samples must be uint8"):
        LabelledSamples.from_arrays(samples.astype(float), labels, ("a", "b", "c"))
    with pytest.raises(ValueError, match="n at least 1"):
        LabelledSamples.from_arrays(samples[:0], labels[:0], ("a",))


def test_content_key_is_short_and_distinguishes_values() -> None:
    keys = [content_key("a", 1), content_key("a", 2), content_key(["a", 1]), content_key(Path("a"), {"b": 1})]
    assert len(set(keys)) == 4
    assert {len(key) for key in keys} == {16}
    assert content_key("a", (1, 2)) == content_key("a", [1, 2]) == "33b57c2aef26ab1f"


def test_cache_lies_beside_the_data_or_else_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_directory(tmp_path, "key") == tmp_path / "snn-cache"
    (tmp_path / "file").write_text("no folder can be made below a file")
    assert cache_directory(tmp_path / "file", "key") == tmp_path / "home" / "autosnn"


@pytest.fixture
def source(tmp_path: Path) -> LabelledSamples:
    return cached_samples(tmp_path, "key", make)


def copy(
    source: LabelledSamples,
    directory: Path,
    fetched: list[int],
    *,
    run: str = "run",
    content: bytes | None = None,
) -> LabelledSamples:
    assert source.file is not None
    whole = source.file.read_bytes()

    def pieces() -> Iterator[bytes]:
        fetched.append(1)
        sent = whole if content is None else content
        yield from (sent[start : start + 1000] for start in range(0, len(sent), 1000))

    return copied_samples(directory, source.fingerprint, num_bytes=len(whole), pieces=pieces, checked_for=run)


def test_copy_is_fetched_once(source: LabelledSamples, tmp_path: Path) -> None:
    fetched: list[int] = []
    for run in ("run", "run", "another run"):
        copied = copy(source, tmp_path / "copies", fetched, run=run)
        assert np.array_equal(copied.samples, source.samples)
        assert (copied.fingerprint, copied.notes) == (source.fingerprint, source.notes)
    assert len(fetched) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped bit"])
def test_damaged_copy_is_fetched_again(source: LabelledSamples, tmp_path: Path, damage: str) -> None:
    fetched: list[int] = []
    copied = copy(source, tmp_path / "copies", fetched)
    assert copied.file is not None
    content = bytearray(copied.file.read_bytes())
    if damage == "flipped bit":
        content[content.index(source.samples[7].tobytes())] ^= 1
    copied.file.write_bytes(content[: {"cut": -100, "empty": 0}.get(damage)])
    again = copy(source, tmp_path / "copies", fetched, run="another run")
    assert np.array_equal(again.samples, source.samples) and len(fetched) == 2


def test_copy_that_arrives_damaged_is_an_error_and_not_used(source: LabelledSamples, tmp_path: Path) -> None:
    fetched: list[int] = []
    with pytest.raises(OSError, match="not those that were sent"):
        copy(source, tmp_path / "copies", fetched, content=b"something else")
    assert len(copy(source, tmp_path / "copies", fetched)) == len(source)


def test_copy_needs_free_space(source: LabelledSamples, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(OSError, match="Too little space for the samples") as error:
        copy(source, tmp_path / "copies", [])
    assert error.value.errno == errno.ENOSPC
