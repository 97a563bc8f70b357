"""Tables of evaluations as Parquet: the only place where a measurement is flattened into columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.records import EvaluationRow, Rung
from pipeline.storage.sealed import check_seal, seal_of
from snn.fitness import Evaluation

_SCHEMA = pa.schema(
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
# Fields of a Rung, in columns of lists; only where there are any.
_RUNG = {"samples": pa.int64(), "accuracy": pa.float64(), "spikes": pa.float64()}

_AT_ONCE = 8192  # rows of a row group, and those that are unfolded into Python objects at once
_SEAL = b"autosnn"  # key of the schema's metadata
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class EvaluationTable:
    """The rows of a file, and what they were made with (`pipeline.storage.sealed`)."""

    rows: list[EvaluationRow]
    made_with: Mapping[str, Any]


def to_parquet(rows: Sequence[EvaluationRow], made_with: Mapping[str, Any] = _NOTHING) -> bytes:
    """The rows as the bytes of a Parquet file, sealed in the schema's metadata.

    Multiply-accumulates are not stored: the schema has no column for them, and they are the same for every
    architecture of a backbone.
    """
    schema = _SCHEMA
    if any(row.rungs for row in rows):
        schema = pa.schema([*_SCHEMA, *((f"rung_{name}", pa.list_(kind)) for name, kind in _RUNG.items())])

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(0, len(rows), _AT_ONCE):
            yield pa.RecordBatch.from_pylist([flat(row) for row in rows[i : i + _AT_ONCE]], schema=schema)

    # Twice, as the seal goes first: a table of a large space as one would take as much memory as its rows.
    seal_values = seal_of((flat(row) for batch in batches() for row in _rows(batch)), made_with)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema.with_metadata({_SEAL: json.dumps(seal_values)})) as writer:
        for batch in batches():
            writer.write_batch(batch)
    return buffer.getvalue()


def from_parquet(data: bytes) -> EvaluationTable:
    """Reads rows written by `to_parquet`.

    Raises:
        ValueError: The file is damaged, changed since it was written, of another version or not ours; the
            message does not name it.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        rows = [row for batch in table.to_batches(max_chunksize=_AT_ONCE) for row in _rows(batch)]
        seal_values = json.loads((table.schema.metadata or {}).get(_SEAL, "null"))
        check_seal(seal_values, (flat(row) for row in rows))
    except Exception as error:  # foreign and damaged files raise errors of any kind
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(reason) from error
    return EvaluationTable(rows, seal_values["made_with"])


def _rows(batch: pa.RecordBatch) -> Iterator[EvaluationRow]:
    return map(from_flat, batch.to_pylist())


def flat(row: EvaluationRow) -> dict[str, Any]:
    """A row with the fields of its measurement beside its own, as in the table and in best.json."""
    measured = row.evaluation
    values = {
        "candidate_id": row.candidate_id,
        "generation": row.generation,
        "architecture": row.architecture,
        "parents": list(row.parents),
        "accuracy": measured and measured.accuracy,
        "spikes": measured and measured.spikes,
        "fitness": row.fitness,
        "firing_rate": measured and measured.firing_rate,
        "num_samples": measured.num_samples if measured else 0,
        "spikes_per_layer": dict(measured.spikes_per_layer) if measured else {},
        "firing_rate_per_layer": dict(measured.firing_rate_per_layer) if measured else {},
        "error": row.error,
        "worker": row.worker,
        "seconds": row.seconds,
        "synops": measured and measured.synops,
    }
    if row.rungs:
        values |= {f"rung_{name}": [getattr(rung, name) for rung in row.rungs] for name in _RUNG}
    return values


def from_flat(values: dict[str, Any]) -> EvaluationRow:
    """The inverse of `flat`."""
    evaluation = None
    if not values["error"]:
        evaluation = Evaluation(
            accuracy=values["accuracy"],
            spikes=values["spikes"],
            firing_rate=values["firing_rate"],
            num_samples=values["num_samples"],
            synops=values["synops"],
            spikes_per_layer=dict(values["spikes_per_layer"]),
            firing_rate_per_layer=dict(values["firing_rate_per_layer"]),
        )
    columns = (values.get(f"rung_{name}") or [] for name in _RUNG)
    return EvaluationRow(
        candidate_id=values["candidate_id"],
        generation=values["generation"],
        architecture=values["architecture"],
        parents=tuple(values["parents"]),
        evaluation=evaluation,
        fitness=values["fitness"],
        error=values["error"],
        worker=values["worker"],
        seconds=values["seconds"],
        rungs=tuple(starmap(Rung, zip(*columns, strict=True))),
    )
