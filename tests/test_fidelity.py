"""Finalists and a study of rank fidelity on a real run, resumed and enlarged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import launch
from pipeline.data import load_data
from pipeline.fidelity import study
from pipeline.report.join import join_report
from pipeline.storage.fidelity_records import StudiedArchitecture
from pipeline.storage.names import FIDELITY, REPORT_HTML
from pipeline.storage.run_folder import RunFolder

pytestmark = pytest.mark.slow

TINY = [
    *("--training-threads", "1", "--search.no-cache", "--search.max-evaluations", "20"),
    *("--data.max-train-samples", "300", "--data.max-test-samples", "100", "--network.channels", "4"),
    *("--supernet.epochs", "3", "--supernet.path-sampling", "fair", "--supernet.loss", "tet"),
    *("--search.statistics", "recalibrated", "--search.calibration-samples", "64"),
    *("--retrain.epochs", "2", "--retrain.finalists", "3", "--retrain.finalist-epochs", "1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("tiny") / "run"
    assert launch.main(["run", "demo", *TINY, "--run-dir", str(folder)]) == 0
    return RunFolder(folder)


def without_ranks(one: StudiedArchitecture) -> StudiedArchitecture:
    """Without the score that depends on the other architectures."""
    return replace(one, scores={k: v for k, v in one.scores.items() if k != "mean_rank"})


def test_best_of_the_finalists_is_retrained(run: RunFolder) -> None:
    finalists, rows = run.read_finalists(), run.read_evaluations()
    assert finalists is not None and finalists.epochs == 1
    fitness = sorted({row.fitness or 0.0 for row in rows}, reverse=True)
    assert [row.score for row in finalists.rows] == fitness[:3]
    assert finalists.chosen == max(finalists.rows, key=lambda row: row.fitness).architecture
    assert run.read_retrained(0).label == "best"
    assert run.read_retrained(0).architecture == finalists.chosen
    assert "Finalists" in (run.path / REPORT_HTML).read_text()


def test_study_resumes_and_grows_without_training_twice(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(["fidelity", str(run.path), "--architectures", "4", "--seeds", "1"]) == 0
    small = run.read_fidelity()
    assert small is not None and len(small.architectures) == 4
    trained_for_run = {run.read_retrained(n).architecture for n in run.retrained_numbers()}
    said = capsys.readouterr().out
    new = [one.architecture for one in small.architectures if one.architecture not in trained_for_run]
    assert new and all(f"{text}, seed 0" in said for text in new)
    assert not any(f"  {text}, seed 0" in said for text in trained_for_run), "the run's own are taken over"
    assert launch.main(["fidelity", str(run.path), "--architectures", "5", "--seeds", "1"]) == 0
    large = run.read_fidelity()
    assert large is not None
    kept = zip(large.architectures[:4], small.architectures, strict=True)
    assert all(without_ranks(there) == without_ranks(here) for there, here in kept)
    assert not any(text in capsys.readouterr().out.partition("Kendall")[0] for text in new)
    (run.path / FIDELITY).unlink()
    monkeypatch.setattr("pipeline.training.children.run_trainings", None)  # nothing is left to train
    again = study(run, run.read_config().here(), num_architectures=5, num_seeds=1)
    assert again == large
    report = join_report(run)
    assert report.fidelity == large
    scores = {(one.score, one.measure) for one in large.agreements}
    assert ("parameters", "accuracy") in scores and ("parameters", "spikes") not in scores
    assert {("stored", "fitness"), ("recalibrated", "spikes"), ("hamming_distance", "accuracy")} <= scores
    num_train = len(load_data(run.read_config().here()).supernet_train())
    assert large.training_samples[f"trained_{num_train}"] == 20 * num_train
    assert large.training_samples["stored"] == 3 * num_train * 5, "five paths a step"


def test_search_s_own_evaluations_are_those_of_the_study(run: RunFolder) -> None:
    rows = {row.architecture: row.evaluation for row in run.read_evaluations()}
    result = run.read_fidelity()
    assert result is not None
    compared = 0
    for one in result.architectures:
        if (evaluation := rows.get(one.architecture)) is not None:
            score = one.scores["recalibrated"]
            assert (score.accuracy, score.spikes) == (evaluation.accuracy, evaluation.spikes)
            compared += 1
    assert compared
