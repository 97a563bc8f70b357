"""Disturbed searches end with the table of an undisturbed one; all faults but one are real."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import NUM_EVALUATIONS, ROOT, Search
from processes import kill_family, wait_until
from two_nodes import small_cluster

from pipeline.storage.names import CONFIG, EVALUATION_PARTS, SUPERNET_WEIGHTS

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_killed_evaluator_is_replaced(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    victim = disturbed.wait_for_evaluations(4)[-1]["pid"]
    os.kill(victim, signal.SIGKILL)
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(victim)


def test_killed_weights_holder_hands_out_the_weights_again(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    disturbed.wait_for_evaluations(2)
    [holder] = [p for p in disturbed.processes() if "WeightsHolder" in " ".join(p.cmdline())]
    holder.kill()
    victim = disturbed.wait_for_evaluations(4)[-1]["pid"]
    os.kill(victim, signal.SIGKILL)
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(victim)


@pytest.mark.long
@pytest.mark.parametrize("late", ["holder_dies", "object_is_lost"])
def test_evaluator_that_joins_late_gets_weights_that_were_lost(
    whole: Search, disturbed: Search, late: str
) -> None:
    disturbed.meets(once="die", after=3, late=late)
    disturbed.finish()
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(disturbed.first_to("once"))
    assert disturbed.first_to("late") != disturbed.first_to("once")


def test_killed_driver_goes_on_without_evaluating_twice(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    wait_until(lambda: len(disturbed.run.evaluation_parts()) >= 4)
    kill_family(driver)
    wait_until(lambda: not disturbed.processes())
    kept = {row.architecture for row in disturbed.run.read_evaluations()}
    num_before = len(disturbed.evaluated())
    assert 4 <= len(kept) < NUM_EVALUATIONS
    disturbed.meets()
    disturbed.finish()
    again = {text for line in disturbed.evaluated()[num_before:] for text in line["architectures"]}
    assert again and not again & kept
    assert disturbed.table() == whole.table()


def test_lost_node_costs_its_trial_only(whole: Search, disturbed: Search) -> None:
    with small_cluster() as (cluster, address, second, ours):
        disturbed.meets(once="hang", on=second, together=2)
        driver = disturbed.start("--ray.address", address, **ours)
        wait_until((disturbed.folder / "once").exists, what="an evaluation on the second node")
        cluster.stdin.write("remove\n")
        cluster.stdin.flush()
        disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(disturbed.first_to("once"))


@pytest.mark.long
def test_what_a_cluster_cannot_start_is_said(tmp_path: Path) -> None:
    with small_cluster() as (_cluster, address, _second, ours):
        command = [sys.executable, "launch.py", "run", "demo", "--run-dir", str(tmp_path / "run")]
        command += ["--threads-per-worker", "2", "--ray.address", address]
        command += ["--data.max-train-samples", "200", "--network.channels", "4", "--supernet.epochs", "1"]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ours,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as driver:
            try:
                assert driver.stderr is not None
                assert driver.stderr.readline() == (
                    "warning: a trial actor waits for 2 CPUs on one node; "
                    "2 of 2 CPUs of the cluster's 2 nodes are free, a node has at most 1 CPU\n"
                )
            finally:
                kill_family(driver)


def test_candidate_that_raises_fails_alone(whole: Search, disturbed: Search) -> None:
    rows = whole.table()
    failing = min((row for row in rows if row["generation"] == 0), key=lambda row: row["fitness"])
    disturbed.meets(failing=failing["architecture"])
    disturbed.finish()
    table = {row["architecture"]: row for row in disturbed.table()}
    assert table.pop(failing["architecture"])["error"] == "ArithmeticError: made to fail"
    assert table == {row["architecture"]: row for row in rows if row is not failing}


def test_evaluator_that_hangs_is_replaced(whole: Search, disturbed: Search) -> None:
    config = disturbed.run.read_config()
    ray = dataclasses.replace(config.ray, evaluation_timeout=3.0)
    (disturbed.run.path / CONFIG).unlink()
    disturbed.run.write_config(dataclasses.replace(config, ray=ray))
    disturbed.meets(once="hang", after=3)
    disturbed.finish()
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(disturbed.first_to("once"))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of 40 KiB."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_full_disk_ends_the_search_and_harms_no_result(whole: Search, disturbed: Search) -> None:
    parts = disturbed.run.path / EVALUATION_PARTS
    with small_disk(parts):
        disturbed.meets()
        errors = disturbed.finish(status=2)
        assert "No space left on device" in errors and str(parts) in errors
        kept = {row["candidate_id"]: row for row in disturbed.table()}
        assert 0 < len(kept) < NUM_EVALUATIONS
        assert all(whole.table()[i] == row for i, row in kept.items())
        subprocess.run(["mount", "-o", "remount,size=10m", parts], check=True)
        disturbed.finish()
    assert disturbed.table() == whole.table()


def test_damaged_weights_are_refused(disturbed: Search) -> None:
    file = disturbed.run.path / SUPERNET_WEIGHTS
    damaged = bytearray(file.read_bytes())
    damaged[-100] ^= 1
    file.write_bytes(damaged)
    disturbed.meets()
    errors = disturbed.finish(status=2)
    for expected in (
        str(file),
        hashlib.sha256(damaged).hexdigest(),
        disturbed.run.read_supernet().weights_sha256,
    ):
        assert expected in errors
    assert not disturbed.evaluated() and not disturbed.run.has_best()


def test_write_into_shared_weights_ends_the_search(whole: Search, disturbed: Search) -> None:
    disturbed.meets(once="write_into_shared_memory", after=6)
    errors = disturbed.finish(status=2)
    assert (disturbed.folder / "refused").read_text() == "assignment destination is read-only"
    assert "weights in shared memory were overwritten" in errors
    kept = disturbed.table()
    assert 0 < len(kept) < NUM_EVALUATIONS and not disturbed.run.has_best()
    assert kept == [row for row in whole.table() if row["candidate_id"] in {r["candidate_id"] for r in kept}]
