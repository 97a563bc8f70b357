"""Which engine a network gets, and that what its kernels cannot hold is known before a training."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from data_files import write_recordings
from torch.nn import functional as F
from toys import BACKBONES, make_network, require_kernels

import pipeline.search.check
from pipeline.algorithms import optuna_tpe
from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.networks import make_network as make_run_network
from pipeline.run import open_run
from pipeline.search.engine import choose_search_engine
from pipeline.storage.run_folder import RunFolder
from snn.engines.dense import DenseNetwork
from snn.engines.engine import choose_engine, make_inference
from snn.engines.event_driven import EventDrivenNetwork, fits_kernels
from snn.engines.trie import evaluate_architectures
from snn.kernels.library import KernelsUnavailable
from snn.model.network import SpikingNetwork
from snn.model.spike_conv import SpikeConv2d
from snn.model.spikes import record_spikes
from snn.options import EngineName
from snn.search_space import ALL_BLOCKS, AUTOSNN_BLOCKS, Architecture, make_backbone

require_kernels()

SETTINGS = {"batch_size": 8, "num_threads": 1}
ARCHITECTURE = Architecture(("SRB_k3",) * 5)


def structure(size: tuple[int, int], *, channels: int = 4, num_classes: int = 3, block: str = "SRB_k3"):
    """A network with the stem for events, without memory for its weights."""
    with torch.device("meta"):
        return SpikingNetwork(
            make_backbone("AutoSNN", channels=channels, stem="event"),
            [(block,)] * 5,
            input_shape=(2, *size),
            num_classes=num_classes,
            time_steps=2,
        )


@pytest.mark.parametrize(
    ("size", "options", "fits"),
    [
        ((1024, 1024), {}, True),
        ((720, 1280), {}, False),
        ((1025, 64), {}, False),
        ((64, 1025), {}, False),
        ((64, 64), {"num_classes": 409}, True),
        ((64, 64), {"num_classes": 410}, False),  # ten voting neurons each
        ((64, 64), {"channels": 1024, "block": "SCB_k3"}, True),
        ((64, 64), {"channels": 1024, "block": "SIB_k3_e3"}, False),  # widens 2048 channels
    ],
)
def test_auto_is_dense_where_a_network_does_not_fit_the_kernels(size, options, fits: bool) -> None:
    network = structure(size, **options)
    assert fits_kernels(network) == fits
    expected = "event_driven" if fits else "dense"
    assert choose_engine("auto", "cpu", network, **SETTINGS).name == expected
    if not fits:
        with pytest.raises(
            ValueError, match=r"1024x1024 pixels and 4,096 channels.*--search\.engine dense or auto"
        ):
            choose_engine("event_driven", "cpu", network, **SETTINGS)


@pytest.mark.parametrize("name", ["demo", "demo_events"])
def test_auto_is_dense_for_wide_networks_that_fire_much(name: str) -> None:
    config = named_config(name)
    data = load_data(config)

    def chosen(channels: int, spikes: float | None, engine: EngineName = "auto") -> str:
        network = replace(config.network, channels=channels)
        search = replace(config.search, engine=engine)
        changed = replace(config, network=network, search=search)
        return choose_search_engine(changed, "cpu", data, spikes=spikes).name

    assert chosen(128, None) == "event_driven"
    assert chosen(128, 1e9) == "dense"
    assert chosen(64, 1e9) == chosen(128, 1e9, "event_driven") == "event_driven"
    network = make_run_network(replace(config.network, channels=128), data).eval()
    path = replace(config.network, channels=128).search_space().sample(random.Random(1))
    inputs, _ = data.search_val().batch(data.search_val().indices[:1], torch.device("cpu"))
    with torch.no_grad(), record_spikes(network) as record:
        network(inputs, path)
    outputs = sum(record.neurons.values()) * config.network.time_steps
    # Paths differ in how many outputs they have, but not by a factor of 2.
    assert chosen(128, 0.1 * outputs) == "event_driven" and chosen(128, 0.4 * outputs) == "dense"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("block", ALL_BLOCKS)
def test_no_part_exceeds_the_planes_that_are_checked(backbone: str, block: str) -> None:
    layers = len(make_backbone(backbone, channels=4).layers)
    network = make_network(backbone, [(block,)] * layers, stem="event", shape=(2, 72, 96))
    programs = EventDrivenNetwork(network).programs.values()
    shapes = [step.layer.shape for program in programs for step in program if step.layer is not None]
    channels = {
        module.num_features for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert max(shape[0] for shape in shapes) <= max(*channels, network.head.out_features)
    assert max(shape[1] for shape in shapes) <= 72 and max(shape[2] for shape in shapes) <= 96


def test_wide_samples_are_evaluated_densely_and_as_before() -> None:
    network = make_network(candidates=[AUTOSNN_BLOCKS] * 5, stem="event", shape=(2, 32, 1280), time_steps=2)
    inputs = torch.rand(2, 3, 2, 32, 1280, generator=torch.Generator().manual_seed(0)).mul(4).floor()
    batch = (inputs, torch.tensor([0, 1, 2]))
    assert isinstance(make_inference(network), DenseNetwork)
    with pytest.raises(ValueError, match=r"search\.engine dense"):
        make_inference(network, "event_driven")
    expected = evaluate_architectures(DenseNetwork(network), [ARCHITECTURE], [batch])
    assert evaluate_architectures(network, [ARCHITECTURE], [batch]) == expected
    assert expected[0].spikes > 0


@pytest.mark.parametrize("shape", [(1, 8, 4, 1024), (1, 8, 4, 1280), (1, 8, 1280, 4), (1, 4104, 3, 3)])
def test_training_convolution_is_exact_on_planes_of_any_size(shape: tuple[int, ...]) -> None:
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    spikes = spikes.contiguous(memory_format=torch.channels_last).requires_grad_()
    convolution = SpikeConv2d(shape[1], 8, 3, padding=1, bias=False)
    expected = F.conv2d(spikes, convolution.weight, padding=1)
    result = convolution(spikes)
    assert torch.allclose(result, expected, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), convolution.weight)[0] for out in (result, expected)]
    assert torch.allclose(*gradients, atol=1e-3)


@pytest.fixture
def wide(tmp_path: Path) -> Config:
    """Settings of a run on recordings of a sensor of 1280 x 720 pixels."""
    write_recordings(tmp_path / "recordings", n=2000, side=700)
    config = named_config("recordings")
    data = replace(config.data, root=tmp_path, sensor_size=(1280, 720), window_ms=0.0, downsample=1)
    network = replace(config.network, channels=4, time_steps=2)
    return replace(config, data=data, network=network)


def with_search(config: Config, **changes) -> Config:
    return replace(config, search=replace(config.search, **changes))


def test_run_on_a_large_sensor_opens_with_auto(wide: Config, tmp_path: Path) -> None:
    open_run(RunFolder(tmp_path / "run"), wide)
    assert RunFolder(tmp_path / "run").read_config() == wide


def test_engine_that_cannot_work_is_refused_before_anything_is_written(wide: Config, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"up to 720x1280 pixels.*--search\.engine dense or auto"):
        open_run(RunFolder(tmp_path / "run"), with_search(wide, engine="event_driven"))
    assert not (tmp_path / "run").exists()


def test_what_settings_and_data_alone_make_fail_fails_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = named_config("demo")
    run = RunFolder(tmp_path / "run")

    def refused(config: Config, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            open_run(run, config)
        assert not run.path.exists()

    events = named_config("demo_events")
    small = replace(events, data=replace(events.data, downsample=8))
    refused(small, "An input of 5x5 is too small for AutoSNN")
    block = "-".join(["SIB_k3_e6"] * 5)
    large = replace(demo, network=replace(demo.network, channels=512))
    large = replace(large, retrain=replace(large.retrain, architectures=(block,)))
    refused(with_search(large, engine="event_driven"), "12,288 channels")

    def unavailable() -> None:
        raise KernelsUnavailable("there is no C compiler")

    monkeypatch.setattr(pipeline.search.check, "check_available", unavailable)
    refused(
        with_search(demo, engine="event_driven"), "search.engine is 'event_driven', but there is no C comp"
    )

    def missing(_seed: int) -> None:
        raise ValueError("search.algorithm is 'optuna', but optuna is not installed")

    monkeypatch.setattr(optuna_tpe, "_make_study", missing)
    refused(with_search(demo, algorithm="optuna"), "optuna is not installed")


def test_finished_search_opens_on_a_machine_that_could_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = RunFolder(tmp_path / "run"), with_search(named_config("demo"), engine="event_driven")
    open_run(run, config)

    def unavailable() -> None:
        raise KernelsUnavailable("there is no C compiler")

    monkeypatch.setattr(pipeline.search.check, "check_available", unavailable)
    with pytest.raises(ValueError, match="there is no C compiler"):
        open_run(run, config)
    monkeypatch.setattr(RunFolder, "has_best", lambda _: True)
    open_run(run, config)
