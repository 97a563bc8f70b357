"""The run folder: the name of every file in it, how each is read and checked.

A stage is finished when its last file exists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.tree import Config, config_from_json, list_differences
from pipeline.storage.files import check_sha256, write_bytes, write_json, write_with
from pipeline.storage.records import (
    Cost,
    EpochRecord,
    EvaluationRow,
    PaperProtocol,
    ReplayResult,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from snn.fitness import Evaluation, TimeCourse


class RunFolder:
    """Reads and writes the files of one run.

    Args:
        path: The folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def supernet_weights_file(self) -> Path:
        return self.path / "supernet.safetensors"

    @property
    def supernet_file(self) -> Path:
        return self.path / "supernet.json"

    @property
    def folded_weights_file(self) -> Path:
        return self.path / "supernet_folded.safetensors"

    @property
    def supernet_checkpoint_file(self) -> Path:
        return self.path / "supernet_checkpoint.pt"

    @property
    def evaluations_file(self) -> Path:
        return self.path / "evaluations.parquet"

    @property
    def evaluation_parts(self) -> Path:
        return self.path / "evaluations"

    @property
    def best_file(self) -> Path:
        return self.path / "best.json"

    @property
    def replay_file(self) -> Path:
        return self.path / "replay.json"

    def curves_folder(self, training: str) -> Path:
        return self.path / "tensorboard" / training

    @property
    def event_examples_file(self) -> Path:
        return self.path / "event_examples.npz"

    @property
    def report_json_file(self) -> Path:
        return self.path / "report.json"

    @property
    def report_html_file(self) -> Path:
        return self.path / "report.html"

    def retrained(self, number: int) -> Path:
        return self.path / "retrained" / str(number)

    def retrained_metrics_file(self, number: int) -> Path:
        return self.retrained(number) / "metrics.json"

    def retrained_weights_file(self, number: int) -> Path:
        return self.retrained(number) / "weights.safetensors"

    def retrained_checkpoint_file(self, number: int) -> Path:
        return self.retrained(number) / "checkpoint.pt"

    def check(self, config: Config) -> None:
        """Checks that the folder is new or was made with the same settings.

        Raises:
            ValueError: The folder holds a run of other settings; the message lists the differences.
        """
        if not self.config_file.exists():
            return
        if differences := list_differences(self.read_config().identity(), config.identity()):
            raise ValueError(
                f"Run folder '{self.path}' was made with other settings:\n{differences}\n"
                "Choose another folder with --run-dir, or give the settings the folder was made with."
            )

    def keep(self, config: Config) -> None:
        """Writes the settings into a new folder."""
        if not self.config_file.exists():
            write_json(self.config_file, config.to_json())

    def read_config(self) -> Config:
        """The settings the folder was made with.

        Raises:
            FileNotFoundError: The folder holds no run.
            ValueError: The file is damaged or of another version.
        """
        values = self._read(self.config_file, "start one with: python launch.py run NAME")
        try:
            return config_from_json(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'{self.config_file}' cannot be read: {error}") from error

    def read_environment(self) -> dict[str, Any]:
        return self._read(self.environment_file, "start a run with: python launch.py run NAME")

    def read_supernet(self) -> SupernetResult:
        values = self._read(self.supernet_file, f"train it with: python launch.py train-supernet {self.path}")
        history = tuple(EpochRecord(**record) for record in values.pop("history"))
        return SupernetResult(history=history, cost=Cost(**values.pop("cost")), **values)

    def read_supernet_weights(self) -> dict[str, Any]:
        """The super-network's state dict.

        Raises:
            ValueError: The file does not have the hash it was written with.
        """
        from safetensors.torch import load_file

        check_sha256(self.supernet_weights_file, self.read_supernet().weights_sha256)
        return load_file(self.supernet_weights_file)

    def read_best(self) -> SearchResult:
        values = self._read(self.best_file, f"search with: python launch.py search {self.path}")
        best = _evaluation_row(values.pop("best"))
        return SearchResult(best=best, cost=Cost(**values.pop("cost")), **values)

    def read_retrained(self, number: int) -> RetrainResult:
        values = self._read(
            self.retrained_metrics_file(number), f"retrain with: python launch.py retrain {self.path}"
        )
        paper, course = values.pop("paper_protocol"), values.pop("time_course", None)
        return RetrainResult(
            test=Evaluation(**values.pop("test")),
            paper_protocol=PaperProtocol(**paper) if paper else None,
            cost=Cost(**values.pop("cost")),
            history=tuple(EpochRecord(**record) for record in values.pop("history")),
            time_course=TimeCourse(**course) if course else None,
            **values,
        )

    def retrained_numbers(self) -> list[int]:
        """Numbers of the networks whose retraining is finished."""
        metrics = (self.path / "retrained").glob("*/metrics.json")
        return sorted(int(file.parent.name) for file in metrics)

    def append_evaluations(self, rows: list[EvaluationRow]) -> None:
        """Stores the rows of one trial; each call adds a file, so that nothing earlier can be harmed."""
        content = hashlib.sha256("/".join(row.architecture for row in rows).encode()).hexdigest()
        name = f"{rows[0].candidate_id:06d}-{content[:8]}.parquet"
        write_rows(self.evaluation_parts / name, rows)

    def read_evaluations(self) -> list[EvaluationRow]:
        """All rows stored so far, by candidate id; failures of an earlier attempt after the others."""
        files = [self.evaluations_file] if self.evaluations_file.exists() else []
        files = files or sorted(self.evaluation_parts.glob("*.parquet"))
        rows = [row for file in files for row in read_rows(file)]
        return sorted(rows, key=lambda row: (bool(row.error), row.candidate_id))

    def close_evaluations(self, rows: list[EvaluationRow]) -> None:
        """Writes the finished search's rows to evaluations.parquet and removes the parts."""
        write_rows(self.evaluations_file, sorted(rows, key=lambda row: row.candidate_id))
        for part in self.evaluation_parts.glob("*.parquet"):
            part.unlink()

    def read_replay(self) -> list[ReplayResult]:
        """What a replay of search algorithms found; empty if there was none."""
        if not self.replay_file.exists():
            return []
        values = self._read(self.replay_file, f"replay with: python launch.py replay {self.path}")
        return [_replay_result(result) for result in values["results"]]

    def write_replay(self, results: list[ReplayResult]) -> None:
        write_json(self.replay_file, {"results": [dataclasses.asdict(result) for result in results]})

    def write_event_examples(self, arrays: dict[str, Any]) -> None:
        """Writes one sample of each class, for the report to draw."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_bytes(self.event_examples_file, buffer.getvalue())

    def _read(self, path: Path, advice: str) -> dict[str, Any]:
        if not path.exists():
            raise FileNotFoundError(f"'{path}' is missing; {advice}")
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"'{path}' is damaged ({error}); delete it and {advice}") from error
        return values


_ROW_SCHEMA = pa.schema(
    [
        ("candidate_id", pa.int64()),
        ("generation", pa.int64()),
        ("architecture", pa.string()),
        ("parents", pa.list_(pa.int64())),
        ("accuracy", pa.float64()),
        ("spikes", pa.float64()),
        ("fitness", pa.float64()),
        ("firing_rate", pa.float64()),
        ("num_samples", pa.int64()),
        ("synops", pa.float64()),
        ("spikes_per_layer", pa.map_(pa.string(), pa.float64())),
        ("firing_rate_per_layer", pa.map_(pa.string(), pa.float64())),
        ("error", pa.string()),
        ("worker", pa.string()),
        ("seconds", pa.float64()),
    ]
)


def write_rows(path: Path, rows: list[EvaluationRow]) -> None:
    """Writes evaluations as Parquet."""
    values = [dataclasses.asdict(row) for row in rows]
    for value in values:
        for name in ("spikes_per_layer", "firing_rate_per_layer"):
            value[name] = list(value[name].items())
    table = pa.Table.from_pylist(values, schema=_ROW_SCHEMA)
    write_with(path, lambda temporary: pq.write_table(table, temporary))


def read_rows(path: Path) -> list[EvaluationRow]:
    """Reads evaluations written by `write_rows`.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"'{path}' is damaged ({error}); delete it and run the search again.") from error
    return [_evaluation_row(values) for values in table.to_pylist()]


def _evaluation_row(values: dict[str, Any]) -> EvaluationRow:
    values["parents"] = tuple(values["parents"])
    for name in ("spikes_per_layer", "firing_rate_per_layer"):
        values[name] = dict(values[name])
    return EvaluationRow(**values)


def _replay_result(values: dict[str, Any]) -> ReplayResult:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return ReplayResult(**fields)
