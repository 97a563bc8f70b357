"""The samples of a run on nodes that do not see its data folder: copied once to each, from the driver's node.

The driver starts an actor that hands out the prepared files of samples in pieces, through Ray's object store,
where a node gets a piece from any node that has it. A node keeps its copy in the user's cache.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from snn.data.samples import LabelledSamples, copied_samples
from snn.datasets import Split
from snn.user_cache import user_cache

logger = logging.getLogger(__name__)

_PIECE = 32 << 20
_PIECES_KEPT = 8


@dataclass(frozen=True)
class StagedFile:
    """A file of samples on the driver's node.

    Attributes:
        path: Where it is there.
        num_bytes: Its size.
        fingerprint: That of its samples.
    """

    path: Path
    num_bytes: int
    fingerprint: str


class SamplesHolder:
    """The actor: reads pieces of files and puts them into the object store.

    Args:
        files: The files by split.
    """

    def __init__(self, files: Mapping[Split, StagedFile]) -> None:
        self.files = files
        self._pieces: OrderedDict[tuple[Split, int], ray.ObjectRef] = OrderedDict()

    def describe(self, split: Split) -> StagedFile | None:
        """The file of a split, if it has one."""
        return self.files.get(split)

    def piece(self, split: Split, number: int) -> list[ray.ObjectRef]:
        """The reference of a piece, in a list because Ray would send the object itself otherwise."""
        key = (split, number)
        if key not in self._pieces:
            with self.files[split].path.open("rb") as file:
                file.seek(number * _PIECE)
                self._pieces[key] = ray.put(np.frombuffer(file.read(_PIECE), np.uint8))
            while len(self._pieces) > _PIECES_KEPT:
                self._pieces.popitem(last=False)
        self._pieces.move_to_end(key)
        return [self._pieces[key]]


def hold_samples(name: str, samples: Mapping[Split, LabelledSamples]) -> Any:
    """Starts the actor on this node; Ray restarts it when it dies. It lives as long as its handle.

    None if every node makes these samples itself.

    Args:
        name: A name that no other actor has.
        samples: The run's samples by split.
    """
    files = {
        split: StagedFile(data.file, data.file.stat().st_size, data.fingerprint)
        for split, data in samples.items()
        if data.file is not None
    }
    if not files:
        return None
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    holder = ray.remote(SamplesHolder).options(
        name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    )
    return holder.remote(files)


def fetch_samples(name: str, split: Split) -> LabelledSamples | None:
    """This node's copy of the driver's samples; the first process fetches it, the others wait.

    Args:
        name: Of the actor.
        split: Which samples.

    Returns:
        None if nobody hands them out.

    Raises:
        OSError: The disk is too full, or what arrives is not what was sent.
    """
    try:
        holder: Any = ray.get_actor(name)
    except ValueError:  # the driver has ended
        return None
    file: StagedFile | None = ray.get(holder.describe.remote(split))
    if file is None:
        return None

    def pieces() -> Iterator[bytes]:
        logger.info("fetching %s samples, %.0f MiB", split, file.num_bytes / 2**20)
        for number in range(-(-file.num_bytes // _PIECE)):
            [ref] = ray.get(holder.piece.remote(split, number))
            yield ray.get(ref).data

    return copied_samples(
        user_cache() / "staged", file.fingerprint, num_bytes=file.num_bytes, pieces=pieces, checked_for=name
    )
