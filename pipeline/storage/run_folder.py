"""The run folder: how each of its files is written, read and checked.

A stage is finished when its last file exists. Every result carries the settings it was made with and a hash
of its content (`pipeline.storage.sealed`); one that is damaged or of other settings is refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.storage import names
from pipeline.storage.cluster_records import ClusterSample, NodeTime, StageTime
from pipeline.storage.curves import write_curves
from pipeline.storage.evaluation_files import EvaluationFiles
from pipeline.storage.evaluations import flat, from_flat
from pipeline.storage.examples import examples_from_npz, examples_to_npz
from pipeline.storage.fidelity_records import Fidelity
from pipeline.storage.files import Files, read_bytes, sha256_of
from pipeline.storage.records import (
    Environment,
    EpochRecord,
    EvaluationRow,
    EventExamples,
    Finalists,
    ReplayResult,
    RetrainResult,
    SearchResult,
    Shard,
    SupernetResult,
)
from pipeline.storage.sealed import Sealed, seal, seal_bytes
from pipeline.storage.settings_folder import AGAIN, SUPERNET_FACT, SettingsFolder
from snn.description import Bundle
from snn.json_values import from_json, to_json

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


class RunFolder(SettingsFolder):
    """Writes and reads the files of one run.

    Args:
        location: A folder, or a URI of an object store.
        files: Where the files are, if not there.

    Attributes:
        num_stored: Evaluations stored through this object.
    """

    def __init__(self, location: str | Path, files: Files | None = None) -> None:
        super().__init__(location, files)
        self._evaluations = EvaluationFiles(self._sealed)
        self._draws_curves = True
        self.num_stored = 0

    def has_environment(self) -> bool:
        return self.files.exists(names.ENVIRONMENT)

    def write_environment(self, environment: Environment) -> None:
        self._write(names.ENVIRONMENT, environment)

    def read_environment(self) -> Environment:
        return self._sealed.read(names.ENVIRONMENT, Environment, AGAIN, self._made_with())

    def write_cluster(self, course: Sequence[ClusterSample]) -> None:
        self._write(names.CLUSTER, _Cluster(tuple(course)))

    def read_cluster(self) -> list[ClusterSample]:
        """The cluster over time; empty if the run used this machine alone."""
        if not self.files.exists(names.CLUSTER):
            return []
        advice = "delete it: only a chart of the report needs it"
        return list(self._sealed.read(names.CLUSTER, _Cluster, advice, self._made_with()).samples)

    def write_ledger(self, stages: Sequence[StageTime], nodes: Sequence[NodeTime]) -> None:
        self._write(names.LEDGER, _Ledger(tuple(stages), tuple(nodes)))

    def read_ledger(self) -> tuple[list[StageTime], list[NodeTime]]:
        """What the run has cost so far, by stage and by node type; empty before the first stage."""
        if not self.files.exists(names.LEDGER):
            return [], []
        advice = "delete it: costs are counted from zero then"
        ledger = self._sealed.read(names.LEDGER, _Ledger, advice, self._made_with())
        return list(ledger.stages), list(ledger.nodes)

    def has_event_examples(self) -> bool:
        return self.files.exists(names.EVENT_EXAMPLES)

    def write_event_examples(self, examples: EventExamples) -> None:
        self.files.put(names.EVENT_EXAMPLES, examples_to_npz(examples))

    def read_event_examples(self) -> EventExamples | None:
        """The examples; None if the run has none.

        Raises:
            ValueError: The file is damaged.
        """
        if not self.has_event_examples():
            return None
        try:
            return examples_from_npz(read_bytes(self.files, names.EVENT_EXAMPLES))
        except ValueError as error:
            raise self._sealed.damaged(names.EVENT_EXAMPLES, error, AGAIN) from error

    def has_supernet(self) -> bool:
        """Whether stage 1 is finished.

        Raises:
            FileNotFoundError: One of its files is missing, although others or those of a search exist.
            ValueError: One of them is damaged or of other settings.
        """
        if self.files.exists(names.SUPERNET):
            return bool(self.supernet_weights())
        if self.has_evaluations():
            raise FileNotFoundError(
                f"'{self.shown(names.SUPERNET)}' is missing, but evaluations made with it exist. Restore it, "
                "or choose another folder with --run-dir."
            )
        return False

    def write_supernet(self, result: SupernetResult) -> None:
        self._write(names.SUPERNET, result)

    def read_supernet(self) -> SupernetResult:
        advice = f"train it with: python launch.py train-supernet {self}"
        return self._sealed.read(names.SUPERNET, SupernetResult, advice, self._made_with())

    def write_supernet_weights(self, weights: Mapping[str, Tensor]) -> str:
        """Writes a state dict and returns the SHA-256 of the file."""
        return self._put_weights(names.SUPERNET_WEIGHTS, weights)

    def copy_supernet_weights(self, source: RunFolder) -> None:
        """Takes over the weights of another run; raises as `supernet_weights`."""
        self.files.put(names.SUPERNET_WEIGHTS, source.supernet_weights())

    def supernet_weights(self) -> bytes:
        """The bytes of the super-network's weights.

        Raises:
            FileNotFoundError: The run has no super-network, or its weights are missing.
            ValueError: The file does not have the hash it was written with.
        """
        return self._sealed.weights(
            names.SUPERNET_WEIGHTS, names.SUPERNET, self.read_supernet().weights_sha256
        )

    def read_supernet_weights(self) -> dict[str, Tensor]:
        """The super-network's state dict; raises as `supernet_weights`."""
        from safetensors.torch import load

        return load(self.supernet_weights())

    def write_folded_weights(self, arrays: Mapping[str, Any]) -> str:
        """Writes weights in an engine's layout, for the length of a search; returns the file's SHA-256."""
        from safetensors.numpy import save

        return self._put_hashed(names.FOLDED_WEIGHTS, save(dict(arrays)))

    def append_evaluations(self, rows: Sequence[EvaluationRow]) -> None:
        """Stores the rows of one trial."""
        self._evaluations.append(rows, self._searched_with())
        self.num_stored += len(rows)

    def read_evaluations(self) -> list[EvaluationRow]:
        """All rows stored so far; none before a search. As `EvaluationFiles.read`."""
        if not self.has_evaluations():
            return []
        finished = self.files.exists(names.BEST)
        return self._evaluations.read(self._searched_with(), finished=finished)

    def append_shards(self, shards: Sequence[Shard]) -> None:
        """Stores the shards of one trial."""
        self._evaluations.append_shards(shards, self._searched_with())

    def read_shards(self) -> Iterator[Shard]:
        """As `EvaluationFiles.read_shards`."""
        return self._evaluations.read_shards(self._searched_with())

    def has_evaluations(self) -> bool:
        """Whether a search was started."""
        finished = self.files.exists(names.BEST) or self.files.exists(names.EVALUATIONS)
        return finished or bool(self.evaluation_parts() or self.files.list(names.SHARDS))

    def evaluation_parts(self) -> list[str]:
        """Names of the files of trials, while a search is not finished."""
        return self._evaluations.parts()

    def close_evaluations(self, rows: Sequence[EvaluationRow]) -> None:
        """Writes the finished search's rows to evaluations.parquet and removes the parts."""
        self._evaluations.close(rows, self._searched_with())

    def has_best(self) -> bool:
        """Whether stage 2 is finished; raises as `read_best` and `read_evaluations` if it is damaged."""
        return self.files.exists(names.BEST) and bool(self.read_best() and self.read_evaluations())

    def write_best(self, result: SearchResult) -> None:
        values = to_json(result) | {"best": flat(result.best)}
        self.files.put(names.BEST, seal(Sealed(values, self._searched_with())))

    def read_best(self) -> SearchResult:
        advice = f"search with: python launch.py search {self}"
        sealed = self._sealed.record(names.BEST, advice)
        try:
            best = to_json(from_flat(sealed.values["best"]))
            result = from_json({**sealed.values, "best": best}, SearchResult)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._sealed.damaged(names.BEST, error, advice) from error
        self._sealed.check_origin(names.BEST, sealed.made_with, self._searched_with())
        return result

    def has_finalists(self) -> bool:
        return self.files.exists(names.FINALISTS)

    def write_finalists(self, result: Finalists) -> None:
        self.files.put(names.FINALISTS, seal(Sealed(to_json(result), self._searched_with())))

    def read_finalists(self) -> Finalists | None:
        """The finalists and which of them is the best; None if the search was believed."""
        if not self.has_finalists():
            return None
        advice = "delete it to train the finalists again"
        return self._sealed.read(names.FINALISTS, Finalists, advice, self._searched_with())

    def chosen_architecture(self) -> str:
        """The architecture called "best": the best finalist, or the choice of the search."""
        finalists = self.read_finalists()
        return self.read_best().best.architecture if finalists is None else finalists.chosen

    def write_checkpoint(self, number: int | None, state: bytes) -> None:
        """Stores the state of a training; `number` as in `checkpoint_of`."""
        self.files.put(names.checkpoint_of(number), seal_bytes(state, self._made_with()))

    def read_checkpoint(self, number: int | None) -> bytes | None:
        """The state of a training that was interrupted; None if there is none.

        Raises:
            ValueError: The file is damaged or of other settings.
        """
        name = names.checkpoint_of(number)
        if not self.files.exists(name):
            return None
        state, made_with = self._sealed.state(name, "train from the start")
        self._sealed.check_origin(name, made_with, self._made_with())
        return state

    def write_curves(self, number: int | None, record: EpochRecord) -> None:
        """Adds an epoch to the TensorBoard curves of a training; `number` as in `checkpoint_of`.

        An error only warns, once: no training ends for the sake of its curves.
        """
        try:
            write_curves(self.files, names.curves_of(number), record)
        except OSError as error:
            if self._draws_curves:
                logger.warning("the TensorBoard curves cannot be written: %s", error)
            self._draws_curves = False

    def write_retrained(
        self, number: int, result: RetrainResult, weights: Mapping[str, Tensor], bundle: Bundle | None = None
    ) -> None:
        """Writes the weights of a network, what makes its folder a bundle, and last its result."""
        sha256 = self._put_weights(names.weights_of(number), weights)
        if bundle is not None:
            description = to_json(replace(bundle.description, weights_sha256=sha256))
            self.files.put(names.description_of(number), (json.dumps(description, indent=1) + "\n").encode())
            self.files.put(names.card_of(number), bundle.card.encode())
        self._write(names.metrics_of(number), replace(result, weights_sha256=sha256))

    def read_retrained(self, number: int) -> RetrainResult:
        advice = f"retrain with: python launch.py retrain {self}"
        return self._sealed.read(names.metrics_of(number), RetrainResult, advice, self._made_with())

    def retrained_weights(self, number: int) -> bytes:
        """The bytes of a retrained network's weights; raises as `supernet_weights`."""
        sha256 = self.read_retrained(number).weights_sha256
        return self._sealed.weights(names.weights_of(number), names.metrics_of(number), sha256)

    def retrained_numbers(self) -> list[int]:
        """Numbers of the networks whose retraining is finished."""
        parts = [name.split("/") for name in self.files.list(names.RETRAINED)]
        return sorted(int(part[1]) for part in parts if part[2:] == [names.METRICS] and part[1].isdecimal())

    def write_replay(self, results: Sequence[ReplayResult]) -> None:
        self._write(names.REPLAY, _Replay(tuple(results)))

    def read_replay(self) -> list[ReplayResult]:
        """The results of a replay of search algorithms; empty if there was none."""
        if not self.files.exists(names.REPLAY):
            return []
        advice = f"replay with: python launch.py replay {self}"
        return list(self._sealed.read(names.REPLAY, _Replay, advice, self._made_with()).results)

    def write_fidelity(self, result: Fidelity) -> None:
        self._write(names.FIDELITY, result)

    def read_fidelity(self) -> Fidelity | None:
        """The study of rank fidelity; None if there was none."""
        if not self.files.exists(names.FIDELITY):
            return None
        advice = f"study again with: python launch.py fidelity {self}"
        return self._sealed.read(names.FIDELITY, Fidelity, advice, self._made_with())

    def write_report(self, report: Mapping[str, Any], page: str) -> None:
        files = {
            names.REPORT_JSON: (json.dumps(report, indent=1) + "\n").encode(),
            names.REPORT_HTML: page.encode(),
        }
        for name, data in files.items():
            self.files.put(name, data)
        self.files.put(names.REPORT_SUMS, _sums(files).encode())

    def has_report(self) -> bool:
        """Whether there is a report, as it was written."""
        files = (names.REPORT_JSON, names.REPORT_HTML)
        if not all(self.files.exists(name) for name in (*files, names.REPORT_SUMS)):
            return False
        sums = _sums({name: read_bytes(self.files, name) for name in files})
        return read_bytes(self.files, names.REPORT_SUMS) == sums.encode()

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that a report's numbers come from."""
        sources = [*names.REPORTED, *(names.metrics_of(number) for number in self.retrained_numbers())]
        return {name: sha256_of(self.files, name) for name in sources if self.files.exists(name)}

    def _searched_with(self) -> Mapping[str, Any]:
        """What the files of a search are made with."""
        settings = self._made_with()
        if settings.get("search.scoring", "supernet") != "supernet":
            return settings
        return {**settings, SUPERNET_FACT: self.read_supernet().weights_sha256}


def _sums(files: Mapping[str, bytes]) -> str:
    """The hash of each file, as sha256sum writes and checks it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())


@dataclass(frozen=True)
class _Cluster:
    """The content of cluster.json."""

    samples: tuple[ClusterSample, ...]


@dataclass(frozen=True)
class _Ledger:
    """The content of ledger.json."""

    stages: tuple[StageTime, ...]
    nodes: tuple[NodeTime, ...]


@dataclass(frozen=True)
class _Replay:
    """The content of replay.json."""

    results: tuple[ReplayResult, ...]
