"""Reads super-network checkpoints of the official AutoSNN code, so that a search can start from them."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn.model.network import VOTERS_PER_CLASS, SpikingNetwork
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
        weights: State dict of a SpikingNetwork with PLIF neurons, float32 and finite.
        channels: C, channels of the stem.
        in_channels: Channels of the input.
        num_classes: Number of classes.
        num_features: Inputs of the head, which depend on the size of the images.
    """

    weights: dict[str, Tensor]
    channels: int
    in_channels: int
    num_classes: int
    num_features: int


class _Unusable(ValueError):
    """What is wrong with a checkpoint, without its name."""


def read_official_supernet(path: Path) -> OfficialSupernet:
    """Reads a checkpoint of the official code (AutoSNN backbone, five blocks).

    The file is opened with `weights_only=True`: it cannot run code. torch does not verify the checksums of
    its files, so that is done here.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not an undamaged checkpoint of an AutoSNN super-network; the message names it.
    """
    if not path.exists():
        raise FileNotFoundError(f"No checkpoint at '{path}'.")
    try:
        if path.is_dir():
            raise _Unusable("is a folder; give the file that torch.save wrote.")
        return _supernet(_state_dict(_load(path.read_bytes())))
    except _Unusable as error:
        raise ValueError(f"Checkpoint '{path}' {error}") from error


def _load(data: bytes) -> Any:
    """The content of a file of torch.save, after its checksums were verified."""
    if not data:
        raise _Unusable("is empty; copy it again.")
    if not data.startswith(b"PK"):
        raise _Unusable(
            "is no zip file, as torch.save writes. If torch before 1.6 wrote it, it has no checksums: load "
            "it with torch and save it again."
        )
    try:
        verified = _verified(data)
    except Exception as error:  # zipfile raises a different type for every kind of damage
        raise _Unusable(f"is damaged or truncated ({error!s:.100}); copy it again.") from error
    try:
        return torch.load(verified, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _Unusable(
            "holds objects other than tensors, numbers and texts. They could run code and are not loaded: "
            "save its state dict alone."
        ) from error
    except Exception as error:  # torch too
        raise _Unusable("is damaged or was not written by torch.save; copy it again.") from error


def _verified(data: bytes) -> io.BytesIO:
    """A zip file with the same members, each of which has its checksum.

    It is written anew because the checksums leave out the directory of a zip file: torch takes a member that
    a flipped bit there marks as a folder for one, and leaves its tensor to whatever was in memory.
    """
    clean = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(clean, "w") as copy:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed, which torch.save never does")
            copy.writestr(member.filename, archive.read(member))
    clean.seek(0)
    return clean


def _state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their official names."""
    state = checkpoint
    if isinstance(checkpoint, dict):
        state = checkpoint.get("net", checkpoint.get("state_dict", checkpoint))
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise _Unusable(
            f"holds a {type(state).__name__} instead of a super-network's state dict: expected a dict with "
            "the tensors under 'net'."
        )
    for name, value in state.items():
        if not isinstance(value, Tensor) or not _is_plain(value):
            raise _Unusable(f"holds a {type(value).__name__} under {name!r:.80} that is no plain tensor.")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _is_plain(value: Tensor) -> bool:
    """Whether all values of a tensor are numbers in memory."""
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _supernet(state: Mapping[str, Tensor]) -> OfficialSupernet:
    stem, head = _matrix(state, "conv_stem.0.weight", 4), _matrix(state, "fc.1.weight", 2)
    channels, in_channels = stem.shape[:2]
    num_classes, num_features = head.shape[0] // VOTERS_PER_CLASS, head.shape[1]
    if head.shape[0] % VOTERS_PER_CLASS or num_features % (4 * channels):
        raise _Unusable(
            f"has a head 'fc.1.weight' of {list(head.shape)} behind {channels} channels of the stem: "
            f"expected {VOTERS_PER_CLASS} rows a class and a multiple of {4 * channels} columns."
        )
    expected = _structure(channels, in_channels, num_classes, num_features).state_dict()
    parts = make_backbone("AutoSNN", channels=channels).body
    named = {_our_name(name, parts): (name, value) for name, value in state.items()}
    missing, unknown = sorted(expected.keys() - named.keys()), sorted(named.keys() - expected.keys())
    if missing or unknown or len(named) < len(state):
        raise _Unusable(
            f"is not of an AutoSNN super-network with {channels} channels: missing: {_listed(missing)}; "
            f"unknown: {_listed(unknown)}."
        )
    weights = {name: _checked(*named[name], like=value) for name, value in expected.items()}
    return OfficialSupernet(weights, channels, in_channels, num_classes, num_features)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"{name:.80}" for name in names[:3]) + (", ..." if len(names) > 3 else "") or "none"


def _matrix(state: Mapping[str, Tensor], name: str, num_dimensions: int) -> Tensor:
    """A tensor that tells the sizes of the network."""
    if name not in state:
        raise _Unusable(
            f"has no tensor '{name}': it is not a super-network of the official AutoSNN code (expected its "
            "'net' state dict, stem 'conv_stem', head 'fc')."
        )
    value = state[name]
    if value.dim() != num_dimensions or value.numel() == 0:
        raise _Unusable(
            f"has a tensor '{name}' of shape {list(value.shape)}; expected {num_dimensions} dimensions."
        )
    return value


def _structure(channels: int, in_channels: int, num_classes: int, num_features: int) -> SpikingNetwork:
    """The network without memory for its weights; its three pools leave the features its head needs."""
    with torch.device("meta"):
        return SpikingNetwork(
            make_backbone("AutoSNN", channels=channels),
            [AUTOSNN_BLOCKS] * 5,
            input_shape=(in_channels, 8, 8 * (num_features // (4 * channels))),
            num_classes=num_classes,
            time_steps=1,
        )


def _checked(name: str, value: Tensor, *, like: Tensor) -> Tensor:
    """The values of a tensor as ours has them."""
    if value.shape != like.shape or value.is_floating_point() != like.is_floating_point():
        raise _Unusable(
            f"has a tensor '{name}' of {value.dtype} {list(value.shape)}; expected {like.dtype} "
            f"{list(like.shape)}."
        )
    value = value.detach().to(like.dtype)
    if not value.isfinite().all():
        raise _Unusable(f"has values in '{name}' that are not finite.")
    if name.endswith("running_var") and (value < 0).any():
        raise _Unusable(f"has variances below 0 in '{name}'.")
    return value


def _our_name(name: str, parts: Sequence[SearchedLayer | Pool]) -> str:
    """Our name of a tensor; a name without one is returned as it is."""
    match = re.match(r"layers\.([0-9]{1,3})\.blocks\.([0-9]{1,3})\.(.*)", name)
    if match:
        layer, block = int(match[1]), int(match[2])  # their index counts layers and pools, as `body` does
        part = parts[layer] if layer < len(parts) else None
        if not isinstance(part, SearchedLayer) or block >= len(AUTOSNN_BLOCKS):
            return name
        name = f"body.{part.name}.{AUTOSNN_BLOCKS[block]}.{match[3]}"
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
