"""Exported networks say what the network says: the same classes and votes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import RECORDINGS, write_bundle
from data_files import PIXELS
from torch import nn

import launch
from pipeline.use.export import made_up
from snn.bundle.inputs import read_samples, to_inputs
from snn.bundle.trained import TrainedNetwork
from snn.export import graphs
from snn.export.c_folder import write_c_folder
from snn.export.nir_graph import export_nir, run_nir
from snn.model.neuron import input_currents
from snn.search_space import Architecture, BackboneName


@pytest.fixture(params=[False, True], ids=["pictures", "recordings"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> TrainedNetwork:
    return write_bundle(tmp_path / "bundle", events=request.param)


def samples_of(network: TrainedNetwork) -> np.ndarray:
    return read_samples(network.description, RECORDINGS if network.description.events else PIXELS)


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_graph_votes_as_the_network_for_any_number_of_samples(
    network: TrainedNetwork, tmp_path: Path, form: str
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
    file = tmp_path / f"network.{form}"
    getattr(graphs, f"export_{form}")(network, file)
    inputs = to_inputs(network.description, samples_of(network))
    said = network.predict_inputs(inputs)
    classes, votes = getattr(graphs, f"run_{form}")(file, inputs)
    assert said.votes.std(0).all(), "samples differ"
    assert classes.tolist() == said.classes.tolist() and votes.tolist() == said.votes.tolist()
    one = inputs[:, :1] if network.description.events else inputs[:1]
    assert getattr(graphs, f"run_{form}")(file, one)[1].tolist() == said.votes[:1].tolist()


@pytest.mark.parametrize("simulator", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("events", [False, True], ids=["pictures", "recordings"])
@pytest.mark.parametrize(
    ("backbone", "path"),
    [
        ("AutoSNN_deploy", "SCB_k3-SRB_k5-skip_connect-SRB_k3-SCB_k5"),
        ("SNN_3", "SCB_k3-skip_connect-SRB_k5-skip_connect-skip_connect-SCB_k3-SRB_k3-SRB_k3"),
    ],
)
def test_other_simulators_run_a_nir_graph_to_the_same_votes(
    tmp_path: Path, backbone: BackboneName, path: str, events: bool, simulator: str
) -> None:
    pytest.importorskip("nirtorch")
    pytest.importorskip(simulator)
    network = write_bundle(
        tmp_path / "bundle", events=events, backbone=backbone, path=Architecture.parse(path)
    )
    file = tmp_path / "network.nir"
    export_nir(network, file)
    inputs = to_inputs(network.description, samples_of(network))
    said = network.predict_inputs(inputs)
    assert said.votes.sum() > 0, "it votes"
    assert run_nir(simulator, network, file, inputs).tolist() == said.votes.tolist()


def test_max_pools_are_refused_for_nir(tmp_path: Path) -> None:
    network = write_bundle(tmp_path / "bundle")
    with pytest.raises(ValueError, match=r"'pool0' is a max-pool of spikes.*AutoSNN_deploy"):
        export_nir(network, tmp_path / "network.nir")


def test_c_folder_prints_what_python_says(network: TrainedNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    write_c_folder(network, folder, samples_of(network))
    built = subprocess.run(["make", "test"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0 and "the same as in Python" in built.stdout, built.stderr
    (folder / "samples.bin").write_bytes((folder / "samples.bin").read_bytes()[:-1])
    cut = subprocess.run(["./network", "samples.bin"], cwd=folder, capture_output=True, text=True)
    assert cut.returncode == 1 and "ends in the middle of a sample" in cut.stderr
    (folder / "expected.txt").write_text("")
    assert subprocess.run(["make", "test"], cwd=folder, capture_output=True).returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_c_folder_allocates_nothing_and_stays_within_its_memory(
    network: TrainedNetwork, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    write_c_folder(network, folder, samples_of(network)[:2])
    # Instructions that valgrind knows, and memory of the compiler's own around every array.
    subprocess.run(["make", "CFLAGS=-O2 -g"], cwd=folder, check=True, capture_output=True)
    command = ["valgrind", "--error-exitcode=9", "--leak-check=full", "./network", "samples.bin"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "".join((folder / "expected.txt").read_text().splitlines(keepends=True)[:2])
    source = (folder / "network.c").read_text() + (folder / "event_driven.c").read_text()
    assert "alloc(" not in source
    checked = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    subprocess.run(["make", "-B", "test", f"CFLAGS={checked}"], cwd=folder, check=True, capture_output=True)


def test_export_is_checked_and_said(network: TrainedNetwork, tmp_path: Path, capsys) -> None:
    file = tmp_path / "network.pt2"
    command = ["export", str(tmp_path / "bundle"), "--output", str(file), "--format", "pt2"]
    assert launch.main(command) == 0
    said = capsys.readouterr().out
    assert "all votes the same in 100 of 100 made-up samples" in said and file.exists()
    assert launch.main(command) == 2
    assert f"'{file}' exists" in capsys.readouterr().err


def test_export_that_does_something_else_is_not_kept(
    network: TrainedNetwork, tmp_path: Path, monkeypatch
) -> None:
    def fire(_: nn.Module, *given: Any, **named: Any) -> torch.Tensor:
        current = input_currents(*given, **named)
        return (current > 0).to(current.dtype)

    monkeypatch.setattr("snn.export.unrolled.UnrolledNeuron.forward", fire)
    file = tmp_path / "network.pt2"
    assert launch.main(["export", str(tmp_path / "bundle"), "--output", str(file), "--format", "pt2"]) == 2
    assert not file.exists()


def test_made_up_samples_make_the_network_vote(network: TrainedNetwork) -> None:
    said = network.predict_inputs(to_inputs(network.description, made_up(network)))
    assert len(said) == 100 and len({*map(tuple, said.votes.tolist())}) > 10
