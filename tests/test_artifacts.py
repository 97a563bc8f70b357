"""The run folder: whole files or none, checked reads, refusal of another config's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.named import named_config
from pipeline.storage.files import check_sha256, file_sha256, written_atomically
from pipeline.storage.records import EvaluationRow
from pipeline.storage.run_folder import RunFolder


def row(candidate_id: int, **changes) -> EvaluationRow:
    values = {
        "candidate_id": candidate_id, "generation": candidate_id // 4, "architecture": "SCB_k3-SRB_k5",
        "parents": (1, 2), "accuracy": 0.5, "spikes": 100.0, "fitness": 0.5, "firing_rate": 0.1,
        "num_samples": 10, "spikes_per_layer": {"stem": 60.0, "head": 40.0},
        "firing_rate_per_layer": {"stem": 0.2, "head": 0.05}, "error": "", "worker": "w", "seconds": 0.5,
    }  # fmt: skip
    return EvaluationRow(**{**values, **changes})


def failed(candidate_id: int) -> EvaluationRow:
    nothing = dict.fromkeys(("accuracy", "spikes", "fitness", "firing_rate"))
    return row(candidate_id, **nothing, num_samples=0, spikes_per_layer={}, error="RuntimeError: no")


def test_evaluations_come_back_as_they_were_before_and_after_closing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_evaluations([row(2), failed(3)])
    run.append_evaluations([row(0), row(1, parents=())])
    expected = [row(0), row(1, parents=()), row(2), failed(3)]
    assert run.read_evaluations() == expected
    run.close_evaluations(expected[::-1])
    assert run.read_evaluations() == expected
    assert not list(run.evaluation_parts.glob("*.parquet"))


def test_writer_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text("old")
    with pytest.raises(OSError, match="disk full"), written_atomically(file) as temporary:
        temporary.write_text("half a fi")
        raise OSError("disk full")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_truncated_evaluations_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_evaluations([row(0)])
    (part,) = run.evaluation_parts.glob("*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{part.name}' is damaged .*delete it"):
        run.read_evaluations()


def test_folder_of_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    run, config = RunFolder(tmp_path), named_config("demo")
    run.keep(config)
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


def test_damaged_json_and_replaced_weights_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.supernet_file.write_text('{"source": "tra')
    with pytest.raises(ValueError, match=r"supernet\.json' is damaged"):
        run.read_supernet()
    expected = file_sha256(run.supernet_file)
    check_sha256(run.supernet_file, expected)
    run.supernet_file.write_text("{}")
    with pytest.raises(ValueError, match=f"expected {expected}: it was damaged or replaced"):
        check_sha256(run.supernet_file, expected)
