"""Records how many nodes a run's cluster had over time, beside its evaluations."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from pipeline.storage.cluster_records import ClusterSample
from pipeline.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_SHARE_OF_THE_RUN = 0.005  # least time between samples in which only the number of evaluations differs


@contextmanager
def recorded_cluster(run: RunFolder) -> Iterator[None]:
    """Watches the connected cluster for the length of the block and adds to the run's cluster.json.

    Raises:
        ValueError: The record of an earlier attempt is damaged.
    """
    end = threading.Event()
    course = list(run.read_cluster())
    watcher = threading.Thread(target=_watch, args=(run, course, end), name="cluster-course", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        end.set()
        watcher.join(timeout=_SECONDS_BETWEEN_LOOKS)


def is_worth_keeping(sample: ClusterSample, last: ClusterSample | None, start: float) -> bool:
    """Whether a sample says something new; of those that only count evaluations a long run keeps few."""
    if last is None or (sample.nodes, sample.cpus, sample.gpus) != (last.nodes, last.cpus, last.gpus):
        return True
    pause = max(_SECONDS_BETWEEN_LOOKS, _SHARE_OF_THE_RUN * (sample.time - start))
    return sample.evaluations != last.evaluations and sample.time - last.time >= pause


def _watch(run: RunFolder, course: list[ClusterSample], end: threading.Event) -> None:
    start, last = time.time(), None
    while True:
        ending = end.wait(_SECONDS_BETWEEN_LOOKS if last else 0)
        try:
            sample = _look(run)
            if is_worth_keeping(sample, last, start) or (ending and sample != last):
                course.append(sample)
                run.write_cluster(course)
                last = sample
        except Exception as error:  # the record is not worth a run; a lost cluster is told by the stage
            logger.debug("the cluster's course is recorded no more: %s", error)
            return
        if ending:
            return


def _look(run: RunFolder) -> ClusterSample:
    """The cluster now; a node counts if it has something to work with."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    working = [node for node in nodes if node.get("CPU", 0) or node.get("GPU", 0)]
    return ClusterSample(
        time=round(time.time(), 1),
        nodes=len(working),
        cpus=sum(node.get("CPU", 0.0) for node in working),
        gpus=sum(node.get("GPU", 0.0) for node in working),
        evaluations=run.num_stored,
    )
