"""The run folder: the name of every file in it, and how each is written, read and checked.

A stage is finished when its last file exists.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pipeline.config.tree import Config, config_from_json, list_differences
from pipeline.json_values import from_json, to_json
from pipeline.storage.curves import write_curves
from pipeline.storage.evaluations import flat, from_flat, from_parquet, to_parquet
from pipeline.storage.files import Files, LocalFiles, read_bytes, read_weights, sha256_of
from pipeline.storage.records import (
    EpochRecord,
    EvaluationRow,
    EventExamples,
    ReplayResult,
    RetrainResult,
    SearchResult,
    SupernetResult,
)

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
SUPERNET = "supernet.json"
SUPERNET_WEIGHTS = "supernet.safetensors"
FOLDED_WEIGHTS = "supernet_folded.safetensors"
SUPERNET_CHECKPOINT = "supernet_checkpoint.pt"
EVALUATIONS = "evaluations.parquet"
EVALUATION_PARTS = "evaluations"
BEST = "best.json"
REPLAY = "replay.json"
EVENT_EXAMPLES = "event_examples.npz"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_RETRAINED = "retrained"


class RunFolder:
    """Writes and reads the files of one run.

    Args:
        path: The folder, as it is shown to people.
        files: Where the files are; by default below `path` on the local file system.
    """

    def __init__(self, path: Path, files: Files | None = None) -> None:
        self.path = Path(path)
        self.files: Files = files or LocalFiles(self.path)

    def shown(self, name: str) -> str:
        """A file's name as it is shown to people."""
        return str(self.path / name)

    def check(self, config: Config) -> None:
        """Checks that the folder is new or was made with the same settings.

        Raises:
            ValueError: The folder holds a run of other settings; the message lists the differences.
        """
        if not self.files.exists(CONFIG):
            return
        if differences := list_differences(self.read_config().identity(), config.identity()):
            raise ValueError(
                f"Run folder '{self.path}' was made with other settings:\n{differences}\n"
                "Choose another folder with --run-dir, or give the settings the folder was made with."
            )

    def write_config(self, config: Config) -> None:
        """Writes the settings, unless the folder has some."""
        if not self.files.exists(CONFIG):
            self._write_json(CONFIG, config)

    def read_config(self) -> Config:
        """The settings the folder was made with.

        Raises:
            FileNotFoundError: The folder holds no run.
            ValueError: The file is damaged or of another version.
        """
        values = self._read_json(CONFIG, "start one with: python launch.py run NAME")
        try:
            return config_from_json(values)
        except ValueError as error:
            raise ValueError(f"'{self.shown(CONFIG)}' cannot be read: {error}") from error

    def has_environment(self) -> bool:
        return self.files.exists(ENVIRONMENT)

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        self._write_json(ENVIRONMENT, facts)

    def read_environment(self) -> dict[str, Any]:
        return self._read_json(ENVIRONMENT, "start a run with: python launch.py run NAME")

    def has_event_examples(self) -> bool:
        return self.files.exists(EVENT_EXAMPLES)

    def write_event_examples(self, examples: EventExamples) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, samples=examples.samples, class_names=np.array(examples.class_names))
        self.files.put(EVENT_EXAMPLES, buffer.getvalue())

    def read_event_examples(self) -> EventExamples | None:
        """The examples; None if the run has none.

        Raises:
            ValueError: The file is damaged.
        """
        if not self.has_event_examples():
            return None
        shown = self.shown(EVENT_EXAMPLES)
        try:
            with np.load(io.BytesIO(read_bytes(self.files, EVENT_EXAMPLES)), allow_pickle=False) as arrays:
                samples, names = arrays["samples"], arrays["class_names"].tolist()
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"'{shown}' is damaged ({error}); delete it and run again.") from error
        if samples.ndim != 5 or samples.shape[2] != 2 or len(samples) != len(names):
            raise ValueError(
                f"'{shown}' must hold samples [K, T, 2, H, W] and K class names, got {list(samples.shape)} "
                f"and {len(names)} names; delete it and run again."
            )
        return EventExamples(samples, tuple(names))

    def has_supernet(self) -> bool:
        return self.files.exists(SUPERNET)

    def write_supernet(self, result: SupernetResult) -> None:
        self._write_json(SUPERNET, result)

    def read_supernet(self) -> SupernetResult:
        advice = f"train it with: python launch.py train-supernet {self.path}"
        return self._read_record(SUPERNET, SupernetResult, advice)

    def write_supernet_weights(self, weights: Mapping[str, Tensor]) -> str:
        """Writes a state dict and returns the SHA-256 of the file."""
        from safetensors.torch import save

        return self._put_hashed(SUPERNET_WEIGHTS, save(_contiguous(weights)))

    def copy_supernet_weights(self, source: RunFolder) -> None:
        """Takes over the weights of another run.

        Raises:
            ValueError: They do not have the hash they were written with.
        """
        data = read_weights(source.files, SUPERNET_WEIGHTS, source.read_supernet().weights_sha256)
        self.files.put(SUPERNET_WEIGHTS, data)

    def read_supernet_weights(self) -> dict[str, Tensor]:
        """The super-network's state dict.

        Raises:
            ValueError: The file does not have the hash it was written with.
        """
        from safetensors.torch import load

        return load(read_weights(self.files, SUPERNET_WEIGHTS, self.read_supernet().weights_sha256))

    def write_folded_weights(self, arrays: Mapping[str, Any]) -> str:
        """Writes weights in an engine's layout, for the length of a search; returns the file's SHA-256."""
        from safetensors.numpy import save

        return self._put_hashed(FOLDED_WEIGHTS, save(dict(arrays)))

    def append_evaluations(self, rows: Sequence[EvaluationRow]) -> None:
        """Stores the rows of one trial; each call adds a file, so that nothing earlier can be harmed."""
        content = hashlib.sha256("/".join(row.architecture for row in rows).encode()).hexdigest()
        name = f"{rows[0].candidate_id:06d}-{content[:8]}.parquet"
        self.files.put(f"{EVALUATION_PARTS}/{name}", to_parquet(rows))

    def read_evaluations(self) -> list[EvaluationRow]:
        """All rows stored so far, by candidate id; failures of an earlier attempt after the others."""
        names = [EVALUATIONS] if self.files.exists(EVALUATIONS) else self.evaluation_parts()
        rows = [row for name in names for row in from_parquet(read_bytes(self.files, name), self.shown(name))]
        return sorted(rows, key=lambda row: (bool(row.error), row.candidate_id))

    def evaluation_parts(self) -> list[str]:
        """Names of the files of trials, while a search is not finished."""
        return [name for name in self.files.list(EVALUATION_PARTS) if name.endswith(".parquet")]

    def close_evaluations(self, rows: Sequence[EvaluationRow]) -> None:
        """Writes the finished search's rows to evaluations.parquet and removes the parts."""
        self.files.put(EVALUATIONS, to_parquet(sorted(rows, key=lambda row: row.candidate_id)))
        for part in self.evaluation_parts():
            self.files.delete(part)

    def has_best(self) -> bool:
        return self.files.exists(BEST)

    def write_best(self, result: SearchResult) -> None:
        self._write_json(BEST, to_json(result) | {"best": flat(result.best)})

    def read_best(self) -> SearchResult:
        values = self._read_json(BEST, f"search with: python launch.py search {self.path}")
        try:
            best = from_flat(values.pop("best"))
            return from_json({**values, "best": to_json(best)}, SearchResult)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(BEST, error) from error

    def write_curves(self, number: int | None, record: EpochRecord) -> None:
        """Adds an epoch to the TensorBoard curves of a training; `number` as in
        `checkpoint_of`."""
        name = "supernet" if number is None else f"retrained-{number}"
        write_curves(self.files, f"tensorboard/{name}", record)

    def write_retrained(self, number: int, result: RetrainResult, weights: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save

        self.files.put(f"{_RETRAINED}/{number}/weights.safetensors", save(_contiguous(weights)))
        self._write_json(metrics_of(number), result)

    def read_retrained(self, number: int) -> RetrainResult:
        advice = f"retrain with: python launch.py retrain {self.path}"
        return self._read_record(metrics_of(number), RetrainResult, advice)

    def retrained_numbers(self) -> list[int]:
        """Numbers of the networks whose retraining is finished."""
        parts = [name.split("/") for name in self.files.list(_RETRAINED)]
        return sorted(int(part[1]) for part in parts if part[2:] == ["metrics.json"])

    def write_replay(self, results: Sequence[ReplayResult]) -> None:
        self._write_json(REPLAY, {"results": results})

    def read_replay(self) -> list[ReplayResult]:
        """The results of a replay of search algorithms; empty if there was none."""
        if not self.files.exists(REPLAY):
            return []
        values = self._read_json(REPLAY, f"replay with: python launch.py replay {self.path}")
        try:
            return [from_json(result, ReplayResult) for result in values["results"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(REPLAY, error) from error

    def write_report(self, report: Mapping[str, Any], page: str) -> None:
        self._write_json(REPORT_JSON, report)
        self.files.put(REPORT_HTML, page.encode())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that a report's numbers come from."""
        names = [CONFIG, ENVIRONMENT, SUPERNET, EVALUATIONS, BEST, REPLAY, EVENT_EXAMPLES]
        names += [metrics_of(number) for number in self.retrained_numbers()]
        return {name: sha256_of(self.files, name) for name in names if self.files.exists(name)}

    def _put_hashed(self, name: str, data: bytes) -> str:
        self.files.put(name, data)
        return hashlib.sha256(data).hexdigest()

    def _write_json(self, name: str, values: Any) -> None:
        self.files.put(name, (json.dumps(to_json(values), indent=1) + "\n").encode())

    def _read_json(self, name: str, advice: str) -> dict[str, Any]:
        if not self.files.exists(name):
            raise FileNotFoundError(f"'{self.shown(name)}' is missing; {advice}")
        try:
            values: dict[str, Any] = json.loads(read_bytes(self.files, name))
        except ValueError as error:  # neither text nor JSON
            raise ValueError(f"'{self.shown(name)}' is damaged ({error}); delete it and {advice}") from error
        return values

    def _read_record(self, name: str, kind: type[_T], advice: str) -> _T:
        values = self._read_json(name, advice)
        try:
            return from_json(values, kind)
        except ValueError as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> ValueError:
        return ValueError(f"'{self.shown(name)}' is damaged or of another version: {error}")


def checkpoint_of(number: int | None) -> str:
    """Name of a training's checkpoint: of a retrained network, or of the super-network (None)."""
    return SUPERNET_CHECKPOINT if number is None else f"{_RETRAINED}/{number}/checkpoint.pt"


def metrics_of(number: int) -> str:
    """Name of the file with the results of a retrained network."""
    return f"{_RETRAINED}/{number}/metrics.json"


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in weights.items()}
