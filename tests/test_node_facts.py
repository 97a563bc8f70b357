"""Nodes that cannot take part in a run are named; what only rounds differently is remarked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from data_files import write_recordings
from hosts import why_no_hosts
from ray_hosts import RayHosts, ray_hosts

from pipeline.config.named import named_config
from pipeline.environment import list_changes
from pipeline.node_facts import NodeFacts, check_node, describe_this_node, list_obstacles, list_remarks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def here() -> NodeFacts:
    return describe_this_node(named_config("demo"))


def test_a_node_like_the_driver_s_may_take_part(here: NodeFacts) -> None:
    assert here.data.keys() == {"training set", "test set"} and not here.no_data
    assert list_obstacles(here, here) == []
    check_node(named_config("demo"), here)
    check_node(named_config("cifar10"), None)


def test_every_difference_that_matters_is_named(here: NodeFacts) -> None:
    other = replace(
        here,
        host="node7",
        software={**here.software, "torch": "1.0"},
        data={**here.data, "test set": "0" * 64},
    )
    found = list_obstacles(other, here)
    assert len(found) == 2 and all("node 'node7'" in text for text in found)
    assert f"has torch 1.0, the driver's node has {here.software['torch']}" in found[0]
    assert "has another test set than the driver's node (000000000000 instead of" in found[1]
    [text] = list_obstacles(replace(here, data={}, no_data="no files below 'data'"), here)
    assert "cannot read the data set: no files below 'data'" in text
    with pytest.raises(ValueError, match="has torch"):
        check_node(named_config("demo"), replace(here, software={**here.software, "torch": "9.9"}))


def test_what_a_run_can_live_with_is_remarked(here: NodeFacts) -> None:
    other = replace(
        here,
        hardware={**here.hardware, "CPU": "Other"},
        no_kernels="there is no C compiler",
        free_bytes=2**30,
        open_ports=(8265,),
        unix_time=here.unix_time + 100,
    )
    texts = " ".join(list_remarks(other, here))
    for expected in (
        "has CPU 'Other'",
        "no C compiler",
        "only 1.0 GiB free",
        "port 8265",
        "differs by 100 s",
    ):
        assert expected in texts
    assert list_obstacles(other, here) == []


def test_a_run_that_goes_on_elsewhere_says_what_differs() -> None:
    from report_runs import ENVIRONMENT

    changes = list_changes(ENVIRONMENT)
    assert changes[0].startswith("CPU Some CPU there, ") and any("torch 2.11.0 there" in c for c in changes)
    assert not any("Linux" in change for change in changes)


@pytest.fixture
def cluster() -> Iterator[RayHosts]:
    with ray_hosts(1, 1) as hosts:
        yield hosts


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())
def test_doctor_and_run_name_the_node_that_differs(cluster: RayHosts, tmp_path: Path) -> None:
    root, other = tmp_path / "data", tmp_path / "other"
    write_recordings(root, duration=800_000)
    write_recordings(other, duration=700_000)
    settings = ["recordings", "--data.root", str(root), "--ray.address", cluster.address]

    def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "launch.py"), *arguments]
        return cluster.head.run(command, cluster.environment, check=False)

    healthy = launch("cluster", "doctor", *settings)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert "every node can take part" in healthy.stdout
    hosts = [line.split()[0] for line in healthy.stdout.splitlines()[:3]]
    assert hosts[0] == "head" and sorted(hosts[1:]) == ["worker1", "worker2"]

    cluster.workers[1].run(["mount", "--bind", str(other), str(root)])
    ill = launch("cluster", "doctor", *settings)
    assert ill.returncode == 2 and "node 'worker2' has another training set" in ill.stdout
    assert "worker1' has" not in ill.stdout
    refused = launch("run", *settings, "--run-dir", str(tmp_path / "run"))
    assert refused.returncode == 2 and "node 'worker2' has another training set" in refused.stderr
