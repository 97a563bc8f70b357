"""A search across hosts ends with the single host's table, whatever happens to the hosts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from disturbed import ROOT, Search
from hosts import Host, why_no_hosts
from processes import TINY, wait_until, without_times
from ray_hosts import RayHosts, ray_hosts

from pipeline.storage.names import CONFIG
from pipeline.storage.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())]


@pytest.fixture
def cluster() -> Iterator[RayHosts]:
    """A head without CPUs and two workers with one each."""
    with ray_hosts(1, 1) as hosts:
        yield hosts


def start(search: Search, cluster: RayHosts):
    return search.start(
        *("--ray.address", cluster.address),
        enter=cluster.head.command([]),
        **cluster.head.environment,
        **cluster.environment,
    )


def test_three_hosts_give_the_table_of_one(whole: Search, disturbed: Search, cluster: RayHosts) -> None:
    disturbed.meets(together=2)
    disturbed.finish(start(disturbed, cluster))
    assert disturbed.table() == whole.table()
    assert len({line["node"] for line in disturbed.evaluated()}) == 2


@pytest.mark.long
@pytest.mark.parametrize("seconds", [3, 25])
def test_link_that_is_cut_for_a_while(
    whole: Search, disturbed: Search, cluster: RayHosts, seconds: float
) -> None:
    disturbed.meets(together=2, delay=0.5)
    driver = start(disturbed, cluster)
    disturbed.wait_for_evaluations(5)
    cluster.workers[0].cut()
    time.sleep(seconds)
    cluster.workers[0].heal()
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()


@pytest.mark.long
def test_node_that_was_cut_off_for_longer_joins_again(
    whole: Search, disturbed: Search, cluster: RayHosts
) -> None:
    disturbed.meets(together=2, delay=15)
    driver = start(disturbed, cluster)
    disturbed.wait_for_evaluations(3)
    before = {line["node"] for line in disturbed.evaluated()}
    cluster.workers[0].cut()
    time.sleep(100)
    cluster.workers[0].heal()
    disturbed.finish(driver, seconds=600)
    assert disturbed.table() == whole.table()
    assert len({line["node"] for line in disturbed.evaluated()} - before) == 1, "Ray gave it another id"


def test_host_that_is_switched_off(whole: Search, disturbed: Search, cluster: RayHosts) -> None:
    disturbed.meets(together=2, delay=0.5)
    driver = start(disturbed, cluster)
    disturbed.wait_for_evaluations(5)
    cluster.workers[0].end()
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()


def evaluators(host: Host) -> list[psutil.Process]:
    """Processes of a host's trial actors."""
    processes = [psutil.Process(pid) for pid in host.pids()]
    return [process for process in processes if "ResourceTrainable" in " ".join(process.cmdline())]


def test_evaluator_that_is_stopped_is_replaced(whole: Search, disturbed: Search, cluster: RayHosts) -> None:
    config = disturbed.run.read_config()
    (disturbed.run.path / CONFIG).unlink()
    ray = dataclasses.replace(config.ray, evaluation_timeout=5.0)
    disturbed.run.write_config(dataclasses.replace(config, ray=ray))
    disturbed.meets(together=2, delay=0.5)
    driver = start(disturbed, cluster)
    wait_until(lambda: len({line["node"] for line in disturbed.evaluated()}) == 2)
    evaluators(cluster.workers[0])[0].suspend()
    errors = disturbed.finish(driver)
    assert "an evaluator has not answered for" in errors
    assert disturbed.table() == whole.table()


@pytest.mark.long
def test_node_that_gets_sigterm_costs_nothing(whole: Search, disturbed: Search, cluster: RayHosts) -> None:
    disturbed.meets(together=2, delay=1)
    driver = start(disturbed, cluster)
    disturbed.wait_for_evaluations(5)
    [ray] = [p for p in map(psutil.Process, cluster.workers[0].pids()) if is_ray_start(p)]
    ray.terminate()
    errors = disturbed.finish(driver)
    assert errors.count("a node leaves") == 1
    assert disturbed.table() == whole.table()
    log = (cluster.workers[0].folder / "ray.log").read_text()
    assert "finished draining" in log, "it left before its time was up"


def is_ray_start(process: psutil.Process) -> bool:
    return process.name() != "sh" and "ray.scripts.scripts" in process.cmdline()


@pytest.mark.long
@pytest.mark.parametrize("settings", [TINY, ["--search.no-cache"]], ids=["tiny", "demo"])
def test_two_nodes_of_one_cpu_make_the_run_of_one_node_of_two(
    tmp_path: Path, cluster: RayHosts, settings: list[str]
) -> None:
    runs = {name: RunFolder(tmp_path / name) for name in ("cluster", "alone")}
    command = ["run", "demo", *settings, "--run-dir"]
    driver = cluster.start_driver([*command, str(runs["cluster"].path)], tmp_path / "out")
    assert driver.wait(timeout=1800) == 0, (tmp_path / "out").read_text()
    launch = [sys.executable, "launch.py", *command, runs["alone"].path]
    subprocess.run(launch, cwd=ROOT, check=True, capture_output=True)
    there, here = runs["cluster"], runs["alone"]
    assert here.read_config().training_threads == 2
    assert there.read_supernet().weights_sha256 == here.read_supernet().weights_sha256
    assert without_times(there.read_evaluations()) == without_times(here.read_evaluations())
    assert there.retrained_numbers() == here.retrained_numbers()
    for number in here.retrained_numbers():
        assert there.read_retrained(number).weights_sha256 == here.read_retrained(number).weights_sha256
        assert there.read_retrained(number).test == here.read_retrained(number).test
