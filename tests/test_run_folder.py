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
from obstore.store import MemoryStore

from pipeline.config.named import named_config
from pipeline.storage.cluster_records import ClusterSample
from pipeline.storage.files import LocalFiles, read_bytes
from pipeline.storage.names import BEST, CONFIG, EVALUATIONS, SUPERNET, SUPERNET_WEIGHTS
from pipeline.storage.records import (
    Cost,
    DataSplit,
    Environment,
    EpochRecord,
    EvaluationRow,
    EventExamples,
    ReplayResult,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.sealed import Sealed, seal, unseal
from snn.fitness import Evaluation, TimeCourse
from snn.json_values import to_json
from snn.object_files import ObjectFiles

CONFIG_OF_RUN = named_config("demo")
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


ENVIRONMENT = Environment(
    "2026-01-01", "abc", "3.11", {"torch": "2"}, "Linux", "CPU", 2, ("GPU",),
    {"D_train": DataSplit("f" * 64, 3, {"a": 1, "b": 2}, ("note",), {"min": 1.0})},
)  # fmt: skip


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

    def flush(self) -> None:
        pass


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


@pytest.fixture(params=["local", "memory", "store"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    if request.param == "store":
        run = RunFolder(tmp_path, ObjectFiles("s3://bucket/run"))
        monkeypatch.setattr(run.files, "_store", MemoryStore())
    else:
        run = RunFolder(tmp_path) if request.param == "local" else RunFolder(tmp_path, MemoryFiles())
    run.write_config(CONFIG_OF_RUN)
    return run


@pytest.fixture
def local(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.write_config(CONFIG_OF_RUN)
    run.write_supernet(SUPERNET_RESULT)
    return run


def test_every_record_is_read_as_it_was_written(run: RunFolder) -> None:
    run.write_environment(ENVIRONMENT)
    run.write_supernet(SUPERNET_RESULT)
    run.write_best(search_result(row(0)))
    run.write_retrained(0, retrain_result(), {"w": torch.ones(2)})
    run.write_replay([REPLAY_RESULT])
    assert run.read_config() == CONFIG_OF_RUN
    assert run.read_environment() == ENVIRONMENT
    assert run.read_supernet() == SUPERNET_RESULT
    assert run.read_best() == search_result(row(0))
    sha256 = hashlib.sha256(run.retrained_weights(0)).hexdigest()
    assert run.retrained_numbers() == [0]
    assert run.read_retrained(0) == replace(retrain_result(), weights_sha256=sha256)
    assert run.read_replay() == [REPLAY_RESULT]
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
    assert run.read_evaluations() == []
    run.write_supernet(SUPERNET_RESULT)
    run.append_evaluations([row(2), failed(3)])
    run.append_evaluations([row(0), row(1, parents=())])
    expected = [row(0), row(1, parents=()), row(2), failed(3)]
    assert run.read_evaluations() == expected
    run.close_evaluations(expected[::-1])
    assert run.read_evaluations() == expected
    assert not run.evaluation_parts()


def test_measurement_is_flat_in_the_table_and_in_the_choice(local: RunFolder, tmp_path: Path) -> None:
    local.close_evaluations([row(0), failed(1)])
    local.write_best(search_result(row(0)))
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


@pytest.mark.parametrize("full", ["tempfile.TemporaryDirectory", "os.fsync"])
def test_curves_that_cannot_be_written_only_warn(tmp_path: Path, monkeypatch, caplog, full: str) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(full, no_space)
    run = RunFolder(tmp_path)
    run.write_curves(None, HISTORY[0])
    run.write_curves(None, HISTORY[1])
    assert len(caplog.records) == 1
    assert "curves cannot be written" in caplog.text and "No space left" in caplog.text


def test_checkpoint_is_read_as_it_was_written_and_is_no_finished_network(run: RunFolder) -> None:
    assert run.read_checkpoint(4) is None
    for number, state in ((None, b"state\n\x00 of any bytes\n"), (4, b"")):
        run.write_checkpoint(number, state)
        assert run.read_checkpoint(number) == state
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


def test_damaged_part_of_a_search_is_evaluated_again_and_a_damaged_table_is_an_error(
    local: RunFolder, tmp_path: Path, caplog
) -> None:
    local.append_evaluations([row(0)])
    local.append_evaluations([row(1)])
    part = tmp_path / local.evaluation_parts()[0]
    part.write_bytes(part.read_bytes()[:100])
    assert local.read_evaluations() == [row(1)]
    assert f"{part.name}' is damaged" in caplog.text
    local.close_evaluations([row(0), row(1)])
    (tmp_path / EVALUATIONS).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"evaluations\.parquet' is damaged .*to search again"):
        local.read_evaluations()


def test_folder_of_another_config_is_refused_with_the_difference(run: RunFolder) -> None:
    run.check(CONFIG_OF_RUN)
    with pytest.raises(ValueError, match=r"seed: 0 there, 7 asked for\n.*--run-dir"):
        run.check(replace(CONFIG_OF_RUN, seed=7))
    assert run.read_config() == CONFIG_OF_RUN


def test_folder_of_an_earlier_version_lacks_what_was_added_since(run: RunFolder) -> None:
    values = to_json(CONFIG_OF_RUN)
    del values["supernet"]["shared_kernels"], values["network"]["moments"]
    run.files.put(CONFIG, seal(Sealed(values, {})))
    earlier = RunFolder(run.path, run.files)
    assert earlier.read_config() == CONFIG_OF_RUN
    earlier.check(CONFIG_OF_RUN)
    del values["supernet"]["epochs"]
    run.files.put(CONFIG, seal(Sealed(values, {})))
    with pytest.raises(ValueError, match=r"it lacks supernet\.epochs"):
        RunFolder(run.path, run.files).read_config()


WRITERS = {
    "environment.json": lambda run: run.write_environment(ENVIRONMENT),
    "cluster.json": lambda run: run.write_cluster([ClusterSample(1e9, 2, 4.0, 0.0, 0)]),
    "supernet.json": lambda run: run.write_supernet(SUPERNET_RESULT),
    "evaluations/000000": lambda run: run.append_evaluations([row(0)]),
    "evaluations.parquet": lambda run: run.close_evaluations([row(0)]),
    "best.json": lambda run: run.write_best(search_result(row(0))),
    "replay.json": lambda run: run.write_replay([REPLAY_RESULT]),
    "metrics.json": lambda run: run.write_retrained(0, retrain_result(), {}),
    "supernet_checkpoint.pt": lambda run: run.write_checkpoint(None, b"state"),
    "0/checkpoint.pt": lambda run: run.write_checkpoint(0, b"state"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_result_says_its_settings_when_the_folder_lost_them(run: RunFolder, name: str) -> None:
    run.write_supernet(SUPERNET_RESULT)
    WRITERS[name](run)
    run.files.delete(CONFIG)
    if name != "supernet.json":
        run.files.delete(SUPERNET)
    lost = RunFolder(run.path, run.files)
    with pytest.raises(FileNotFoundError, match="give the command again"):
        lost.read_config()
    search = replace(CONFIG_OF_RUN.search, spike_exponent=-0.5)
    other = replace(CONFIG_OF_RUN, seed=7, search=search)
    with pytest.raises(ValueError, match=rf"(?s){name}.*seed: 0 there, 7 asked.*spike_exponent: -0.08 there"):
        lost.check(other)
    lost.check(CONFIG_OF_RUN)
    lost.write_config(CONFIG_OF_RUN)
    assert lost.read_config() == CONFIG_OF_RUN


def test_results_of_another_run_or_super_network_are_refused(run: RunFolder, tmp_path: Path) -> None:
    run.write_supernet(SUPERNET_RESULT)
    run.append_evaluations([row(0)])
    run.write_supernet(replace(SUPERNET_RESULT, weights_sha256="cd"))
    with pytest.raises(ValueError, match="super-network: ab there, cd asked for"):
        run.read_evaluations()
    other = RunFolder(tmp_path / "other", MemoryFiles())
    other.write_config(replace(CONFIG_OF_RUN, seed=7))
    other.files.put(SUPERNET, read_bytes(run.files, SUPERNET))
    with pytest.raises(ValueError, match=r"(?s)supernet\.json' was made with other.*seed: 0 there, 7"):
        other.read_supernet()


@pytest.mark.parametrize(
    ("read", "advice"),
    [
        (RunFolder.read_supernet, "launch.py train-supernet"),
        (RunFolder.read_best, "launch.py search"),
        (lambda run: run.read_retrained(0), "launch.py retrain"),
    ],
)
def test_missing_stage_says_which_command_makes_it(run: RunFolder, read, advice: str) -> None:
    with pytest.raises(FileNotFoundError, match=advice):
        read(run)


def test_folder_without_a_run_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch\.py run NAME"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("content", [{}, {"seed": 0}, {"supernet": {"epochs": 5}}])
def test_incomplete_settings_are_refused(run: RunFolder, content: dict[str, object]) -> None:
    run.files.put(CONFIG, seal(Sealed(content, {})))
    with pytest.raises(ValueError, match=r"config\.json' is damaged.*it lacks data\.bin_by, "):
        RunFolder(run.path, run.files).read_config()


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
def test_wrong_value_in_a_file_is_named(local: RunFolder, name: str, read, values, message: str) -> None:
    local.write_best(search_result(row(0)))
    file = local.path / name
    sealed = unseal(file.read_bytes())
    file.write_bytes(seal(Sealed({**sealed.values, **values}, sealed.made_with)))
    with pytest.raises(ValueError, match=rf"{name}' .*{message}"):
        read(local)


@pytest.mark.parametrize("content", ["", '{"source": "tra', "[]", "null", "{}", "[" * 100_000, "\x00"])
def test_damaged_record_is_named(local: RunFolder, content: str) -> None:
    (local.path / SUPERNET).write_text(content)
    with pytest.raises(ValueError, match=r"supernet\.json' is damaged"):
        local.read_supernet()


def test_record_changed_by_hand_or_of_another_format_is_refused(local: RunFolder) -> None:
    file = local.path / SUPERNET
    whole = file.read_text()
    file.write_text(whole.replace("4000.0", "4001.0"))
    with pytest.raises(ValueError, match="does not have the hash it was written with"):
        local.read_supernet()
    file.write_text(whole.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="its format is 2, this version reads format 1"):
        local.read_supernet()


def test_replaced_weights_are_named(local: RunFolder) -> None:
    sha256 = local.write_supernet_weights({"w": torch.ones(1)})
    local.write_supernet(replace(SUPERNET_RESULT, weights_sha256=sha256))
    assert hashlib.sha256(local.supernet_weights()).hexdigest() == sha256
    (local.path / SUPERNET_WEIGHTS).write_text("{}")
    with pytest.raises(ValueError, match=f"expected {sha256}: it was damaged or replaced"):
        local.has_supernet()
    (local.path / SUPERNET_WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"supernet\.safetensors' is missing; restore it"):
        local.has_supernet()
