"""Bundles of small networks with random weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from data_files import PIXELS, make_recording
from safetensors.torch import save
from toys import make_active_network

import snn
from snn.bundle.inputs import prepare
from snn.bundle.trained import TrainedNetwork
from snn.description import FORMAT, Description, EventInput, ImageInput, Origin, Structure
from snn.json_values import to_json
from snn.model.network import child_weights
from snn.options import FrameSettings, NeuronName
from snn.search_space import Architecture, BackboneName

PATH = Architecture(("SCB_k3", "SRB_k5", "skip_connect", "SRB_k3", "SCB_k5"))
FRAMES = FrameSettings(time_steps=3, bin_by="time", window_ms=4, max_count=9)


RECORDINGS = [make_recording(seed, n=800) for seed in range(5)]


def write_bundle(
    folder: Path,
    *,
    events: bool = False,
    backbone: BackboneName = "AutoSNN",
    path: Architecture = PATH,
    neuron: NeuronName = "PLIF",
    **changes: Any,
) -> TrainedNetwork:
    channels, size = (2, 32) if events else (3, 32)
    description = Description(
        format=FORMAT,
        name="toy",
        structure=Structure(backbone, path.blocks, 6, "image", (channels, size, size), 3, neuron, 1.0, 2.0),
        class_names=("a", "b", "c"),
        images=None if events else ImageInput((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        events=EventInput((32, 32), FRAMES, "count") if events else None,
        weights_sha256="",
        metrics={"accuracy": 0.5},
        origin=Origin("toys", "train", "test", 0),
    )
    network = make_active_network(backbone, size=size, in_channels=channels, neuron=neuron)
    torch.nn.init.normal_(network.head.weight, 0, 0.5, generator=torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():  # statistics of these samples, so that spikes reach the head
        network.train()(prepare(description, RECORDINGS if events else PIXELS), path)
    weights = save({name: it.contiguous() for name, it in child_weights(network.state_dict(), path).items()})
    folder.mkdir(exist_ok=True)
    (folder / "weights.safetensors").write_bytes(weights)
    sha256 = hashlib.sha256(weights).hexdigest()
    values = to_json(dataclasses.replace(description, weights_sha256=sha256, **changes))
    (folder / "network.json").write_text(json.dumps(values))
    return snn.load(folder)
