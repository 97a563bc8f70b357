"""The cache key covers all that an evaluation depends on; a damaged file costs only work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.search.evaluation_cache import EvaluationCache, cache_key
from pipeline.storage.evaluations import to_parquet
from pipeline.storage.files import LocalFiles
from pipeline.storage.records import EvaluationRow
from snn.data.sample_set import SampleSet
from snn.data.samples import LabelledSamples
from snn.engines.device import Device
from snn.engines.engine import EngineSpec
from snn.fitness import Evaluation

CONFIG = named_config("demo")
EVENT_DRIVEN = EngineSpec(name="event_driven", batch_size=8, num_threads=1)
DENSE = replace(EVENT_DRIVEN, name="dense")
CPU = Device("cpu", "a processor")
GPU = Device("cuda", "NVIDIA H100 80GB HBM3")
TEXT = "SRB_k3-SRB_k3-SRB_k3-SRB_k3-SRB_k3"
OTHER = "SCB_k5-SCB_k5-SCB_k5-SCB_k5-SCB_k5"


@pytest.fixture(scope="module")
def data() -> RunData:
    return load_data(CONFIG)


def row(architecture: str, **changes) -> EvaluationRow:
    evaluation = Evaluation(0.5, 10.25, firing_rate=0.1, num_samples=7, synops=5.5)
    return replace(EvaluationRow(3, 1, architecture, (1, 2), evaluation, fitness=0.4), **changes)


def test_appended_rows_are_read_except_failures(tmp_path: Path) -> None:
    cache = EvaluationCache(LocalFiles(tmp_path / "cache"))
    assert cache.read() == {}
    cache.append([])
    first, failed = row(TEXT), row("-".join(["SCB_k3"] * 5), evaluation=None, error="OSError: gone")
    cache.append([first, failed])
    cache.append([row("-".join(["SCB_k5"] * 5))])
    assert cache.read()[TEXT] == first
    assert len(cache.read()) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"architecture": [TEXT], "accuracy": [0.5]}), path)


def of_another_key(path: Path) -> None:
    path.write_bytes(to_parquet([row(TEXT)], {"key": "other"}))


def flipped(path: Path) -> None:
    data = bytearray(to_parquet([row(TEXT)], {"key": "ab"}))
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "text": lambda path: path.write_bytes(b"not parquet"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(to_parquet([row(TEXT)], {"key": "ab"})[:-7]),
    "foreign": foreign,
    "of another key": of_another_key,
    "flipped": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_is_damaged_or_foreign_is_skipped_with_a_warning(
    tmp_path: Path, caplog, damage: str
) -> None:
    cache = EvaluationCache(LocalFiles(tmp_path), "ab")
    cache.append([row(OTHER)])
    DAMAGES[damage](tmp_path / "0000.parquet")
    assert list(cache.read()) == [OTHER]
    assert "0000.parquet" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("link", ["dangling", "folder"])
def test_what_is_no_file_is_no_evaluation(tmp_path: Path, link: str) -> None:
    cache = EvaluationCache(LocalFiles(tmp_path), "ab")
    cache.append([row(TEXT)])
    if link == "folder":
        (tmp_path / "0000.parquet").mkdir()
    else:
        (tmp_path / "0000.parquet").symlink_to(tmp_path / "nowhere")
    assert list(cache.read()) == [TEXT]


def test_unwritable_folder_stops_nothing_and_is_warned_of_once(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EvaluationCache(LocalFiles(tmp_path / "file" / "cache"))
    cache.append([row(TEXT)])
    cache.append([row(TEXT)])
    assert caplog.text.count("cannot be written") == 1


def key(
    data: RunData,
    config: Config = CONFIG,
    *,
    spec: EngineSpec = EVENT_DRIVEN,
    device: Device = CPU,
    train: LabelledSamples | None = None,
    weights: str = "aa",
) -> str:
    samples = RunData(config, train or data.train, data.test)
    return cache_key(config, samples, weights_sha256=weights, engine=spec.identity(device))


def test_key_ignores_what_no_result_depends_on(data: RunData) -> None:
    search = replace(CONFIG.search, algorithm="random", batch_size=7)
    workers = replace(CONFIG.ray, num_workers=9)
    assert key(data, replace(CONFIG, search=search, ray=workers, threads_per_worker=2)) == key(data)
    for spec in (replace(EVENT_DRIVEN, batch_size=7), replace(EVENT_DRIVEN, num_threads=2)):
        assert key(data, spec=spec, device=GPU) == key(data)


def test_key_follows_weights_data_samples_and_network(data: RunData) -> None:
    search, network = CONFIG.search, CONFIG.network
    keys = [
        key(data),
        key(data, weights="bb"),
        key(data, train=replace(data.train, fingerprint="other")),
        key(data, replace(CONFIG, search=replace(search, max_val_samples=50))),
        key(data, replace(CONFIG, seed=1)),
        key(data, replace(CONFIG, network=replace(network, time_steps=3))),
        key(data, replace(CONFIG, network=replace(network, v_threshold=0.5))),
    ]
    assert len(set(keys)) == len(keys)


def test_key_follows_the_engine(data: RunData, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [
        key(data),
        key(data, spec=replace(EVENT_DRIVEN, recalibrate=10)),
        key(data, spec=replace(EVENT_DRIVEN, recalibrate=20)),
        key(data, spec=DENSE),
        key(data, spec=DENSE, device=GPU),
        key(data, spec=DENSE, device=replace(GPU, name="NVIDIA H200")),
        key(data, spec=replace(DENSE, precision="bfloat16")),
        key(data, spec=replace(DENSE, batch_size=7)),
        key(data, spec=replace(DENSE, num_threads=2)),
    ]
    monkeypatch.setattr(torch, "__version__", "1.0")
    assert key(data) == keys[0]
    keys.append(key(data, spec=DENSE))
    monkeypatch.setattr("snn.engines.engine.EVENT_DRIVEN_VERSION", 99)
    keys.append(key(data))
    assert len(set(keys)) == len(keys)


def test_key_follows_the_calibration_samples(data: RunData) -> None:
    """Even if the samples that candidates are scored on are the same."""
    other = OtherTrainingSet(CONFIG, data.train, data.test)
    recalibrated = replace(EVENT_DRIVEN, recalibrate=10)
    for spec, same in ((EVENT_DRIVEN, True), (recalibrated, False)):
        identity = spec.identity(CPU)
        keys = {cache_key(CONFIG, it, weights_sha256="aa", engine=identity) for it in (data, other)}
        assert (len(keys) == 1) == same


class OtherTrainingSet(RunData):
    """The same D_val, but D_train in another order."""

    def supernet_train(self) -> SampleSet:
        samples = super().supernet_train()
        return replace(samples, indices=samples.indices[::-1])
