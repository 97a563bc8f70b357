"""Benchmark of distributing the super-network's weights: time and private memory of a cold worker."""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import psutil
import ray
import torch
from safetensors.torch import save_file

from pipeline.bench.stopwatch import Comparison, SectionResult
from pipeline.bench.subject import Subject
from pipeline.config.tree import Config, RayConfig
from pipeline.console import say
from pipeline.ray.session import ray_session
from pipeline.search.weights import SharedWeights, start_weights_holder
from pipeline.storage.files import LocalFiles, sha256_of
from snn.engines.engine import as_tensors

_MEBIBYTE = 2**20
_LARGE = 256  # MiB
_ARRAYS = 64

Way = Literal["ours", "torch_in_ray", "torch_file"]


class _Reader:
    """A worker that has imported all modules but holds no weights yet."""

    def ready(self) -> bool:
        return True

    def measure(self, way: Way, source: Any) -> dict[str, float]:
        """Fetches the weights in one way, then reads all of them.

        Args:
            way: How to fetch them.
            source: Name of the weights actor, a list with the reference of a state dict, or a file.
        """
        before = _private_bytes()
        start = time.perf_counter()
        weights = self._get(way, source)
        seconds = time.perf_counter() - start
        private = _private_bytes() - before
        for value in weights.values():
            value.sum()
        return {
            "seconds": seconds,
            "private_mib": private / _MEBIBYTE,
            "private_mib_after_reading": (_private_bytes() - before) / _MEBIBYTE,
        }

    def _get(self, way: Way, source: Any) -> dict[str, torch.Tensor]:
        if way == "ours":
            return as_tensors(SharedWeights(source).arrays)
        if way == "torch_in_ray":
            return ray.get(source[0])
        loaded: dict[str, torch.Tensor] = torch.load(source, weights_only=True)
        return loaded


def bench_weights(subject: Subject, *, quick: bool) -> SectionResult:
    """The subject's super-network and one of 256 MiB, each fetched by workers that hold no weights yet."""
    generator = torch.Generator().manual_seed(0)
    shape = (_LARGE * _MEBIBYTE // 4 // _ARRAYS,)
    large = {f"part{i}": torch.randn(shape, generator=generator) for i in range(_ARRAYS)}
    small = {name: value.clone() for name, value in subject.network.state_dict().items()}
    lines: list[Comparison] = []
    facts: dict[str, Any] = {"plain": "a torch state dict in Ray's object store, or torch.load, a worker"}
    with ray_session(Config(ray=RayConfig())), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, weights in (("super-network", small), (f"{_LARGE} MiB", large)):
            say(f"  {name}: starting cold workers")
            result = _measure(weights, Path(folder), workers=1 if quick else 3)
            demanded = weights is large
            ours, plain, file = result["ours"], result["torch_in_ray"], result["torch_file"]
            lines += [
                Comparison(
                    f"weights, {name}, time / torch in Ray",
                    "ms",
                    1000 * ours["seconds"],
                    1000 * plain["seconds"],
                    50.0 if demanded else None,
                    absolute=True,
                ),
                Comparison(
                    f"weights, {name}, time / torch.load",
                    "ms",
                    1000 * ours["seconds"],
                    1000 * file["seconds"],
                ),
                Comparison(
                    f"weights, {name}, private / torch in Ray",
                    "MiB",
                    ours["private_mib_after_reading"],
                    plain["private_mib_after_reading"],
                    10.0 if demanded else None,
                    absolute=True,
                ),
            ]
            facts[name] = result
    return SectionResult(tuple(lines), facts)


def _measure(weights: dict[str, torch.Tensor], folder: Path, *, workers: int) -> dict[Way, dict[str, float]]:
    """Medians over new workers; the ways take turns."""
    safe, pickled = folder / f"{uuid.uuid4().hex}.safetensors", folder / f"{uuid.uuid4().hex}.pt"
    save_file(weights, safe)
    torch.save(weights, pickled)
    name = f"bench-weights-{uuid.uuid4().hex}"
    files = LocalFiles(folder)
    holder = start_weights_holder(files, safe.name, sha256_of(files, safe.name), name=name)
    sources: dict[Way, Any] = {"ours": name, "torch_in_ray": [ray.put(weights)], "torch_file": str(pickled)}
    make: Callable[[], Any] = ray.remote(_Reader).options(num_cpus=0).remote
    found: dict[Way, list[dict[str, float]]] = {way: [] for way in sources}
    try:
        for _ in range(workers):
            readers = {way: make() for way in sources}
            ray.get([reader.ready.remote() for reader in readers.values()])
            for way, reader in readers.items():
                found[way].append(ray.get(reader.measure.remote(way, sources[way])))
                ray.kill(reader)
    finally:
        ray.kill(holder)
        safe.unlink()
        pickled.unlink()
    return {
        way: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for way, results in found.items()
    }


def _private_bytes() -> int:
    """Memory of this process that it shares with no other (USS)."""
    private: int = psutil.Process().memory_full_info().uss
    return private
