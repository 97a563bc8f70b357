"""Replays on tables that were made elsewhere."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import launch
from pipeline.algorithms.settings import SearchSettings
from pipeline.analysis.replay import replay_table
from pipeline.analysis.table import read_score_table, replay_file

CHOICES = {"op": ["none", "conv-3x3", "7"], "width": ["16", "64"], "wiring": ["b", "a", "c", "d"]}


def columns(seed: int = 0) -> dict[str, list]:
    """A row for each combination of CHOICES, in random order."""
    rng = random.Random(seed)
    rows = list(itertools.product(*CHOICES.values()))
    rng.shuffle(rows)
    table: dict[str, list] = {name: [row[i] for row in rows] for i, name in enumerate(CHOICES)}
    table["accuracy"] = [rng.random() for _ in rows]
    table["spikes"] = [1000 * rng.random() + 1 for _ in rows]
    return table


def write(path: Path, table: dict[str, list]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(table), path)
    else:
        pyarrow.csv.write_csv(pa.table(table), path)
    return path


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_every_architecture_has_the_score_of_its_row(tmp_path: Path, name: str) -> None:
    table = columns()
    read = read_score_table(write(tmp_path / name, table))
    assert read.space.choices == tuple(tuple(sorted(choices)) for choices in CHOICES.values())
    assert len(read.scores) == len(read.space) == 24
    for architecture, score in read.scores.items():
        (row,) = (
            i
            for i, row in enumerate(zip(*map(table.get, CHOICES), strict=True))
            if row == architecture.blocks
        )
        assert (score.accuracy, score.spikes) == (table["accuracy"][row], table["spikes"][row])
    assert read.mean_spikes == pytest.approx(sum(table["spikes"]) / 24)


def test_architectures_may_be_one_column_and_failed_ones_have_no_score(tmp_path: Path) -> None:
    names = ["-".join(row) for row in itertools.product("ab", ["x", "y"])]
    table = {
        "architecture": names,
        "accuracy": [0.1, None, 0.3, 0.4],
        "firing_rate": [0.1, 0.2, 0.3, None],
        "note": ["ignored"] * 4,
    }
    for name in ("table.parquet", "table.csv"):
        read = read_score_table(write(tmp_path / name, table))
        assert [score and score.spikes for score in read.scores.values()] == [0.1, None, 0.3, None]
        assert read.mean_spikes == pytest.approx(0.2)


def test_search_finds_what_the_table_says_is_best(tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", columns())
    algorithms = ["exhaustive", "evolution", "random", "aging", "nsga2", "optuna"]
    settings = SearchSettings(
        spike_exponent=0.0, max_evaluations=24, population_size=6, num_parents=3, num_mutants=3
    )
    for result in replay_file(path, settings, num_seeds=2, algorithms=algorithms):
        assert result.found_share == 1 and result.optimum_fitness == max(columns()["accuracy"])


def test_command_prints_the_replay(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "table.csv", columns())
    arguments = ["--table", str(path), "--seeds", "2", "--evaluations", "8", "--spike-exponent", "-0.2"]
    assert launch.main(["replay", *arguments, "--algorithms", "random", "evolution"]) == 0
    settings = SearchSettings(max_evaluations=8, spike_exponent=-0.2)
    expected = replay_file(path, settings, num_seeds=2, algorithms=["random", "evolution"])
    assert capsys.readouterr().out == replay_table(expected) + "\n"


def without(table: dict[str, list], *names: str) -> dict[str, list]:
    return {name: values for name, values in table.items() if name not in names}


def changed(name: str, row: int, value: object) -> dict[str, list]:
    table = columns()
    table[name][row] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (without(columns(), "accuracy"), "has no column accuracy; a table needs accuracy, spikes or firing"),
        (without(columns(), "spikes"), "has no column spikes or firing_rate"),
        (without(columns(), *CHOICES), "has no architectures"),
        (changed("accuracy", 3, 64.0), r"accuracy must be a number in \[0, 1\], got 64.0 in row 4"),
        (changed("spikes", 0, -1.0), "spikes must be a number at least 0, got -1.0 in row 1"),
        ({n: v[1:] for n, v in columns().items()}, "lacks 1 of the 24 architectures that its choices allow"),
        ({n: [*v, v[0]] for n, v in columns().items()}, "twice, again in row 25"),
        ({n: v[:0] for n, v in columns().items()}, "has no architectures"),
        ({"architecture": ["a-b", "a"], "accuracy": [0.1] * 2, "spikes": [1.0] * 2}, "has 1 layers, the fir"),
        ({"architecture": ["a"], "accuracy": [None], "spikes": [1.0]}, "has no row with both accuracy and"),
    ],
)
@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_what_is_no_table_of_a_whole_space_is_refused(
    tmp_path: Path, table: dict[str, list], message: str, name: str
) -> None:
    path = write(tmp_path / name, table)
    with pytest.raises(ValueError, match=message) as caught:
        read_score_table(path)
    assert str(path) in str(caught.value)


def test_command_refuses_what_it_cannot_read(tmp_path: Path, capsys) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "text.csv").write_bytes(b"accuracy,spikes,op\nhalf,1,a\n")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    for arguments, message in (
        ([], "either a RUN_DIR or --table FILE"),
        (["runs/x", "--table", "x.csv"], "either a RUN_DIR or --table FILE"),
        (["--table", str(tmp_path / "absent.csv")], "does not exist; it must be a Parquet or CSV file"),
        (["--table", str(tmp_path / "text.parquet")], "text.parquet' cannot be read as a table"),
        (["--table", str(tmp_path / "text.csv")], "text.csv' cannot be read as a table"),
        (["--table", str(tmp_path / "noise.csv")], "noise.csv' cannot be read as a table"),
        (["--table", str(tmp_path / "text.csv"), "--seeds", "0"], "--seeds must be at least 1"),
    ):
        assert launch.main(["replay", *arguments]) == 2
        assert message in capsys.readouterr().err
