"""A Ray of our own: closed to other users, refused where no worker could ever start."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray._raylet import GcsClient

from pipeline.config.named import named_config
from pipeline.config.training import TrainingConfig
from pipeline.config.tree import Config, RayConfig
from pipeline.ray.local import local_ray
from pipeline.ray.session import ray_session

NOBODY = 65534
CONFIG = named_config("demo")


def as_nobody(action: Callable[[], object]) -> str:
    """What an action ends with in a process of another user: its result, or its error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            text = f"done: {action()}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode()[:4000])
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


CLIENT = """
import os, sys
os.environ["RAY_AUTH_MODE"] = sys.argv[2]
os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
from ray._raylet import GcsClient
try:
    print("done", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None))
except Exception as error:
    print(type(error).__name__, error)
"""


def list_functions(address: str, mode: str) -> str:
    """What someone without the token is told who asks Ray for its stored functions."""
    command = [sys.executable, "-c", CLIENT, address, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"HOME": "/nonexistent"})
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_nobody_else_can_use_our_ray() -> None:
    with local_ray(RayConfig(), {"num_cpus": 1, "log_to_driver": False}):
        context = ray.get_runtime_context()
        folder = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent
        token = (folder / "token").read_text()
        assert (folder / "token").stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700 and list(folder.glob("r/session_*"))
        assert "PermissionError" in as_nobody(lambda: os.listdir(folder))
        assert "PermissionError" in as_nobody(lambda: (folder / "token").read_text())
        for mode in ("disabled", "token"):
            assert "done" not in list_functions(context.gcs_address, mode)
        assert GcsClient(address=context.gcs_address).internal_kv_keys(b"", None)
        arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [line for line in arguments if token.encode() in line]
    assert not folder.exists()


@pytest.mark.slow
def test_ray_without_a_token_lets_anyone_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempt that must fail above succeeds here, so that it can fail for the right reason."""
    script = (
        "import ray, sys; ray.init(address='local', num_cpus=1, include_dashboard=False, "
        "_node_ip_address='127.0.0.1'); print(ray.get_runtime_context().gcs_address, flush=True); "
        "sys.stdin.read()"
    )
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment.pop("RAY_AUTH_TOKEN_PATH", None)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None and server.stdin is not None
        address = server.stdout.readline().strip()
        answer = list_functions(address, "disabled")
        server.stdin.close()
    assert answer.startswith("done")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            dataclasses.replace(CONFIG, training=TrainingConfig(workers=(40,)), training_threads=4096),
            r"training\.workers asks for 40 workers of \d+ CPUs and 0 GPUs, but this machine has room for 1",
        ),
        (
            dataclasses.replace(CONFIG, threads_per_worker=1000),
            r"threads_per_worker is 1000, but this machine has \d+ CPUs: .*--ray\.address",
        ),
        (
            dataclasses.replace(CONFIG, ray=RayConfig(gpus_per_worker=1000)),
            r"ray\.gpus_per_worker is 1000, but this machine has \d+ GPUs: .*--ray\.gpus-per-worker",
        ),
    ],
)
def test_what_no_node_can_ever_give_is_refused_at_once(config: Config, message: str) -> None:
    with pytest.raises(ValueError, match=message), ray_session(config):
        pass
    assert not ray.is_initialized()


@pytest.mark.slow
def test_workers_import_what_the_session_names_and_survive_what_they_cannot() -> None:
    for module, there in (("colorsys", True), ("no_such_module", False)):
        with ray_session(CONFIG, workers_import=module):
            assert ray.get(ray.remote(lambda name: name in sys.modules).remote(module)) == there


def test_missing_packages_of_the_dashboard_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'opencensus'", name="opencensus")

    monkeypatch.setattr(importlib, "import_module", missing)
    with (
        pytest.raises(ValueError, match=r"ray\.dashboard needs .*opencensus.*pip install 'ray\[default\]=="),
        local_ray(RayConfig(dashboard=True), {}),
    ):
        pass


def test_folder_too_deep_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("deep" * 20)))
    with (
        pytest.raises(ValueError, match=r"RAY_TMPDIR is .*at most 28 characters"),
        local_ray(RayConfig(), {}),
    ):
        pass
