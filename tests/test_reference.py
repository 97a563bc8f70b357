"""The golden case: a super-network trained with the official code reproduces that code's spikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from snn.model.network import SpikingNetwork, child_weights
from snn.model.reference import read_official_supernet
from snn.model.spikes import record_spikes
from snn.search_space import AUTOSNN_BLOCKS, Architecture, make_backbone


@pytest.fixture
def golden(shared: Path):
    expected = np.load(shared / "reference/official_supernet_expected.npz")
    return read_official_supernet(shared / "reference/official_supernet.pth.tar"), expected


def make(official, candidates) -> SpikingNetwork:
    return SpikingNetwork(
        make_backbone("AutoSNN", channels=official.channels),
        candidates,
        input_shape=(official.in_channels, 32, 32),
        num_classes=official.num_classes,
        time_steps=8,
    ).eval()


def test_supernet_matches_the_official_code_for_all_architectures(golden) -> None:
    official, expected = golden
    network = make(official, [AUTOSNN_BLOCKS] * 5)
    network.load_state_dict(official.weights)
    images = torch.from_numpy(expected["images"])
    for names, votes, spikes in zip(
        expected["architectures"], expected["spike_counts_out"], expected["spikes_per_image"], strict=True
    ):
        with torch.inference_mode(), record_spikes(network) as record:
            ours = network(images, Architecture(tuple(map(str, names)))).sum(0)
        assert record.per_sample().mean().item() == pytest.approx(spikes, rel=1e-3)
        assert (ours - torch.from_numpy(votes)).abs().sum() <= 1e-3 * votes.sum() + 0.2


def test_child_with_the_supernets_weights_equals_the_supernets_path(golden) -> None:
    official, expected = golden
    architecture = Architecture(tuple(map(str, expected["architectures"][0])))
    supernet = make(official, [AUTOSNN_BLOCKS] * 5)
    supernet.load_state_dict(official.weights)
    child = make(official, [(block,) for block in architecture.blocks])
    child.load_state_dict(child_weights(supernet.state_dict(), architecture))
    images = torch.from_numpy(expected["images"])
    with torch.inference_mode(), record_spikes(supernet) as a, record_spikes(child) as b:
        assert torch.equal(supernet(images, architecture), child(images, architecture))
    assert a.per_sample().tolist() == b.per_sample().tolist()


def test_error_names_a_truncated_checkpoint(golden, shared: Path, tmp_path: Path) -> None:
    whole = (shared / "reference/official_supernet.pth.tar").read_bytes()
    (tmp_path / "cut.pth.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth\.tar.*truncated"):
        read_official_supernet(tmp_path / "cut.pth.tar")


def test_checkpoint_of_another_model_is_rejected(tmp_path: Path) -> None:
    torch.save({"net": {"weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="conv_stem"):
        read_official_supernet(tmp_path / "other.pth")
