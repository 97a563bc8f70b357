"""Tables of scored architectures that were made elsewhere, over any categorical space."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipeline.algorithms.settings import SearchSettings
from pipeline.analysis.replay import check_num_seeds, replay_scores
from pipeline.storage.records import ReplayResult
from snn.fitness import Evaluation
from snn.search_space import Architecture, CategoricalSpace

_SEPARATOR = "-"
_ACCURACY, _ARCHITECTURE = "accuracy", "architecture"
_SPIKES = ("spikes", "firing_rate")


@dataclass(frozen=True)
class ScoreTable:
    """A whole categorical space and the score of each of its architectures.

    Attributes:
        space: The choices of each layer in alphabetical order.
        scores: The evaluation of each architecture; None for one that failed.
    """

    space: CategoricalSpace
    scores: dict[Architecture, Evaluation | None]

    @property
    def mean_spikes(self) -> float:
        """Mean spikes of the architectures that did not fail; the fitness' reference."""
        spikes = [score.spikes for score in self.scores.values() if score is not None]
        return math.fsum(spikes) / len(spikes)


def replay_file(
    path: Path, settings: SearchSettings, *, num_seeds: int, algorithms: Sequence[str]
) -> list[ReplayResult]:
    """Replays search algorithms on the table in a file.

    N_avg of the fitness is the mean of the table's spikes.

    Args:
        path: A file as `read_score_table` reads it.
        settings: Settings of the searches, except for the algorithm.
        num_seeds: Searches of each algorithm.
        algorithms: Names as in `search.algorithm`.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such table, or an argument is out of range.
    """
    check_num_seeds(num_seeds)
    table = read_score_table(path)
    return replay_scores(
        table.scores,
        table.space,
        settings,
        range(num_seeds),
        algorithms,
        spikes_reference=table.mean_spikes,
    )


def read_score_table(path: Path) -> ScoreTable:
    """Reads a Parquet or CSV table of a whole space.

    It has a column `accuracy` in [0, 1] and a column `spikes` or `firing_rate`, at least 0. Architectures
    are either in a column `architecture`, choices joined by "-", or in all the other columns, one per layer.
    An empty accuracy or spikes marks an architecture that failed.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such table, or lacks combinations of the choices.
    """
    columns = _read_columns(path)
    accuracies = _numbers(path, columns.pop(_ACCURACY, None), _ACCURACY, 1.0)
    name = next((name for name in _SPIKES if name in columns), " or ".join(_SPIKES))
    spikes = _numbers(path, columns.pop(name, None), name, math.inf)
    scores: dict[Architecture, Evaluation | None] = {}
    for row, architecture in enumerate(_architectures(path, columns), start=1):
        if architecture in scores:
            raise ValueError(f"'{path}' has architecture '{architecture}' twice, again in row {row:,}.")
        accuracy, fired = accuracies[row - 1], spikes[row - 1]
        scores[architecture] = (
            None if accuracy is None or fired is None else Evaluation(accuracy, fired, 0.0, 1)
        )
    if not any(scores.values()):
        raise ValueError(f"'{path}' has no row with both {_ACCURACY} and {name}; a replay needs one.")
    choices = zip(*(architecture.blocks for architecture in scores), strict=True)
    space = CategoricalSpace(tuple(tuple(sorted(set(layer))) for layer in choices))
    if missing := len(space) - len(scores):
        first = next(architecture for architecture in space if architecture not in scores)
        raise ValueError(
            f"'{path}' lacks {missing:,} of the {len(space):,} architectures that its choices allow, such as "
            f"'{first}': add them, those that cannot be built with an empty {_ACCURACY}."
        )
    return ScoreTable(space, scores)


def _read_columns(path: Path) -> dict[str, list[Any]]:
    """The columns of a table; of CSV, choices stay text, however they look."""
    if not path.is_file():
        raise FileNotFoundError(f"--table '{path}' does not exist; it must be a Parquet or CSV file.")
    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
        else:
            with path.open(encoding="utf-8", newline="") as file:
                names = next(csv.reader(file), [])
            numbers = dict.fromkeys((_ACCURACY, *_SPIKES), pa.float64())
            types = {name: numbers.get(name, pa.string()) for name in names}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
            table = pyarrow.csv.read_csv(path, convert_options=options)
        return dict(table.to_pydict())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(
            f"'{path}' cannot be read as a table (.parquet; all else is CSV): {error}"
        ) from error


def _numbers(path: Path, values: list[Any] | None, name: str, highest: float) -> list[float | None]:
    """A column of numbers from 0 to `highest`; None where there is none."""
    if values is None:
        raise ValueError(f"'{path}' has no column {name}; a table needs {_ACCURACY}, {' or '.join(_SPIKES)}.")
    numbers: list[float | None] = []
    for row, value in enumerate(values, start=1):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            numbers.append(None)
        elif isinstance(value, int | float) and 0 <= value <= highest and math.isfinite(value):
            numbers.append(float(value))
        else:
            expected = "in [0, 1]" if highest == 1 else "at least 0"
            raise ValueError(
                f"'{path}': {name} must be a number {expected}, got {value!r:.60} in row {row:,}."
            )
    return numbers


def _architectures(path: Path, columns: dict[str, list[Any]]) -> list[Architecture]:
    """The architecture of each row, all of as many layers."""
    texts = columns.get(_ARCHITECTURE)
    if texts is not None:
        rows = [tuple(str(text).split(_SEPARATOR)) for text in texts]
    else:
        layers = [values for name, values in columns.items() if name not in _SPIKES]
        rows = [tuple(map(str, row)) for row in zip(*layers, strict=True)]
    if not rows:
        raise ValueError(
            f"'{path}' has no architectures: it needs rows, and a column {_ARCHITECTURE} or one per layer."
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"'{path}': '{_SEPARATOR.join(row):.60}' in row {number:,} has {len(row)} layers, the first "
                f"row has {len(rows[0])}."
            )
    return [Architecture(row) for row in rows]
