"""Exports a trained network and checks what was written against the network itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.console import say
from pipeline.data import load_data
from pipeline.storage.run_folder import RunFolder
from snn.bundle.inputs import to_inputs
from snn.bundle.trained import Prediction, TrainedNetwork, load
from snn.export import graphs
from snn.export.c_folder import write_c_folder
from snn.export.nir_graph import SIMULATORS, export_nir, run_nir
from snn.export.packages import is_installed

Samples = NDArray[np.uint8]
Votes = NDArray[np.int64]
Format = Literal["onnx", "pt2", "nir", "c"]

NUM_SAMPLES = 100
_LEAST_EQUAL = 0.95  # rounding may flip a spike; more than that is a mistake


@dataclass(frozen=True)
class _Graph:
    """A form of file.

    Attributes:
        write: Writes it.
        runners: Who runs it, and how: votes [N, K] of inputs.
    """

    write: Callable[[TrainedNetwork, Path], None]
    runners: dict[str, Callable[[TrainedNetwork, Path, Tensor], Votes]]


_GRAPHS = {
    "onnx": _Graph(graphs.export_onnx, {"onnxruntime": lambda _, path, x: graphs.run_onnx(path, x)[1]}),
    "pt2": _Graph(graphs.export_pt2, {"torch.export": lambda _, path, x: graphs.run_pt2(path, x)[1]}),
    "nir": _Graph(export_nir, {name: partial(run_nir, name) for name in SIMULATORS}),
}


def export(location: str, form: Format, output: Path) -> None:
    """Writes a network in another form, runs it and says how far it agrees with the network.

    Args:
        location: The network's folder or URI.
        form: `onnx`, `pt2` (torch.export), `nir`, or `c` (a folder).
        output: The new file or folder.

    Raises:
        FileExistsError: `output` exists.
        RuntimeError: A package that this form needs is missing.
        ValueError: What was written does not agree with the network; it is removed.
    """
    if output.exists():
        raise FileExistsError(f"'{output}' exists: choose another --output, or remove it.")
    network = load(location)
    if not network.network.spikes:
        raise ValueError(
            f"'{location}' has ReLU instead of spiking neurons; only spiking networks are exported."
        )
    samples, origin = check_samples(location, network)
    if form == "c":
        write_c_folder(network, output, samples)
        say(f"written: {output}; build it with make, check it with make test ({len(samples)} {origin})")
        return
    inputs = to_inputs(network.description, samples)
    said = network.predict_inputs(inputs)
    try:
        _GRAPHS[form].write(network, output)
        for runner, run in _GRAPHS[form].runners.items():
            if runner not in SIMULATORS or is_installed(runner):
                say(f"{runner}: {_agreement(said, run(network, output, inputs))} of {len(samples)} {origin}")
    except BaseException:
        shutil.rmtree(output, ignore_errors=True) if output.is_dir() else output.unlink(missing_ok=True)
        raise
    say(f"written: {output}, {output.stat().st_size:,} bytes")


def _agreement(said: Prediction, votes: Votes) -> str:
    same_class, same_votes = said.classes == votes.argmax(1), (said.votes == votes).all(1)
    text = f"same class in {same_class.sum()}, all votes the same in {same_votes.sum()}"
    if same_class.mean() < _LEAST_EQUAL:
        raise ValueError(
            f"What was written does not do what the network does: {text} of {len(votes)} samples."
        )
    return text


def check_samples(location: str, network: TrainedNetwork) -> tuple[Samples, str]:
    """Samples for a check and what they are: of the run's test set where it is at hand, else made up."""
    run = RunFolder(str(Path(location).parents[1])) if len(Path(location).parts) > 2 else None
    try:
        if run is not None:
            test = load_data(run.read_config()).test_set()
            return test.samples[test.indices[:NUM_SAMPLES]], "samples of the test set"
    except (OSError, ValueError):
        pass
    return made_up(network), "made-up samples, as the run's test set is not here"


def made_up(network: TrainedNetwork) -> Samples:
    """Soft random patterns of the network's input size, [NUM_SAMPLES, ...]."""
    structure = network.description.structure
    channels, height, width = structure.input_shape
    rng = np.random.default_rng(0)
    rows, columns = (np.linspace(0, 3, side) for side in (height, width))
    coarse = rng.random((NUM_SAMPLES, channels, 4, 4))
    soft = np.einsum("ncij,hi,wj->nchw", coarse, *(_hats(at) for at in (rows, columns)))
    if network.description.events is None:
        return np.clip(255 * (1.8 * soft - 0.4), 0, 255).astype(np.uint8)
    rates = soft[:, None].repeat(structure.time_steps, 1) ** 4
    return np.minimum(rng.poisson(rates), network.description.events.frames.max_count).astype(np.uint8)


def _hats(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of linear interpolation between 4 points, [len(at), 4]."""
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(4)))
