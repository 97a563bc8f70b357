"""Reads super-network checkpoints of the official AutoSNN code, so that a search can start from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from snn.search_space import AUTOSNN_BLOCKS, Pool, SearchedLayer, make_backbone

_RENAMED = (
    (r"^conv_stem\.0\.", "stem.conv."),
    (r"^conv_stem\.1\.", "stem.norm."),
    (r"^spike_neuron_stem\.", "stem_neuron."),
    (r"^fc\.1\.", "head."),
    (r"^fc\.2\.", "head_neuron."),
    (r"\.conv(\d)\.weight$", r".conv\1.conv.weight"),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.spike_neuron_(\d)\.", r".neuron\1."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.bn\.", ".norm."),
    (r"\.spike_neuron\.", ".neuron1."),
)


@dataclass(frozen=True)
class OfficialSupernet:
    """A super-network trained with the official code, with its weights under our names.

    Attributes:
        weights: State dict of SpikingNetwork, float32.
        channels: C, channels of the stem.
        in_channels: Channels of the input.
        num_classes: Number of classes.
        epochs: Epochs of training, if the checkpoint records them.
    """

    weights: dict[str, Tensor]
    channels: int
    in_channels: int
    num_classes: int
    epochs: int | None


def read_official_supernet(path: Path) -> OfficialSupernet:
    """Reads a checkpoint of the official code (AutoSNN backbone, five blocks).

    The file is opened with `weights_only=True`: it cannot run code.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not a readable checkpoint (it may be truncated), or not one of an AutoSNN
            super-network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at '{path}'.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for every kind of damage
        raise ValueError(
            f"Checkpoint '{path}' cannot be read: {error}. It may be truncated; copy it again."
        ) from error
    state = checkpoint.get("net", checkpoint.get("state_dict", checkpoint))
    required = ("conv_stem.0.weight", "fc.1.weight")
    missing = [key for key in required if key not in state]
    if missing:
        raise ValueError(
            f"Checkpoint '{path}' has no tensor '{missing[0]}': it is not a super-network of the official "
            "AutoSNN code (expected its 'net' state dict, stem 'conv_stem', head 'fc')."
        )
    channels, in_channels = state["conv_stem.0.weight"].shape[:2]
    parts = make_backbone("AutoSNN", channels=channels).body
    weights = {
        _our_name(name.removeprefix("module."), parts): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
    return OfficialSupernet(
        weights, channels, in_channels, state["fc.1.weight"].shape[0] // 10, checkpoint.get("epoch")
    )


def _our_name(name: str, parts: Sequence[SearchedLayer | Pool]) -> str:
    match = re.match(r"layers\.(\d+)\.blocks\.(\d+)\.(.*)", name)
    if match:
        part = parts[int(match[1])]  # their index counts layers and pools, as `body` does
        assert isinstance(part, SearchedLayer), name
        name = f"body.{part.name}.{AUTOSNN_BLOCKS[int(match[2])]}.{match[3]}"
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
