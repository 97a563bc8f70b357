"""Only one driver works on a run at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.interruption import ProcessLost, interrupt
from pipeline.storage.lease import leased, locked, own_lease
from pipeline.storage.queued import QueuedFiles
from pipeline.storage.run_folder import RunFolder
from snn.object_files import ObjectFiles

logger = logging.getLogger(__name__)


@contextmanager
def driving(run: RunFolder) -> Iterator[None]:
    """Makes this process the only driver of a run for the time of the block.

    In an object store, writes then go through a queue (`pipeline.storage.queued`).

    Raises:
        ValueError: Another driver works on the run.
        OSError: At the end, something could not be written.
        ProcessLost: Another driver took the run over while this one could not reach the store.
    """
    files = run.files
    if not isinstance(files, QueuedFiles):
        with locked(run.path):
            yield
        return

    def on_lost(reason: str) -> None:
        interrupt(ProcessLost(reason))

    lease, store = own_lease(), ObjectFiles(run.location, seconds_of_retries=3.0)
    with (
        leased(store, lease, on_lost=on_lost, on_wait=logger.warning) as before,
        files.queueing(lease, before),
    ):
        yield
