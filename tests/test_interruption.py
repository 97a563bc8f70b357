"""Signals and lost processes end a command with one line and nothing left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from processes import kill_family

from pipeline.console import run_command
from pipeline.interruption import ProcessLost, adopting_orphans, ask_to_be_resumed, at_end, interrupt
from pipeline.storage.names import FOLDED_WEIGHTS, SUPERNET
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    *("--data.max-train-samples", "200", "--data.max-test-samples", "60", "--network.channels", "4"),
    *("--supernet.epochs", "2", "--retrain.epochs", "400", "--retrain.architectures", "best"),
    *("--search.no-cache", "--search.algorithm", "exhaustive", "--ray.num-workers", "1"),
]
STAGES = {
    "1/3": ["--supernet.epochs", "400"],
    "2/3": [],
    "3/3": ["--search.algorithm", "random", "--search.max-evaluations", "2"],
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_command_after_it_was_closed(capsys: pytest.CaptureFixture[str], number: int) -> None:
    closed = []

    def run() -> None:
        with at_end(lambda: closed.append(True)):
            os.kill(os.getpid(), number)
            time.sleep(60)

    before = signal.getsignal(number)
    assert run_command(run, resume=["run", "demo"]) == 128 + number
    assert closed == [True] and signal.getsignal(number) == before
    assert "Resume with: python launch.py run demo" in capsys.readouterr().err


def test_signal_that_a_library_turned_into_another_error_still_counts(capsys) -> None:
    def run() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    assert run_command(run) == 143


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_scheduler_is_asked_to_resume_the_command(number: int, scheduled: bool) -> None:
    def run() -> None:
        if scheduled:
            ask_to_be_resumed()
        os.kill(os.getpid(), number)
        time.sleep(60)

    assert run_command(run) == (75 if scheduled or number == signal.SIGUSR1 else 143)


def test_second_signal_does_not_disturb_closing() -> None:
    closed = []

    def run() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            closed.append(True)

    assert run_command(run) == 143 and closed == [True]


@pytest.mark.parametrize("stuck", [True, False])
def test_lost_process_ends_the_command_even_if_it_is_stuck(tmp_path: Path, stuck: bool) -> None:
    """`stuck` ignores the exception, as code that waits inside a library does."""
    script = f"""
import contextlib, pathlib, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pipeline.console import run_command
from pipeline.interruption import ProcessLost, at_end, interrupt
import threading

def run():
    with at_end(pathlib.Path("left").unlink):
        pathlib.Path("left").write_text("")
        threading.Timer(0.2, interrupt, [ProcessLost("it died.")]).start()
        with contextlib.suppress({"ProcessLost" if stuck else ""}):
            time.sleep(60)
        time.sleep(60)

run_command(run, resume=["run", "demo"])
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and time.monotonic() - start < 20
    assert done.stderr.splitlines()[0] == "error: it died." and "Resume with" in done.stderr
    assert not (tmp_path / "left").exists()


def test_signal_ends_a_command_whose_main_thread_is_inside_a_library(tmp_path: Path) -> None:
    script = f"""
import hashlib, os, sys, threading
sys.path.insert(0, {str(ROOT)!r})
from pipeline.console import run_command

def run():
    threading.Timer(0.2, os.kill, [os.getpid(), 10]).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes without a look at signals

run_command(run, resume=["run", "demo"])
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 75 and time.monotonic() - start < 20
    assert "Resume with: python launch.py run demo" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor")
def test_children_are_stopped_with_those_whose_parent_died(tmp_path: Path) -> None:
    script = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from pipeline.interruption import adopting_orphans, stop_children

with adopting_orphans():
    shell = ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]
    print(subprocess.run(shell, capture_output=True, text=True).stdout)
    stop_children()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and not psutil.pid_exists(int(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor")
def test_adopted_orphans_leave_no_zombie() -> None:
    with adopting_orphans():
        shell = ["sh", "-c", "sleep 0.5 >/dev/null 2>&1 & echo $!"]
        orphan = int(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)
        assert psutil.Process(orphan).ppid() == os.getpid()
    assert not psutil.pid_exists(orphan)


def test_interrupt_comes_from_another_thread(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    statuses = []
    monkeypatch.setattr("os._exit", statuses.append)

    def run() -> None:
        threading.Timer(0.1, interrupt, [ProcessLost("it died.")]).start()
        time.sleep(60)

    assert run_command(run) == 2 and statuses == [2]
    assert capsys.readouterr().err == "error: it died.\n"


def start_stage(run: Path, stage: str) -> subprocess.Popen[str]:
    """A run that has worked for a moment in a stage, which it would not end soon."""
    command = [sys.executable, "launch.py", "run", "demo", "--run-dir", str(run), *SETTINGS, *STAGES[stage]]
    output = (run.parent / "out").open("w")
    driver = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while f"\n{stage}" not in "\n" + (run.parent / "out").read_text():
        if driver.poll() is not None or time.monotonic() > end:
            kill_family(driver)
            pytest.fail(f"it never came to {stage}: {(run.parent / 'out').read_text()}")
        time.sleep(0.1)
    time.sleep(3)
    return driver


def is_clean(run: Path) -> bool:
    return not (run / FOLDED_WEIGHTS).exists() and not list(run.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "status"),
    [
        *((stage, signal.SIGTERM, 143) for stage in STAGES),
        # Tune has a handler of its own for it.
        pytest.param("2/3", signal.SIGUSR1, 75, marks=pytest.mark.long),
    ],
)
def test_signal_ends_every_stage_soon_and_leaves_nothing(
    tmp_path: Path, stage: str, number: int, status: int
) -> None:
    driver = start_stage(tmp_path / "run", stage)
    family = psutil.Process(driver.pid).children(recursive=True)
    try:
        start = time.monotonic()
        driver.send_signal(number)
        _, errors = driver.communicate(timeout=30)
        assert time.monotonic() - start < 12
        assert driver.returncode == status
        # a super-network of one epoch cannot rank, which is said too
        *warnings, last = filter(None, errors.splitlines())
        assert "interrupted; finished work is kept. Resume with: python launch.py run demo" in last
        assert [line for line in warnings if not line.startswith("warning: the scores cannot tell")] == []
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive and is_clean(tmp_path / "run")
        assert (stage == "1/3") != RunFolder(tmp_path / "run").files.exists(SUPERNET)
    finally:
        kill_family(driver)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["raylet", pytest.param("gcs_server", marks=pytest.mark.long)])
def test_death_of_ray_is_one_error_and_leaves_nothing(tmp_path: Path, process: str) -> None:
    driver = start_stage(tmp_path / "run", "2/3")
    family = psutil.Process(driver.pid).children(recursive=True)
    try:
        start = time.monotonic()
        next(child for child in family if child.name() == process).kill()
        _, errors = driver.communicate(timeout=60)
        assert time.monotonic() - start < 15
        lines = errors.strip().splitlines()
        assert driver.returncode == 2 and len(lines) == 2
        assert lines[0].startswith("error: Ray cannot go on") and process in lines[0]
        assert "Resume with: python launch.py run demo" in lines[1]
        assert "Raylet is terminated" not in (tmp_path / "out").read_text()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive and is_clean(tmp_path / "run")
    finally:
        kill_family(driver)
