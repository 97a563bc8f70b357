"""An engine is known by its spec: what it runs on, which weights it takes, what its results depend on."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import make_active_network, make_batch, require_kernels

from snn.engines.dense import DenseNetwork, MeasuringDenseNetwork
from snn.engines.device import Device, find_cpu
from snn.engines.engine import EngineSpec, choose_engine, load_engine, make_inference, pack_weights
from snn.engines.event_driven import EVENT_DRIVEN_VERSION
from snn.engines.event_statistics import MeasuringEventDrivenNetwork
from snn.engines.event_weights import fold
from snn.engines.inference import InferenceNetwork
from snn.engines.recalibration import RecalibratedNetwork
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import SpikingNetwork
from snn.search_space import ALL_BLOCKS, AUTOSNN_BLOCKS, Architecture, make_backbone

require_kernels()

SETTINGS = {"batch_size": 8, "num_threads": 1}
EVENT_DRIVEN = EngineSpec(name="event_driven", **SETTINGS)
RECALIBRATED = replace(EVENT_DRIVEN, recalibrate=8)
DENSE = EngineSpec(name="dense", **SETTINGS)
BFLOAT16 = replace(DENSE, precision="bfloat16")
SPECS = (
    EVENT_DRIVEN,
    RECALIBRATED,
    DENSE,
    replace(DENSE, recalibrate=8),
    BFLOAT16,
    replace(BFLOAT16, recalibrate=8),
)
CPU = torch.device("cpu")
GPU = Device("cuda", "NVIDIA H100 80GB HBM3")
ARCHITECTURES = [Architecture((block,) * 5) for block in AUTOSNN_BLOCKS]

# (backbone, stem, neuron, input size) -> (accuracy, spikes, synops) of two architectures, without and with
# recalibration, by version 1 of the event-driven engine.
PINNED_VERSION = 1
PINNED = {
    ("AutoSNN", "image", "PLIF", 16): (
        ((0.1875, 4930.0625, 399649.5), (0.4375, 7202.5, 727257.5)),
        ((0.1875, 3923.1875, 303366.625), (0.1875, 5705.4375, 535037.375)),
    ),
    ("SNN_2", "tiny_imagenet", "LIF", 32): (
        ((0.1875, 9568.25, 467090.5), (0.375, 12658.5625, 801721.625)),
        ((0.375, 8470.3125, 359072.125), (0.375, 10285.9375, 607109.125)),
    ),
    ("SNN_3", "image", "IF", 12): (
        ((0.3125, 4463.125, 355133.0), (0.125, 9413.3125, 1228390.75)),
        ((0.125, 4151.125, 320204.5), (0.1875, 8473.0625, 1089769.25)),
    ),
    ("SNN_4", "event", "PLIF", 64): (
        ((0.1875, 18009.3125, 486841.625), (0.3125, 21881.3125, 816028.25)),
        ((0.125, 17318.125, 417652.0), (0.375, 18861.8125, 564254.75)),
    ),
}


def exact_network(backbone: str, stem: str, neuron: str, size: int) -> SpikingNetwork:
    """A super-network whose parameters and statistics are eighths: the same bits on every machine."""
    structure = make_backbone(backbone, channels=4, stem=stem)
    network = SpikingNetwork(
        structure,
        [ALL_BLOCKS] * len(structure.layers),
        input_shape=(2, size, size),
        num_classes=3,
        time_steps=3,
        neuron=neuron,
        v_threshold=0.5,
    )
    ranges = {"norm.weight": (4, 12), "norm.bias": (-2, 6), "running_mean": (-4, 4), "running_var": (4, 16)}
    rng = random.Random(0)
    for name, value in sorted(network.state_dict().items()):
        if value.dim():  # neither a neuron's w nor a counter of batches
            limits = next((limits for end, limits in ranges.items() if name.endswith(end)), (-8, 8))
            value.copy_(eighths(rng, value.shape, *limits))
    return network.eval()


def exact_batch(network: SpikingNetwork, number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = random.Random(seed)
    frames = (3,) if network.backbone.stem == "event" else ()
    inputs = eighths(rng, (*frames, number, *network.input_shape), -4, 12)
    return inputs, torch.tensor([rng.randrange(3) for _ in range(number)])


def eighths(rng: random.Random, shape: tuple[int, ...], low: int, high: int) -> torch.Tensor:
    return torch.tensor([rng.randint(low, high) / 8 for _ in range(math.prod(shape))]).reshape(shape)


def loaded(
    spec: EngineSpec, network: SpikingNetwork, arrays: dict[str, np.ndarray] | None = None
) -> InferenceNetwork:
    """What a worker loads: the structure on the meta device, the weights read-only."""
    with torch.device("meta"):
        structure = SpikingNetwork(
            network.backbone, [AUTOSNN_BLOCKS] * 5, input_shape=(3, 16, 16), num_classes=3, time_steps=3
        )
    arrays = pack_weights(spec, network) if arrays is None else arrays
    for array in arrays.values():
        array.setflags(write=False)
    calibration = make_batch(network, spec.recalibrate)[0] if spec.recalibrate else None
    return load_engine(spec, structure, arrays, calibration=calibration, device=CPU)


def evaluated(network: InferenceNetwork, inputs: tuple[torch.Tensor, torch.Tensor]) -> list[Evaluation]:
    return evaluate_architectures(network, ARCHITECTURES, [inputs], num_threads=1)


@pytest.mark.parametrize("case", PINNED)
def test_event_driven_numbers_move_only_with_their_version(case: tuple[str, str, str, int]) -> None:
    network = exact_network(*case)
    inputs, calibration = exact_batch(network, 16, seed=1), exact_batch(network, 8, seed=2)[0]
    num_layers, num_blocks = len(network.backbone.layers), len(ALL_BLOCKS)
    architectures = [
        Architecture(tuple(ALL_BLOCKS[(i + first) % num_blocks] for i in range(num_layers)))
        for first in (0, 3)
    ]
    results = []
    for recalibrate in (0, 8):
        spec = replace(EVENT_DRIVEN, recalibrate=recalibrate)
        prepared = load_engine(
            spec,
            network,
            pack_weights(spec, network),
            calibration=calibration if recalibrate else None,
            device=CPU,
        )
        evaluations = evaluate_architectures(prepared, architectures, [inputs])
        results.append(tuple((one.accuracy, one.spikes, one.synops) for one in evaluations))
    assert (EVENT_DRIVEN_VERSION, tuple(results)) == (PINNED_VERSION, PINNED[case]), (
        "Event-driven results have changed: increment EVENT_DRIVEN_VERSION and pin the new numbers."
    )


def test_auto_is_event_driven_only_on_a_cpu_with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_active_network()
    assert choose_engine("auto", "cpu", network, **SETTINGS) == EVENT_DRIVEN
    assert choose_engine("auto", "cuda", network, **SETTINGS) == DENSE
    assert choose_engine("event_driven", "cuda", network, **SETTINGS) == EVENT_DRIVEN
    monkeypatch.setattr("snn.engines.engine.is_available", lambda: False)
    assert choose_engine("auto", "cpu", network, **SETTINGS) == DENSE
    assert isinstance(make_inference(network), DenseNetwork)


def test_setting_that_the_chosen_engine_does_not_support_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'bfloat16'.*--search\.engine dense"):
        choose_engine("auto", "cpu", make_active_network(), precision="bfloat16", **SETTINGS)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_packed_weights_are_all_a_worker_needs(spec: EngineSpec) -> None:
    network = make_active_network()
    if spec.recalibrate:
        calibration = make_batch(network, spec.recalibrate)[0]
        measuring = (
            MeasuringDenseNetwork(network, precision=spec.precision)
            if spec.name == "dense"
            else MeasuringEventDrivenNetwork(network, fold(network, norms_apart=True))
        )
        expected: InferenceNetwork = RecalibratedNetwork(measuring, calibration)
    else:
        expected = make_inference(network, spec.name, precision=spec.precision)
    result = loaded(spec, network)
    assert type(result) is type(expected)
    assert result.device == CPU
    assert evaluated(result, make_batch(network)) == evaluated(expected, make_batch(network))


def test_unpacked_weights_are_the_state_dict() -> None:
    network = make_active_network()
    state = network.state_dict()
    for spec in SPECS:
        packed = pack_weights(spec, network)
        assert (packed.keys() == state.keys()) == (not spec.repacks_weights)
    assert all(np.array_equal(array, state[name]) for name, array in packed.items())


def test_event_driven_weights_are_not_copied() -> None:
    network = make_active_network()
    arrays = pack_weights(EVENT_DRIVEN, network)
    result = loaded(EVENT_DRIVEN, network, arrays)
    memory = {array.ctypes.data for array in arrays.values()}
    for (part, _), program in result.programs.items():
        connections = [c for step in program if step.layer for c in step.layer.connections]
        weights = [c.weights for c in connections if c.weights is not None]
        assert part == "head" or all(array.ctypes.data in memory for array in weights)


def test_dense_engine_reads_the_arrays_where_they_are() -> None:
    network = make_active_network()
    arrays = pack_weights(DENSE, network)
    structure = make_active_network()
    load_engine(DENSE, structure, arrays, calibration=None, device=CPU)
    for name, value in structure.state_dict().items():
        assert value.data_ptr() == arrays[name].ctypes.data


def test_identity_of_the_event_driven_engine_is_version_and_recalibration() -> None:
    expected = EVENT_DRIVEN.identity(find_cpu())
    for same in (replace(EVENT_DRIVEN, batch_size=9), replace(EVENT_DRIVEN, num_threads=9)):
        assert same.identity(GPU) == expected
    assert RECALIBRATED.identity(find_cpu()) != expected


def test_identity_of_the_dense_engine_is_all_that_rounding_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = Device("cpu", "a processor")
    identities = [
        DENSE.identity(cpu),
        DENSE.identity(Device("cpu", "another processor")),
        DENSE.identity(GPU),
        DENSE.identity(replace(GPU, name="NVIDIA H200")),
        replace(DENSE, batch_size=9).identity(cpu),
        replace(DENSE, num_threads=9).identity(cpu),
        BFLOAT16.identity(cpu),
        replace(DENSE, recalibrate=8).identity(cpu),
        EVENT_DRIVEN.identity(cpu),
    ]
    monkeypatch.setattr(torch, "__version__", "1.0")
    identities.append(DENSE.identity(cpu))
    for i, identity in enumerate(identities):
        assert identity not in identities[:i]


@pytest.mark.parametrize(("spec", "name"), [(EVENT_DRIVEN, "EVENT_DRIVEN_VERSION"), (DENSE, "DENSE_VERSION")])
def test_version_is_part_of_the_identity(
    spec: EngineSpec, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = spec.identity(GPU)
    monkeypatch.setattr(f"snn.engines.engine.{name}", 99)
    assert spec.identity(GPU) == before | {"version": 99}


def test_device_has_a_name() -> None:
    assert find_cpu().type == "cpu"
    assert find_cpu().name.strip(", ")
