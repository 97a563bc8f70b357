"""Checkpoints of the official code: read as they are, or refused by name before anything is written."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import lively

from pipeline.config.named import named_config
from pipeline.run import run_import
from pipeline.storage.run_folder import RunFolder
from snn.model.network import SpikingNetwork
from snn.model.reference import read_official_supernet
from snn.search_space import AUTOSNN_BLOCKS, make_backbone

BACKBONE = make_backbone("AutoSNN", channels=2)
THEIRS = (
    (r"^stem\.conv\.", "conv_stem.0."),
    (r"^stem\.norm\.", "conv_stem.1."),
    (r"^stem_neuron\.", "spike_neuron_stem."),
    (r"^head\.", "fc.1."),
    (r"^head_neuron\.", "fc.2."),
    (r"\.shortcut\.conv\.", ".downsample.0."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"(blocks\.0\..*)neuron1\.", r"\1spike_neuron."),
    (r"\.neuron(\d)\.", r".spike_neuron_\1."),
    (r"\.norm\.", ".bn."),
)


def their_name(name: str) -> str:
    """The official code's name of one of our tensors."""
    parts = [part.name for part in BACKBONE.body]
    if name.startswith("body."):
        _, part, block, rest = name.split(".", 3)
        name = f"layers.{parts.index(part)}.blocks.{AUTOSNN_BLOCKS.index(block)}.{rest}"
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


def make_supernet() -> SpikingNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return lively(
            SpikingNetwork(
                BACKBONE, [AUTOSNN_BLOCKS] * 5, input_shape=(1, 32, 32), num_classes=10, time_steps=2
            )
        )


NETWORK = make_supernet()
WEIGHTS = NETWORK.state_dict()
STATE = {their_name(name): value for name, value in WEIGHTS.items()}


