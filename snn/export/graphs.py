"""Exports to ONNX and to torch.export's archive, checked on samples before a file is kept."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn.bundle.trained import TrainedNetwork
from snn.export.packages import require
from snn.export.unrolled import Unrolled

_OPSET = 20


def export_onnx(network: TrainedNetwork, path: Path) -> None:
    """Writes an ONNX graph: input `inputs`, outputs `classes` [N] and `votes` [N, K]; N is free.

    Raises:
        RuntimeError: onnx and onnxscript are not installed.
    """
    require("onnx", "onnxscript")
    program = torch.onnx.export(
        Unrolled(network.network, network.architecture),
        (example(network),),
        input_names=["inputs"],
        output_names=["classes", "votes"],
        opset_version=_OPSET,
        dynamic_shapes=({_axis(network): torch.export.Dim("N", min=1)},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(path)


def run_onnx(path: Path, inputs: Tensor) -> list[np.ndarray[Any, Any]]:
    """Classes and votes of an ONNX graph, by onnxruntime.

    Raises:
        RuntimeError: It is not installed.
    """
    require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(["classes", "votes"], {"inputs": inputs.numpy()}))


def export_pt2(network: TrainedNetwork, path: Path) -> None:
    """Writes the archive that torch.export.load reads: classes and votes of inputs, with a free N."""
    program = torch.export.export(
        Unrolled(network.network, network.architecture),
        (example(network),),
        dynamic_shapes=({_axis(network): torch.export.Dim("N", min=1)},),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # constants that share memory
        torch.export.save(program, path)


def run_pt2(path: Path, inputs: Tensor) -> list[np.ndarray[Any, Any]]:
    """Classes and votes of such an archive."""
    classes, votes = torch.export.load(path).module()(inputs)
    return [classes.numpy(), votes.numpy()]


def example(network: TrainedNetwork) -> Tensor:
    """Two samples of the form that a network takes."""
    structure = network.description.structure
    leading = (structure.time_steps, 2) if network.description.events else (2,)
    return torch.zeros(*leading, *structure.input_shape)


def _axis(network: TrainedNetwork) -> int:
    return 1 if network.description.events else 0
