"""The report joins whatever the stages left, traces its numbers, and opens offline."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from markupsafe import escape
from report_runs import (
    CONFIG,
    HOSTILE,
    evaluation_rows,
    finished_run,
    started_run,
    store_search,
    supernet_result,
)

from pipeline.report.contents_search import Candidate
from pipeline.report.join import write_report
from pipeline.report.page import render_page
from pipeline.report.sections.head import result_sentence
from pipeline.storage.names import ENVIRONMENT as ENVIRONMENT_FILE
from pipeline.storage.names import REPORT_HTML, REPORT_JSON
from pipeline.storage.records import (
    EpochRecord,
)
from pipeline.storage.run_folder import RunFolder
from snn.json_values import to_json


def test_report_traces_to_config_seed_data_and_commit(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    origin = write_report(run).provenance
    assert origin.commit == "0f3a9c1d"
    assert origin.seed == 7 and origin.retrain_seeds == (0, 1)
    assert origin.config == CONFIG.to_json()
    assert origin.data["test"].fingerprint == "sha256-of-test"
    assert origin.weights_sha256 == "ab" * 32
    assert len(origin.files) == 5 + 6
    assert all(
        hashlib.sha256((run.path / name).read_bytes()).hexdigest() == sha256
        for name, sha256 in origin.files.items()
    )
    page = page_of(run)
    for number in ("0f3a9c1d", "sha256-of-test", "ab" * 32):
        assert number in page


def test_each_retrained_number_names_its_file(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    for network in write_report(run).retrained:
        stored = json.loads((run.path / network.source).read_text(encoding="utf-8"))
        assert (stored["label"], stored["seed"]) == (network.label, network.seed)
        assert stored["test"]["accuracy"] == network.test_accuracy


def test_stored_report_is_the_returned_one(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    report = write_report(run)
    assert json.loads((run.path / REPORT_JSON).read_text(encoding="utf-8")) == to_json(report)
    assert page_of(run) == render_page(report)


def test_pareto_front_is_what_no_candidate_beats(tmp_path: Path) -> None:
    search = write_report(finished_run(tmp_path / "run")).search
    scored = [row for row in search.evaluations if row.accuracy is not None]

    def beaten(row: Candidate) -> bool:
        return any(
            other.accuracy >= row.accuracy
            and other.spikes <= row.spikes
            and (other.accuracy, other.spikes) != (row.accuracy, row.spikes)
            for other in scored
        )

    assert set(search.pareto_front) == {row.candidate_id for row in scored if not beaten(row)}


def test_best_so_far_never_falls_and_ends_at_the_chosen_fitness(tmp_path: Path) -> None:
    search = write_report(finished_run(tmp_path / "run")).search
    best_so_far = [generation.best_so_far for generation in search.generations]
    assert best_so_far == sorted(best_so_far)
    assert best_so_far[-1] == search.best.fitness
    assert all(g.mean_fitness <= g.best_fitness <= g.best_so_far for g in search.generations)


def test_comparison_joins_the_seeds_of_a_label(tmp_path: Path) -> None:
    report = write_report(finished_run(tmp_path / "run"))
    rows = {row.label: row for row in report.comparison}
    assert list(rows) == list(CONFIG.retrain.architectures)
    accuracies = [network.test_accuracy for network in report.retrained if network.label == "best"]
    spread = rows["best"].test_accuracy
    assert rows["best"].seeds == (0, 1)
    assert spread.mean == pytest.approx(sum(accuracies) / 2)
    assert (spread.min, spread.max) == (min(accuracies), max(accuracies))


def test_one_seed_shows_no_spread(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", seeds=(0,))
    report = write_report(run)
    assert "range" not in result_sentence(report) and "one seed" in result_sentence(report)
    assert not report.stages.retrain.done
    assert "3 of 6 networks" in report.stages.retrain.missing


def test_cost_adds_up_and_gives_the_rate(tmp_path: Path) -> None:
    cost = write_report(finished_run(tmp_path / "run")).cost
    stages = [stage.wall_seconds for stage in (cost.supernet, cost.search, cost.retrain)]
    assert cost.total.wall_seconds == pytest.approx(sum(stages))
    assert cost.evaluations_per_hour == pytest.approx(200 / (720.0 / 3600))


def test_page_is_self_contained_and_small(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    write_report(run)
    page = page_of(run)
    assert 'src="http' not in page and "<link" not in page and "@import" not in page.split("<script>")[0]
    assert page.count("plotly.js v") == 1
    assert (run.path / REPORT_HTML).stat().st_size < 6_000_000


def test_failures_are_listed_with_their_errors(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    assert write_report(run).search.num_failed == 1
    page = page_of(run)
    assert "Failed evaluations" in page and escape(HOSTILE) in page


@pytest.mark.parametrize("stages", ["", "supernet", "supernet search"])
def test_unfinished_run_says_what_is_missing(tmp_path: Path, stages: str) -> None:
    run = started_run(tmp_path / "run")
    if "supernet" in stages:
        run.write_supernet(supernet_result())
    if "search" in stages:
        store_search(run)
    report = write_report(run)
    commands = {"supernet": "train-supernet", "search": "search", "retrain": "retrain"}
    page = page_of(run)
    for stage, command in commands.items():
        assert getattr(report.stages, stage).done == (stage in stages)
        assert (f"launch.py {command} " in page) == (stage not in stages)


def test_search_under_way_shows_what_is_evaluated_so_far(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    run.write_supernet(supernet_result())
    run.append_evaluations(evaluation_rows()[:20])
    search = write_report(run).search
    assert search.best is None and search.num_evaluations == 20 and search.pareto_front


def test_report_without_environment_or_history_still_comes(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    (run.path / ENVIRONMENT_FILE).unlink()
    run.write_supernet(replace(supernet_result(), source="official.pt", history=()))
    assert write_report(run).provenance.commit is None
    page = page_of(run)
    assert "imported from official.pt" in page and "environment.json is missing" in page


def test_not_a_number_becomes_null(tmp_path: Path) -> None:
    run = started_run(tmp_path / "run")
    record = EpochRecord(1, math.nan, 0.1, math.inf, 1.0)
    run.write_supernet(replace(supernet_result(), history=(record,)))
    report = write_report(run)
    assert report.supernet.history[0].loss is None
    assert "NaN" not in (run.path / REPORT_JSON).read_text(encoding="utf-8")


def page_of(run: RunFolder) -> str:
    """The page that was written last."""
    return (run.path / REPORT_HTML).read_text(encoding="utf-8")