def saved(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


VALID = saved({"net": STATE, "epoch": 600})


def with_tensor(name: str, value: Any) -> dict[str, Any]:
    return {"net": {**STATE, name: value}}


def without(name: str) -> dict[str, Any]:
    return {"net": {key: value for key, value in STATE.items() if key != name}}


def flipped(data: bytes, index: int, bit: int = 0) -> bytes:
    return data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


class RunsCode:
    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (Path("code_was_run"),)


def same(weights: dict[str, Tensor]) -> bool:
    return weights.keys() == WEIGHTS.keys() and all(torch.equal(weights[k], v) for k, v in WEIGHTS.items())


@pytest.mark.parametrize(
    "content",
    [
        {"net": STATE, "epoch": 600},
        {"state_dict": STATE},
        STATE,
        {"net": {f"module.{name}": value for name, value in STATE.items()}},
        {
            "net": {
                name: value.double() if value.is_floating_point() else value for name, value in STATE.items()
            }
        },
    ],
    ids=["official", "state_dict", "bare", "module", "double"],
)
def test_checkpoint_is_read_in_every_usual_form(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file")
    official = read_official_supernet(tmp_path / "file")
    assert same(official.weights)
    assert (official.channels, official.in_channels, official.num_classes) == (2, 1, 10)


NORM, VARIANCE, CONV = "conv_stem.1.weight", "conv_stem.1.running_var", "layers.0.blocks.1.conv1.weight"
WEIGHT_BYTES = VALID.find(STATE[CONV].numpy().tobytes())
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"not a checkpoint", "is no zip file"),
    "truncated": (VALID[: len(VALID) // 2], "is damaged or truncated"),
    "last byte missing": (VALID[:-1], "is damaged or truncated"),
    "one bit of the weights": (flipped(VALID, WEIGHT_BYTES), "is damaged or truncated"),
    "another zip": (zipped(a=b"b"), "was not written by torch"),
    "legacy": (saved({"net": STATE}, _use_new_zipfile_serialization=False), "torch before 1.6 wrote it"),
    "pickle": (pickle.dumps({"net": 1}), "is no zip file"),
    "code": (saved({"net": RunsCode()}), "could run code and are not loaded"),
    "pickled network": (saved(torch.nn.Linear(1, 1)), "could run code and are not loaded"),
    "list": (saved([1, 2]), "holds a list instead of"),
    "int": (saved(7), "holds a int instead of"),
    "str": (saved("x"), "holds a str instead of"),
    "None": (saved(None), "holds a NoneType instead of"),
    "tensor": (saved(torch.ones(1)), "holds a Tensor instead of"),
    "net is a list": (saved({"net": [1]}), "holds a list instead of"),
    "names are numbers": (saved({"net": {1: torch.ones(1)}}), "holds a dict instead of"),
    "nothing": (saved({}), "has no tensor 'conv_stem.0.weight'"),
    "another model": (saved({"net": {"weight": torch.ones(1)}}), "has no tensor 'conv_stem.0.weight'"),
    "a number among tensors": (saved(with_tensor(NORM, 1.0)), "holds a float under 'conv_stem.1.weight'"),
    "sparse": (saved(with_tensor(NORM, torch.ones(2).to_sparse())), "that is no plain tensor"),
    "no memory": (saved(with_tensor(NORM, torch.ones(2, device="meta"))), "that is no plain tensor"),
    "one value many times": (
        saved(with_tensor(NORM, torch.ones(1).expand(10**9))),
        "that is no plain tensor",
    ),
    "missing": (saved(without(CONV)), r"missing: body\.layer0\.SCB_k3\.conv1\.conv\.weight; unknown: none"),
    "unknown": (
        saved(with_tensor("layers.99.blocks.0.x", torch.ones(1))),
        r"unknown: layers\.99\.blocks\.0\.x",
    ),
    "shape": (saved(with_tensor(CONV, torch.ones(2, 2, 5, 5))), r"\[2, 2, 5, 5\]; expected .*\[2, 2, 3, 3\]"),
    "stem of one dimension": (
        saved(with_tensor("conv_stem.0.weight", torch.ones(2))),
        "expected 4 dimensions",
    ),
    "no channels": (saved(with_tensor("conv_stem.0.weight", torch.ones(0, 1, 3, 3))), "of shape"),
    "head": (saved(with_tensor("fc.1.weight", torch.ones(99, 128))), "expected 10 rows a class"),
    "whole numbers": (saved(with_tensor(NORM, torch.ones(2, dtype=torch.int64))), "of torch.int64"),
    "complex numbers": (saved(with_tensor(NORM, torch.ones(2, dtype=torch.complex64))), "of torch.complex64"),
    "NaN": (saved(with_tensor(CONV, torch.full((2, 2, 3, 3), torch.nan))), "not finite"),
    "infinite as float32": (
        saved(with_tensor(NORM, torch.full((2,), 1e300, dtype=torch.float64))),
        "not finite",
    ),
    "NaN variance": (
        saved(with_tensor(VARIANCE, torch.tensor([1, torch.nan]))),
        "running_var' that are not fin",
    ),
    "variance below 0": (saved(with_tensor(VARIANCE, torch.tensor([1.0, -1e-3]))), "variances below 0"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("case", BAD)
def test_unusable_checkpoint_is_named_with_what_is_wrong(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = BAD[case]
    (tmp_path / "bad.pth.tar").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_official_supernet(tmp_path / "bad.pth.tar")
    text = str(refusal.value)
    assert text.startswith(f"Checkpoint '{tmp_path / 'bad.pth.tar'}' ")
    assert "weights_only" not in text and len(text) < 600
    assert not (tmp_path / "code_was_run").exists()


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at .*nothing"):
        read_official_supernet(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder"):
        read_official_supernet(tmp_path)


def refused_or_same(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        official = read_official_supernet(path)
    except ValueError as error:
        assert str(path) in str(error) and "weights_only" not in str(error)
    else:
        assert same(official.weights)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoint") / "mutated.pth.tar"


POSITIONS = (
    st.integers(0, len(VALID) - 1) | st.integers(len(VALID) - 3000, len(VALID) - 1) | st.integers(0, 3000)
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(start=POSITIONS, length=st.integers(0, 40), replacement=st.binary(max_size=40))
def test_changed_bytes_are_refused_or_change_nothing(
    file: Path, start: int, length: int, replacement: bytes
) -> None:
    refused_or_same(VALID[:start] + replacement + VALID[start + length :], file)


def test_member_that_a_flipped_bit_marks_as_a_folder_is_read_all_the_same(tmp_path: Path) -> None:
    """torch would take its tensor from memory that nothing was written to."""
    with zipfile.ZipFile(io.BytesIO(VALID)) as archive:
        start = archive.start_dir  # of the directory; attributes are the bytes from 38 of an entry
    entries = [match.start() for match in re.finditer(b"PK\x01\x02", VALID[start:])]
    for entry in entries[::30]:
        refused_or_same(flipped(VALID, start + entry + 38, 4), tmp_path / "file")


@settings(deadline=None, derandomize=True, max_examples=100)
@given(index=POSITIONS, bit=st.integers(0, 7))
def test_flipped_bit_is_refused_or_changes_nothing(file: Path, index: int, bit: int) -> None:
    refused_or_same(flipped(VALID, index, bit), file)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=9)
    | st.builds(
        lambda shape, value, dtype: torch.full(shape, value, dtype=torch.float64).to(dtype),
        st.lists(st.integers(0, 3), max_size=4),
        st.floats(),
        st.sampled_from([torch.float32, torch.float16, torch.float64, torch.bfloat16]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    name=st.sampled_from(list(STATE)) | st.text(max_size=30),
    value=ODD,
    key=st.sampled_from(["net", "state_dict"]),
)
def test_changed_tensor_is_refused_or_is_a_valid_one(file: Path, name: str, value: Any, key: str) -> None:
    torch.save({key: {**STATE, name: value}}, file)
    try:
        weights = read_official_supernet(file).weights
    except ValueError as error:
        assert str(file) in str(error)
    else:
        changed = [ours for ours in WEIGHTS if not torch.equal(weights[ours], WEIGHTS[ours])]
        assert [their_name(ours) for ours in changed] in ([], [name])
        assert weights[changed[0]].isfinite().all() if changed else True


@settings(deadline=None, derandomize=True, max_examples=60)
@given(content=ODD)
def test_other_contents_are_refused(file: Path, content: Any) -> None:
    refused_or_same(saved(content), file)


CONFIG = named_config("demo")
CONFIG = replace(
    CONFIG,
    data=replace(CONFIG.data, max_train_samples=120),
    network=replace(CONFIG.network, channels=2),
    retrain=replace(CONFIG.retrain, architectures=("best",)),
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "official.pth.tar").write_bytes(VALID)
    return tmp_path / "official.pth.tar"


def test_import_writes_a_run_with_its_weights_once(checkpoint: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run_import(run, CONFIG, checkpoint)
    assert same(run.read_supernet_weights())
    assert run.read_config() == CONFIG and run.has_environment()
    assert run.read_supernet().spikes_reference > 0
    with pytest.raises(ValueError, match=r"has a super-network already \(source: official\.pth\.tar\)"):
        run_import(run, CONFIG, checkpoint)


@pytest.mark.parametrize("case", ["empty", "truncated", "code", "list", "missing", "NaN variance"])
def test_failed_import_leaves_no_folder(case: str, checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(BAD[case][0])
    with pytest.raises(ValueError, match=r"official\.pth\.tar"):
        run_import(RunFolder(tmp_path / "run"), CONFIG, checkpoint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"channels": 4}, "channels 2 there, 4 in the run"),
        ({"blocks": ("SCB_k3", "SRB_k3")}, "blocks .* in the run"),
        ({"neuron": "IF"}, "neuron PLIF there, IF in the run"),
        ({"backbone": "SNN_2"}, "backbone AutoSNN there, SNN_2 in the run; inputs of the head"),
        ({"stem": "tiny_imagenet"}, "stem image there, tiny_imagenet in the run"),
        ({"v_threshold": 1e6}, "fires no spikes on D_val"),
    ],
)
def test_checkpoint_that_does_not_fit_can_be_imported_after_following_the_advice(
    changes: dict[str, Any], difference: str, checkpoint: Path, tmp_path: Path
) -> None:
    other = replace(CONFIG, network=replace(CONFIG.network, **changes))
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match=rf"official\.pth\.tar'.*{difference}.*--network"):
        run_import(run, other, checkpoint)
    assert not run.path.exists()
    run_import(run, CONFIG, checkpoint)
    assert run.has_supernet()


@pytest.mark.parametrize(
    "step", ["write_environment", "write_config", "write_supernet_weights", "write_supernet"]
)
def test_import_that_could_not_write_everything_is_repeated(
    step: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(RunFolder, step, full)
        run_import(run, CONFIG, checkpoint)
    run_import(run, CONFIG, checkpoint)
    assert run.read_config() == CONFIG and run.has_environment() and same(run.read_supernet_weights())
