"""The run folder: whole files or none, checked reads, refusal of another config's folder."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.config.named import named_config
from pipeline.storage.files import LocalFiles, read_weights
from pipeline.storage.records import (
    Cost,
    EpochRecord,
    EvaluationRow,
    EventExamples,
    ReplayResult,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from pipeline.storage.run_folder import (
    BEST,
    CONFIG,
    EVALUATIONS,
    SUPERNET,
    SUPERNET_WEIGHTS,
    RunFolder,
    checkpoint_of,
)
from snn.fitness import Evaluation, TimeCourse

EVALUATION = Evaluation(
    0.5, 100.0, 0.1, 10, synops=5.5,
    spikes_per_layer={"stem": 60.0, "head": 40.0}, firing_rate_per_layer={"stem": 0.2, "head": 0.05},
)  # fmt: skip
HISTORY = (EpochRecord(1, 0.5, 0.25, 100.0, 1.5), EpochRecord(2, 0.25, 0.5, 90.0, 1.5, 0.5, 80.0))
SUPERNET_RESULT = SupernetResult("trained", "ab", 4000.0, 10, 5, 7, Cost(1.0, 2.0, 3.0), HISTORY)
REPLAY_RESULT = ReplayResult(
    "random",
    2,
    40,
    0.5,
    (0.0, 0.1),
    (0.0, 0.2),
    (0.0, 0.0, 0.1),
    0.5,
    (7, None),
    (7, 7, None),
    (20, 40),
    (0.1, 0.05),
)


class MemoryFiles:
    """Files in memory: a run folder that works on them uses nothing but the protocol."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def open(self, name: str) -> io.BufferedIOBase:
        if name not in self.content:
            raise FileNotFoundError(name)
        return io.BytesIO(self.content[name])

    def put(self, name: str, data: bytes) -> None:
        self.content[name] = data

    def list(self, folder: str) -> list[str]:
        return sorted(name for name in self.content if not folder or name.startswith(f"{folder}/"))

    def delete(self, name: str) -> None:
        self.content.pop(name, None)

    def exists(self, name: str) -> bool:
        return name in self.content


def row(candidate_id: int, parents: tuple[int, ...] = (1, 2)) -> EvaluationRow:
    return EvaluationRow(
        candidate_id, candidate_id // 4, "SCB_k3-SRB_k5", parents, EVALUATION, 0.5, "", "w", 0.5
    )


def failed(candidate_id: int) -> EvaluationRow:
    return replace(row(candidate_id), evaluation=None, fitness=None, error="RuntimeError: no")


def search_result(best: EvaluationRow) -> SearchResult:
    return SearchResult(best, "evolution", -0.08, 4000.0, 4, 1, 3125, 2, Cost(9.0, 8.0), num_known=3)


def retrain_result() -> RetrainResult:
    course = TimeCourse((0.1, 0.2), {"stem": (1.0, 2.0)})
    test = replace(EVALUATION, macs=7.0)
    return RetrainResult("best", "SCB_k3", 0, 9, 8, 7, 2, 0.5, test, 1e-6, None, Cost(), HISTORY, course)


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path) if request.param == "local" else RunFolder(tmp_path, MemoryFiles())


def test_every_record_is_read_as_it_was_written(run: RunFolder) -> None:
    run.write_config(named_config("demo"))
    run.write_environment({"commit": "abc"})
    run.write_supernet(SUPERNET_RESULT)
    run.write_best(search_result(row(0)))
    run.write_retrained(0, retrain_result(), {"w": torch.ones(2)})
    run.write_replay([REPLAY_RESULT])
    assert run.read_config() == named_config("demo")
    assert run.read_environment() == {"commit": "abc"}
    assert run.read_supernet() == SUPERNET_RESULT
    assert run.read_best() == search_result(row(0))
    assert (run.retrained_numbers(), run.read_retrained(0)) == ([0], retrain_result())
    assert run.read_replay() == [REPLAY_RESULT]
    assert run.has_supernet() and run.has_best() and run.has_environment()
    assert {CONFIG, SUPERNET, BEST, "replay.json", "retrained/0/metrics.json"} <= run.hashes().keys()


def test_weights_and_examples_are_read_as_they_were_written(run: RunFolder) -> None:
    weights = {"w": torch.arange(6.0).reshape(2, 3).t(), "number": torch.tensor(3)}
    sha256 = run.write_supernet_weights(weights)
    run.write_supernet(replace(SUPERNET_RESULT, weights_sha256=sha256))
    read = run.read_supernet_weights()
    assert read.keys() == weights.keys() and all(torch.equal(read[name], weights[name]) for name in weights)
    assert run.read_event_examples() is None
    samples = np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 1, 2)
    run.write_event_examples(EventExamples(samples, ("a", "b")))
    examples = run.read_event_examples()
    assert examples is not None and examples.class_names == ("a", "b")
    assert np.array_equal(examples.samples, samples)


