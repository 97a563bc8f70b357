"""Writes the folder: a call of a kernel for each layer, static buffers, weights as text without rounding."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from snn.bundle.inputs import to_inputs
from snn.bundle.trained import TrainedNetwork
from snn.engines.event_driven import EventDrivenNetwork, Step
from snn.kernels.layout import LANES, Connection, Layer
from snn.kernels.library import SOURCE
from snn.model.network import VOTERS_PER_CLASS
from snn.search_space import SearchedLayer
from snn.templates import text_templates

_FILES = Path(__file__).with_name("c")
_NUMBERS_PER_LINE = 6


def write_c_folder(network: TrainedNetwork, folder: Path, samples: NDArray[np.uint8]) -> None:
    """Writes a network as C that `make` builds and `make test` checks.

    Args:
        network: The network.
        folder: A new folder.
        samples: For the check: images [N, C, H, W] or counts of events [N, T, C, H, W].

    Raises:
        FileExistsError: The folder exists.
        KernelsUnavailable: There is no C compiler here, so nothing to compare with.
    """
    description, structure = network.description, network.description.structure
    program = _Program(EventDrivenNetwork(network.network), network)
    channels, height, width = structure.input_shape
    num_frames = structure.time_steps if description.events else 1
    sample_size = num_frames * channels * height * width
    num_words = sum(program.buffers) + 2 * program.num_floats + sample_size
    folder.mkdir(parents=True)
    values = {
        "it": description,
        "structure": structure,
        "program": program,
        "num_frames": num_frames,
        "channels": channels,
        "height": height,
        "width": width,
        "sample_size": sample_size,
        "voters": VOTERS_PER_CLASS,
        "num_samples": len(samples),
        "scratch_bytes": 4 * num_words + program.num_seen,
    }
    for name in ("network.c", "network.h", "README.md"):
        (folder / name).write_text(_templates().get_template(f"{name}.j2").render(values))
    for source in (_FILES / "main.c", _FILES / "Makefile", SOURCE):
        shutil.copyfile(source, folder / source.name)
    (folder / "weights.h").write_text("".join(program.weights_text()))
    (folder / "samples.bin").write_bytes(samples.tobytes())
    (folder / "expected.txt").write_text("".join(_expected(network, samples)))


@dataclass(frozen=True)
class _Call:
    """A call of a kernel.

    Attributes:
        name: The layer.
        kind: "stem", "neurons" or "pool".
        sources: Buffers that it reads.
        target: Buffer that it writes.
        shape: (C, H, W) of its output.
        layer: Its neurons, as an initialiser of C.
        connections: One per source, likewise.
    """

    name: str
    kind: str
    sources: tuple[int, ...]
    target: int
    shape: tuple[int, int, int]
    layer: str = ""
    connections: tuple[str, ...] = ()


class _Program:
    """The calls of a network, the memory they share and the weights they read.

    Attributes:
        calls: In order.
        buffers: Entries of each buffer.
        num_floats: Of the scratch memory for currents, and as many for potentials.
        num_seen: Bytes of the max-pools' scratch memory.
    """

    def __init__(self, engine: EventDrivenNetwork, network: TrainedNetwork) -> None:
        self.time_steps = engine.time_steps
        self.num_floats, self.num_seen = LANES, LANES
        self._arrays: list[NDArray[np.float32]] = []
        steps = _steps(engine, network)
        shapes: list[tuple[int, int, int]] = []
        for _, step, sources in steps:
            if step.layer is None:
                channels, height, width = shapes[sources[0]]
                shapes.append((channels, height // 2, width // 2))
                self.num_seen = max(self.num_seen, math.prod(shapes[-1]) + 8)
            else:
                shapes.append(step.layer.shape)
                self.num_floats = max(self.num_floats, step.layer.num_floats)
        sizes = [
            self.time_steps * (math.prod(shape) if step.layer is None else step.layer.num_floats) + LANES
            for shape, (_, step, _) in zip(shapes, steps, strict=True)
        ]
        self.buffers, places = _share_memory(sizes, [sources for _, _, sources in steps])
        self.calls = []
        for number, (name, step, sources) in enumerate(steps):
            read = tuple(places[source] for source in sources)
            call = _Call(name, "pool", read, places[number], shapes[number])
            if step.layer is not None:
                kind = "neurons" if sources else "stem"
                connections = tuple(self._connection(it) for it in step.layer.connections)
                call = replace(call, kind=kind, layer=self._layer(step.layer), connections=connections)
            self.calls.append(call)

    @property
    def num_weights(self) -> int:
        """Floats of all arrays, with what pads them."""
        return sum(array.size for array in self._arrays)

    def weights_text(self) -> Iterator[str]:
        """The arrays in C; hexadecimal digits keep every bit."""
        for number, array in enumerate(self._arrays):
            yield f"static const float w{number}[{array.size}] __attribute__((aligned(64))) = {{\n"
            values = [_float(value) for value in array.ravel().tolist()]
            for start in range(0, len(values), _NUMBERS_PER_LINE):
                yield f"    {', '.join(values[start : start + _NUMBERS_PER_LINE])},\n"
            yield "};\n"

    def _array(self, values: NDArray[np.float32]) -> str:
        self._arrays.append(values)
        return f"w{len(self._arrays) - 1}"

    def _layer(self, layer: Layer) -> str:
        channels, height, width = layer.shape
        numbers = (height, width, channels, len(layer.bias), self.time_steps)
        neuron = (_float(layer.leak), _float(layer.threshold), self._array(layer.bias))
        return "{" + ", ".join([*map(str, numbers), *neuron]) + "}"

    def _connection(self, it: Connection) -> str:
        weights, sides = (
            ("0", (0, 0)) if it.weights is None else (self._array(it.weights), it.weights.shape[1:3])
        )
        numbers = (*sides, it.stride, it.padding, it.size, it.fan_out)
        return "{" + ", ".join(["0", "0", weights, *map(str, numbers), _float(it.scale)]) + "}"


def _steps(engine: EventDrivenNetwork, network: TrainedNetwork) -> list[tuple[str, Step, tuple[int, ...]]]:
    """From the stem on: name, step, and the numbers of the steps that feed it (none, of the stem)."""
    blocks = iter(network.architecture.blocks)
    programs = [("stem", ""), *((name, "") for name, _, _ in engine.stem_parts)]
    for part in network.network.backbone.body:
        programs.append((part.name, next(blocks) if isinstance(part, SearchedLayer) else ""))
    programs += [key for key in (("global_pool", ""), ("head", "")) if key in engine.programs]
    steps: list[tuple[str, Step, tuple[int, ...]]] = []
    for name, block in programs:
        signals = [len(steps) - 1]  # the input of the block
        for step in engine.programs[name, block]:
            sources = tuple(signals[source] for source in step.sources)
            signals.append(len(steps))
            steps.append((f"{name} {block}".strip(), step, sources if steps else ()))
    return steps


def _share_memory(sizes: Sequence[int], sources: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Sizes of buffers, and the buffer of each step's output: one that is read no more, or a new one."""
    last_use = {source: step for step, of_step in enumerate(sources) for source in of_step}
    buffers: list[int] = []
    holds: list[int] = []  # the step whose output lies in each buffer
    places = []
    for step, size in enumerate(sizes):
        free = [i for i, held in enumerate(holds) if last_use.get(held, step) < step]
        if free:
            place = free[0]
            buffers[place], holds[place] = max(buffers[place], size), step
        else:
            place = len(buffers)
            buffers.append(size)
            holds.append(step)
        places.append(place)
    return buffers, places


def _expected(network: TrainedNetwork, samples: NDArray[np.uint8]) -> Iterator[str]:
    """What the main program prints of the samples."""
    said = network.predict_inputs(to_inputs(network.description, samples))
    for name, votes, spikes, synops in zip(said.names, said.votes, said.spikes, said.synops, strict=True):
        yield f"{name} {' '.join(map(str, votes))} {spikes} {synops}\n"


def _float(value: float) -> str:
    """A float32 in C, exactly."""
    return f"{float(np.float32(value)).hex()}f"


@cache
def _templates() -> Environment:
    templates = text_templates("snn.export", "c")
    templates.filters["c_string"] = json.dumps
    templates.filters["floats"] = lambda values: "{" + ", ".join(map(_float, values)) + "}"
    return templates
