"""The actor that holds the super-network's weights in the object store.

The weights lie there as numpy arrays, which every process of a node maps without copying them. An object
is lost with the actor that put it; the restarted actor reads the file again, checks its hash and hands out
a new reference.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from pipeline.artifacts import check_sha256

Weights = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class WeightsHandle:
    """Where the weights are.

    Attributes:
        ref: Their object in the store.
        file: The file they came from, on the actor's node.
        sha256: The file's hash, which names the weights.
    """

    ref: ray.ObjectRef
    file: str
    sha256: str


class WeightsHolder:
    """Reads a safetensors file once and puts it into the object store.

    Args:
        file: The weights.
        sha256: Hash the file must have.

    Raises:
        ValueError: The file has another hash: it was damaged or replaced.
    """

    def __init__(self, file: str, sha256: str) -> None:
        check_sha256(Path(file), sha256)
        self.handle = WeightsHandle(ray.put(load_file(file)), file, sha256)

    def hand_out(self) -> WeightsHandle:
        return self.handle


def start_weights_holder(file: Path, sha256: str, *, name: str) -> Any:
    """Starts the actor under a name by which evaluators find it; it restarts by itself.

    Raises:
        ValueError: The file does not have the hash.
    """
    actor: Any = (
        ray.remote(WeightsHolder)
        .options(name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1)
        .remote(str(file.resolve()), sha256)
    )
    try:
        ray.get(actor.hand_out.remote())
    except ray.exceptions.RayActorError as error:
        # The constructor's own error names the file; Ray wraps it.
        raise ValueError(str(error.__cause__ or error)) from error
    return actor


def fetch_weights(name: str) -> dict[str, torch.Tensor]:
    """The weights as tensors that share the node's one copy; they must not be written to.

    Args:
        name: Name of the actor.
    """
    actor: Any = ray.get_actor(name)
    try:
        arrays: Weights = ray.get(ray.get(actor.hand_out.remote()).ref)
    except ray.exceptions.ObjectLostError:  # its owner died in between; the new one has put it again
        arrays = ray.get(ray.get(actor.hand_out.remote()).ref)
    return {key: _as_tensor(array) for key, array in arrays.items()}


def _as_tensor(array: NDArray[np.generic]) -> torch.Tensor:
    """A tensor on the memory of a read-only array, without torch's warning about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
