"""A cloud's notice drains the machine's Ray node, and the search loses nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from disturbed import ROOT, Search
from hosts import why_no_hosts
from metadata_server import MetadataServer
from processes import wait_until
from ray_hosts import ray_hosts

from cluster import preemption
from cluster.preemption import Metadata, Notice, ask_aws, ask_azure, ask_gcp

DEADLINE = 2_000_000_000.0


@pytest.fixture
def served() -> Iterator[tuple[MetadataServer, Metadata]]:
    server = MetadataServer()
    with server.served("127.0.0.1") as url:
        yield server, Metadata(url)


@pytest.mark.parametrize("ask", [ask_aws, ask_gcp, ask_azure])
def test_notice_is_understood(
    served: tuple[MetadataServer, Metadata], ask: Callable[[Metadata], Notice | None]
) -> None:
    server, metadata = served
    assert ask(metadata) is None
    server.deadline = DEADLINE
    notice = ask(metadata)
    assert notice is not None
    if ask is ask_gcp:
        assert 25 < notice.deadline - time.time() < 31
    else:
        assert notice.deadline == DEADLINE


def test_silent_metadata_server_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([OSError("no route"), OSError("no route"), None, Notice(DEADLINE, "terminate")])

    def ask(_: Metadata) -> Notice | None:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    drained = []
    monkeypatch.setitem(preemption._CLOUDS, "aws", ("http://nowhere", ask))
    monkeypatch.setattr(preemption, "drain", lambda head, notice: drained.append((head, notice)))
    preemption.watch("aws", "head:6379", None, 0.01)
    assert drained == [("head:6379", Notice(DEADLINE, "terminate"))]
    assert caplog.messages == ["the metadata server does not answer: no route"]


@pytest.mark.slow
@pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())
def test_preempted_machine_costs_nothing(whole: Search, disturbed: Search) -> None:
    metadata = MetadataServer()
    disturbed.meets(together=2, delay=1)
    with ray_hosts(1, 1) as cluster, metadata.served(cluster.lab.address) as url:
        agent = [sys.executable, str(ROOT / "launch.py"), "cluster", "preemption-agent", "aws"]
        agent += ["--head", cluster.address, "--url", url, "--seconds", "0.5"]
        victim, out = cluster.workers[0], cluster.workers[0].folder / "agent.log"
        victim.start(agent, out, cluster.environment)
        driver = disturbed.start(
            *("--ray.address", cluster.address),
            enter=cluster.head.command([]),
            **cluster.head.environment,
            **cluster.environment,
        )
        disturbed.wait_for_evaluations(5)
        metadata.deadline = time.time() + 120
        wait_until(lambda: "its Ray node is drained" in out.read_text(), 30, "the agent")
        num_before = len(disturbed.evaluated())
        errors = disturbed.finish(driver)
    assert errors.count("a node leaves") == 1
    assert disturbed.table() == whole.table()
    assert not any(row["error"] for row in disturbed.table())
    assert len({line["node"] for line in disturbed.evaluated()[num_before + 2 :]}) == 1
