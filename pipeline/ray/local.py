"""A Ray of our own on this machine: nobody else may use it, and it ends with the command.

Ray lets whoever reaches its ports run code. Every Ray started here has a token of its own, a folder that only
this user may read, and listens on 127.0.0.1.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import ray
from ray._private import ray_constants, worker
from ray._raylet import Config  # type: ignore[attr-defined]

from pipeline.config.tree import RayConfig
from pipeline.interruption import (
    ProcessLost,
    adopting_orphans,
    at_end,
    catch_signals,
    interrupt,
    interruption,
    stop_children,
)

logger = logging.getLogger(__name__)

WORKER_SETUP = "pipeline.worker.start_worker"
"""What Ray calls in each worker process when it starts."""

_PARENT_VARIABLE = "RAY_TMPDIR"
_PREFIX = "autosnn-"
_LONGEST_PARENT = 28  # the path of a Unix socket has at most 107 characters, Ray adds up to 63
_SECONDS_BETWEEN_LOOKS = 0.5
_DEPENDED_ON = {"raylet": "its node manager (raylet)", "gcs_server": "its control service (gcs_server)"}


@contextmanager
def local_ray(
    settings: RayConfig, options: Mapping[str, Any], variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[None]:
    """Starts Ray and stops it at the end.

    Its processes inherit this one's environment. A `runtime_env` among the options would do the same, but not
    for the workers that Ray starts at once: it would leave them idle and start others when work comes.

    Args:
        settings: `dashboard` is used.
        options: Further arguments of ray.init.
        variables: Further environment variables of Ray's processes.

    Raises:
        ValueError: The dashboard's packages are missing, or RAY_TMPDIR is too long.
        ProcessLost: Ray died; raised in the main thread.
    """
    if settings.dashboard:
        _check_dashboard()
    with _private_folder() as folder:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_write_token(folder))
        os.environ.pop("RAY_AUTH_TOKEN", None)
        Config.initialize("")  # Ray read the environment when it was imported
        _stay_on_loopback()
        setup = {ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR: WORKER_SETUP}
        with _environment(setup | dict(variables)):
            ray.init(
                address="local",
                include_dashboard=settings.dashboard,
                _node_ip_address="127.0.0.1",
                dashboard_host="127.0.0.1",
                _temp_dir=str(folder / "r"),  # Ray opens it to everybody, but not the one above
                **options,
            )
        # Not only `log_to_driver`: when the node manager dies, Ray prints its log's end in between.
        worker._worker_logs_enabled = False
        catch_signals()
        with adopting_orphans(), _watched(folder):
            yield


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the length of the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Interrupts the command as soon as a process of Ray dies; at the end stops Ray."""
    watched = [child for child in psutil.Process().children() if child.name() in _DEPENDED_ON]
    ended = threading.Event()
    threading.Thread(target=_watch, args=(watched, ended, folder), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if isinstance(interruption(), ProcessLost):
            stop_children()  # no use asking a broken Ray to stop
        else:
            ray.shutdown()


def _watch(watched: Sequence[psutil.Process], ended: threading.Event, folder: Path) -> None:
    names = {process: process.name() for process in watched}
    while not ended.wait(_SECONDS_BETWEEN_LOOKS):
        for process, name in names.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                text = f"Ray cannot go on: {_DEPENDED_ON[name]} died. Its logs are kept in {folder}."
                return interrupt(ProcessLost(text))


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for Ray's sockets and logs that only this user may enter."""
    parent = Path(os.environ.get(_PARENT_VARIABLE) or "/tmp")
    if len(str(parent)) > _LONGEST_PARENT:
        raise ValueError(
            f"{_PARENT_VARIABLE} is '{parent}', too long for the names of Ray's sockets: choose a folder "
            f"whose path has at most {_LONGEST_PARENT} characters."
        )
    _remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    logger.debug("Ray's logs, until the command ends: %s", folder)
    with at_end(lambda: _remove(folder)):
        yield folder


def _remove(folder: Path) -> None:
    """Removes Ray's folder, unless Ray died: its logs may say why."""
    if not isinstance(interruption(), ProcessLost):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Removes the folders of our own processes that were killed."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).split("-")[0]
        ours = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()
        if ours and pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _write_token(folder: Path) -> Path:
    path = folder / "token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(_token())
    return path


@cache
def _token() -> str:
    """The same for every Ray of this process, as Ray reads it only once."""
    return secrets.token_hex(32)


def _check_dashboard() -> None:
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError as error:
        raise ValueError(
            f"ray.dashboard needs packages that are not installed ({error}): pip install "
            f"'ray[default]=={ray.__version__}', or leave --ray.dashboard out."
        ) from error


def _stay_on_loopback() -> None:
    """Makes a Ray started here listen on 127.0.0.1 only.

    Ray replaces a node address of 127.0.0.1 by the machine's public one unless this switch, meant for
    desktops, says that no other machine will join.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
