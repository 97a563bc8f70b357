"""A search across hosts ends with the single host's table, whatever happens to the hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from disturbed import Search
from hosts import why_no_hosts
from ray_hosts import RayHosts, ray_hosts

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


def test_host_that_is_switched_off(whole: Search, disturbed: Search, cluster: RayHosts) -> None:
    disturbed.meets(together=2, delay=0.5)
    driver = start(disturbed, cluster)
    disturbed.wait_for_evaluations(5)
    cluster.workers[0].end()
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()
