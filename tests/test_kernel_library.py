"""Compiled kernels are kept whole, checked before they are loaded, and done without where they cannot be."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toys import make_network, require_kernels

from snn.engines.dense import DenseNetwork
from snn.engines.engine import make_inference
from snn.kernels import library as kernels
from snn.user_cache import user_cache

require_kernels()

ROOT = Path(__file__).resolve().parents[1]
COMPILE = "from snn.kernels.library import library; library()"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of compiled kernels in a new cache; compiles quickly."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(kernels.FLAGS_VARIABLE, "-O0")
    forget()
    yield tmp_path / "autosnn" / "kernels"
    forget()


def forget() -> None:
    kernels.library.cache_clear()
    kernels.is_available.cache_clear()


def compiled(folder: Path) -> Path:
    forget()
    assert kernels.library().count_votes
    (path,) = folder.iterdir()
    return path


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def open_to_others(path: Path) -> None:
    path.chmod(0o775)


def open_folder_to_others(path: Path) -> None:
    path.parent.chmod(0o777)


def replace_by_link(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere.so")
    path.symlink_to(path.parents[2] / "elsewhere.so")


@pytest.mark.parametrize(
    "harm", [truncate, empty, flip_a_bit, open_to_others, open_folder_to_others, replace_by_link]
)
def test_library_that_cannot_be_trusted_is_built_again(folder: Path, harm: Callable[[Path], None]) -> None:
    first = compiled(folder)
    content = first.read_bytes()
    copy = folder / "copy"  # harm a copy, as this process executes the first one
    copy.write_bytes(content)
    copy.replace(first)
    before = first.stat().st_mtime_ns
    harm(first)
    again = compiled(folder)
    assert again.read_bytes() == content
    assert not again.is_symlink() and again.stat().st_mtime_ns > before
    assert not (again.lstat().st_mode | folder.stat().st_mode) & 0o022


def test_sound_library_is_loaded_without_a_compiler_run(folder: Path, monkeypatch) -> None:
    compiled(folder)
    monkeypatch.setattr(subprocess, "run", None)
    compiled(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("given", ["file", "folder"])
def test_library_of_another_user_is_never_loaded(folder: Path, given: str, caplog) -> None:
    path = compiled(folder)
    number = path.stat().st_ino
    os.chown(path if given == "file" else folder, 65534, -1)
    forget()
    kernels.library()
    if given == "file":
        (path,) = folder.iterdir()
        assert path.stat().st_uid == 0 and path.stat().st_ino != number
    else:
        assert f"{folder} belongs to another user (id 65534)" in caplog.text


@pytest.mark.parametrize("place", ["/proc/no-such-folder", "/dev/null"])
def test_kernels_work_where_the_cache_cannot_be_written(place: str, monkeypatch, caplog) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", place)
    for _ in range(2):
        assert kernels.is_available() and kernels.library().count_votes
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert place in caplog.text and "set XDG_CACHE_HOME" in caplog.text
    assert not list(Path(tempfile.gettempdir()).glob("autosnn-*/kernels-*"))


def test_dense_engine_is_taken_where_nothing_can_be_written(monkeypatch, caplog) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-folder")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/no-such-folder")
    for _ in range(2):
        assert isinstance(make_inference(make_network()), DenseNetwork)
    assert len(caplog.records) == 1
    assert "no event-driven kernels, dense ones are used instead" in caplog.text
    with pytest.raises(kernels.KernelsUnavailable, match="no-such-folder"):
        kernels.check_available()


@pytest.mark.parametrize(
    ("name", "value"),
    [("CC", "true"), (kernels.FLAGS_VARIABLE, "'"), (kernels.FLAGS_VARIABLE, "-no-such-flag"), ("PATH", "")],
)
def test_failing_compiler_means_no_kernels(name: str, value: str, monkeypatch) -> None:
    monkeypatch.setenv(name, value)
    assert not kernels.is_available()


def test_extra_flags_build_a_library_of_their_own(folder: Path, monkeypatch) -> None:
    first = compiled(folder)
    monkeypatch.setenv(kernels.FLAGS_VARIABLE, "-O1 -g")
    forget()
    kernels.library()
    assert first.exists() and len(list(folder.iterdir())) == 2


def test_processes_that_compile_at_once_all_succeed(folder: Path) -> None:
    command = [sys.executable, "-c", COMPILE]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert not any(errors)
    compiled(folder)


def test_relative_cache_home_is_ignored(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "autosnn"


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty temporary directory of a user who has no home directory."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_user_without_home_directory_has_a_private_temporary_cache(no_home: Path) -> None:
    folder = user_cache()
    assert folder == user_cache() and folder.parent == no_home
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kernels.is_available() and list(folder.glob("kernels/*.so"))


def test_temporary_cache_that_others_can_write_to_is_not_used(no_home: Path) -> None:
    taken = no_home / f"autosnn-{os.getuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    assert user_cache() != taken and user_cache().stat().st_mode & 0o777 == 0o700
