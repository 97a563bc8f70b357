"""The cache knows an evaluation by all it depends on, and a damaged file costs nothing but work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.data import RunData, load_data
from pipeline.search.evaluation_cache import EvaluationCache, cache_key
from pipeline.storage.records import EvaluationRow

TEXT = "SRB_k3-SRB_k3-SRB_k3-SRB_k3-SRB_k3"


@pytest.fixture(scope="module")
def data() -> RunData:
    return load_data(named_config("demo"))


def row(architecture: str, **changes) -> EvaluationRow:
    values = {"accuracy": 0.5, "spikes": 10.25, "fitness": 0.4, "firing_rate": 0.1, "num_samples": 7}
    return replace(EvaluationRow(3, 1, architecture, (1, 2), synops=5.5, **values), **changes)


def test_what_is_appended_is_read_and_failures_are_not(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache")
    assert cache.read() == {}
    cache.append([])
    first, failed = row(TEXT), row("-".join(["SCB_k3"] * 5), error="OSError: gone")
    cache.append([first, failed])
    cache.append([row("-".join(["SCB_k5"] * 5))])
    assert cache.read()[TEXT] == first
    assert len(cache.read()) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_damaged_file_is_skipped_with_a_warning(tmp_path: Path, caplog) -> None:
    cache = EvaluationCache(tmp_path)
    cache.append([row(TEXT)])
    (tmp_path / "0000.parquet").write_bytes(b"not parquet")
    assert list(cache.read()) == [TEXT]
    assert "0000.parquet" in caplog.text


def test_folder_that_cannot_be_written_stops_nothing_and_warns_once(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EvaluationCache(tmp_path / "file" / "cache")
    cache.append([row(TEXT)])
    cache.append([row(TEXT)])
    assert caplog.text.count("cannot be written") == 1


def test_key_follows_what_an_evaluation_depends_on_and_nothing_else(data: RunData) -> None:
    config = named_config("demo")

    def key(config: Config = config, sha: str = "aa", engine: str = "event_driven") -> str:
        return cache_key(config, RunData(config, data.train, data.test), weights_sha256=sha, engine=engine)

    search, network = config.search, config.network
    assert key(replace(config, search=replace(search, algorithm="random", batch_size=7))) == key()
    assert key(replace(config, ray=replace(config.ray, num_workers=9), threads_per_worker=2)) == key()
    different = [
        key(sha="bb"),
        key(engine="dense"),
        key(replace(config, search=replace(search, batch_size=7)), engine="dense"),
        key(replace(config, network=replace(network, time_steps=3))),
        key(replace(config, search=replace(search, max_val_samples=50))),
        key(replace(config, search=replace(search, recalibrate=10))),
        key(replace(config, seed=1)),
    ]
    assert len({*different, key()}) == len(different) + 1