def test_evaluations_come_back_as_they_were_before_and_after_closing(run: RunFolder) -> None:
    run.append_evaluations([row(2), failed(3)])
    run.append_evaluations([row(0), row(1, parents=())])
    expected = [row(0), row(1, parents=()), row(2), failed(3)]
    assert run.read_evaluations() == expected
    run.close_evaluations(expected[::-1])
    assert run.read_evaluations() == expected
    assert not run.evaluation_parts()


def test_measurement_is_flat_in_the_table_and_in_the_choice(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.close_evaluations([row(0), failed(1)])
    run.write_best(search_result(row(0)))
    table = pq.read_table(tmp_path / EVALUATIONS)
    assert table.schema.names == [
        "candidate_id", "generation", "architecture", "parents", "accuracy", "spikes", "fitness",
        "firing_rate", "num_samples", "synops", "spikes_per_layer", "firing_rate_per_layer",
        "error", "worker", "seconds",
    ]  # fmt: skip
    assert table.schema.field("parents").type == pa.list_(pa.int64())
    assert table["spikes"].to_pylist() == [100.0, None]
    best = json.loads((tmp_path / BEST).read_text())["best"]
    assert set(best) == set(table.schema.names) and best["spikes_per_layer"] == {"stem": 60.0, "head": 40.0}


def test_curves_are_tensorboard_files_of_the_training(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_curves(None, HISTORY[0])
    run.write_curves(3, HISTORY[1])
    assert len(list((tmp_path / "tensorboard" / "supernet").glob("events.out.tfevents*"))) == 1
    assert len(list((tmp_path / "tensorboard" / "retrained-3").glob("events.out.tfevents*"))) == 1


def test_checkpoint_of_an_unfinished_network_is_no_finished_network(run: RunFolder) -> None:
    run.files.put(checkpoint_of(4), b"state")
    assert run.retrained_numbers() == []


def test_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch) -> None:
    files = LocalFiles(tmp_path)
    files.put("facts.json", b"old")

    def full(_descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"facts\.json' cannot be written: disk full"):
        files.put("facts.json", b"half a fi")
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]
    assert (tmp_path / "facts.json").read_bytes() == b"old"


def test_truncated_evaluations_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_evaluations([row(0)])
    (part,) = (tmp_path / name for name in run.evaluation_parts())
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{part.name}' is damaged .*delete it"):
        run.read_evaluations()


def test_folder_of_another_config_is_refused_with_the_difference(run: RunFolder) -> None:
    config = named_config("demo")
    run.write_config(config)
    run.check(config)
    with pytest.raises(ValueError, match=r"seed: 0 there, 7 asked for\n.*--run-dir"):
        run.check(replace(config, seed=7))
    assert run.read_config() == config


@pytest.mark.parametrize(
    ("read", "advice"),
    [
        (RunFolder.read_config, "launch.py run NAME"),
        (RunFolder.read_supernet, "launch.py train-supernet"),
        (RunFolder.read_best, "launch.py search"),
        (lambda run: run.read_retrained(0), "launch.py retrain"),
    ],
)
def test_missing_stage_says_which_command_makes_it(tmp_path: Path, read, advice: str) -> None:
    with pytest.raises(FileNotFoundError, match=advice):
        read(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("name", "read", "values", "message"),
    [
        (
            SUPERNET,
            RunFolder.read_supernet,
            {"spikes_reference": "4000"},
            "spikes_reference must be a number",
        ),
        (SUPERNET, RunFolder.read_supernet, {"loss": 1}, "loss is unknown"),
        (
            CONFIG,
            RunFolder.read_config,
            {"supernet": {"epochs": "5"}},
            r"supernet\.epochs must be a whole number",
        ),
        (BEST, RunFolder.read_best, {"num_workers": None}, "num_workers must be a whole number"),
        (BEST, RunFolder.read_best, {"best": {}}, "damaged or of another version"),
    ],
)
def test_wrong_value_in_a_file_is_named(tmp_path: Path, name: str, read, values: dict, message: str) -> None:
    run = RunFolder(tmp_path)
    run.write_config(named_config("demo"))
    run.write_supernet(SUPERNET_RESULT)
    run.write_best(search_result(row(0)))
    file = tmp_path / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(ValueError, match=rf"{name}' .*{message}"):
        read(run)


def test_damaged_json_and_replaced_weights_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / SUPERNET).write_text('{"source": "tra')
    with pytest.raises(ValueError, match=r"supernet\.json' is damaged"):
        run.read_supernet()
    sha256 = run.write_supernet_weights({"w": torch.ones(1)})
    data = (tmp_path / SUPERNET_WEIGHTS).read_bytes()
    assert hashlib.sha256(data).hexdigest() == sha256
    assert read_weights(run.files, SUPERNET_WEIGHTS, sha256) == data
    (tmp_path / SUPERNET_WEIGHTS).write_text("{}")
    with pytest.raises(ValueError, match=f"expected {sha256}: it was damaged or replaced"):
        read_weights(run.files, SUPERNET_WEIGHTS, sha256)
