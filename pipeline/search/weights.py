"""The actor that keeps the super-network's weights in Ray's object store.

They are stored as numpy arrays, which every process of a node maps without a copy. If the object is lost,
because the actor that put it died or because it was freed, the (restarted) actor reads the file again,
checks its hash and hands out a new reference.
"""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.numpy import load

from pipeline.config.variables import WORKER_IMPORTS
from pipeline.storage.files import Files, read_weights

logger = logging.getLogger(__name__)

Weights = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class WeightsHandle:
    """Where to find the weights.

    Attributes:
        ref: The object in the store.
        checksum: `checksum` of the arrays.
    """

    ref: ray.ObjectRef
    checksum: int


class WeightsHolder:
    """Reads a safetensors file once and puts it into the object store.

    Args:
        files: Where the file is.
        name: Its name there.
        sha256: Its expected hash.

    Raises:
        ValueError: The file's hash differs: it was damaged or replaced.
    """

    def __init__(self, files: Files, name: str, sha256: str) -> None:
        self.files = files
        self.name = name
        self.sha256 = sha256
        self.handle = self._put()

    def hand_out(self, lost: str = "") -> WeightsHandle:
        """The handle of the weights; stores them again if the current object is the one called `lost`."""
        if lost == self.handle.ref.hex():
            logger.warning("the weights are lost from the object store; reading %s again", self.name)
            self.handle = self._put()
        return self.handle

    def _put(self) -> WeightsHandle:
        weights = load(read_weights(self.files, self.name, self.sha256))
        return WeightsHandle(ray.put(weights), checksum(weights))


def start_weights_holder(files: Files, file: str, sha256: str, *, name: str) -> Any:
    """Starts the actor under a name by which evaluators find it, on this node, which has the file.

    Ray restarts it when it dies.

    Raises:
        ValueError: The file does not have the hash.
    """
    files.flush()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = (
        ray.remote(WeightsHolder)
        .options(
            name=name,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=here,
            runtime_env={"env_vars": {WORKER_IMPORTS: ""}},  # a process of its own, without torch
        )
        .remote(files, file, sha256)
    )
    try:
        ray.get(actor.hand_out.remote())
    except ray.exceptions.RayActorError as error:
        # The constructor's own error names the file; Ray wraps it.
        raise ValueError(str(error.__cause__ or error)) from error
    return actor


class SharedWeights:
    """A worker's view of the weights: the one copy on its node.

    Args:
        name: Name of the weights actor.

    Attributes:
        arrays: Views of shared memory, read-only.
    """

    def __init__(self, name: str) -> None:
        actor: Any = ray.get_actor(name)
        handle = ray.get(actor.hand_out.remote())
        try:
            self.arrays: Weights = ray.get(handle.ref)
        except ray.exceptions.ObjectLostError:  # its owner died since, or it was freed
            handle = ray.get(actor.hand_out.remote(lost=handle.ref.hex()))
            self.arrays = ray.get(handle.ref)
        self._checksum = handle.checksum

    def intact(self) -> bool:
        """Whether the shared memory still holds what the actor put there."""
        return checksum(self.arrays) == self._checksum


def checksum(weights: Weights) -> int:
    """CRC-32 of all weights in order."""
    value = 0
    for array in weights.values():
        value = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, value)
    return value
