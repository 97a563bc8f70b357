"""Tables of evaluations as Parquet: the only place where a measurement is flattened into columns."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.records import EvaluationRow, Rung, Shard
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
# Columns that are only there if a row has a value: tables of earlier versions lack them.
_OPTIONAL = {"energy": pa.float64(), "num_parameters": pa.int64()}
# Fields of a Rung, in columns of lists; only where there are any.
_RUNG = {"samples": pa.int64(), "accuracy": pa.float64(), "spikes": pa.float64()}
_OPTIONAL_RUNG = {"synops": pa.float64(), **_OPTIONAL}

# Fields of a Shard beside its row.
_SHARD = (("look", pa.int64()), ("correct", pa.string()), ("cost", pa.string()))

_AT_ONCE = 8192  # rows of a row group, and those that are unfolded into Python objects at once
_SEAL = b"autosnn"  # key of the schema's metadata
_NOTHING: Mapping[str, Any] = MappingProxyType({})


_Row = TypeVar("_Row")


@dataclass(frozen=True)
class EvaluationTable(Generic[_Row]):
    """The rows of a file, and what they were made with (`pipeline.storage.sealed`)."""

    rows: list[_Row]
    made_with: Mapping[str, Any]


def to_parquet(rows: Sequence[EvaluationRow], made_with: Mapping[str, Any] = _NOTHING) -> bytes:
    """The rows as the bytes of a Parquet file, sealed in the schema's metadata.

    Multiply-accumulates are not stored: the schema has no column for them, and they are the same for every
    architecture of a backbone.
    """
    return _write(rows, flat, from_flat, _schema_of(rows), made_with)


def shards_to_parquet(shards: Sequence[Shard], made_with: Mapping[str, Any] = _NOTHING) -> bytes:
    """As `to_parquet`; what samples did is packed into one text for each shard."""
    schema = pa.schema([*_schema_of([shard.row for shard in shards]), *_SHARD])
    return _write(shards, _flat_shard, _shard_from_flat, schema, made_with)


def _schema_of(rows: Sequence[EvaluationRow]) -> pa.Schema:
    """The columns that rows need."""
    measured = [row.evaluation for row in rows if row.evaluation is not None]
    rungs = [rung for row in rows for rung in row.rungs]
    columns = list(_SCHEMA)
    columns += _needed(measured, _OPTIONAL, "", lambda kind: kind)
    columns += _needed(rungs, {**_RUNG, **_OPTIONAL_RUNG}, "rung_", pa.list_)
    return pa.schema(columns)


def _needed(
    records: Sequence[Any], kinds: Mapping[str, Any], prefix: str, column: Callable[[Any], Any]
) -> list[Any]:
    """The columns of those fields that a record has a value for."""
    return [
        pa.field(prefix + name, column(kind))
        for name, kind in kinds.items()
        if any(getattr(record, name) is not None for record in records)
    ]


def _write(
    rows: Sequence[_Row],
    flatten: Callable[[_Row], dict[str, Any]],
    unflatten: Callable[[dict[str, Any]], _Row],
    schema: pa.Schema,
    made_with: Mapping[str, Any],
) -> bytes:
    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(0, len(rows), _AT_ONCE):
            yield pa.RecordBatch.from_pylist([flatten(row) for row in rows[i : i + _AT_ONCE]], schema=schema)

    # Twice, as the seal goes first: a table of a large space as one would take as much memory as its rows.
    stored = (unflatten(values) for batch in batches() for values in batch.to_pylist())
    seal_values = seal_of(map(flatten, stored), made_with)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema.with_metadata({_SEAL: json.dumps(seal_values)})) as writer:
        for batch in batches():
            writer.write_batch(batch)
    return buffer.getvalue()


def from_parquet(data: bytes) -> EvaluationTable[EvaluationRow]:
    """Reads rows written by `to_parquet`.

    Raises:
        ValueError: The file is damaged, changed since it was written, of another version or not ours; the
            message does not name it.
    """
    return _read(data, flat, from_flat)


def shards_from_parquet(data: bytes) -> EvaluationTable[Shard]:
    """Reads shards written by `shards_to_parquet`; raises as `from_parquet`."""
    return _read(data, _flat_shard, _shard_from_flat)


def _read(
    data: bytes, flatten: Callable[[_Row], dict[str, Any]], unflatten: Callable[[dict[str, Any]], _Row]
) -> EvaluationTable[_Row]:
    try:
        table = pq.read_table(pa.BufferReader(data))
        batches = table.to_batches(max_chunksize=_AT_ONCE)
        rows = [unflatten(values) for batch in batches for values in batch.to_pylist()]
        seal_values = json.loads((table.schema.metadata or {}).get(_SEAL, "null"))
        check_seal(seal_values, map(flatten, rows))
    except Exception as error:  # foreign and damaged files raise errors of any kind
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(reason) from error
    return EvaluationTable(rows, seal_values["made_with"])


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
    for name in _OPTIONAL:
        if measured is not None and getattr(measured, name) is not None:
            values[name] = getattr(measured, name)
    if row.rungs:
        values |= {f"rung_{name}": [getattr(rung, name) for rung in row.rungs] for name in _RUNG}
        values |= {
            f"rung_{name}": [getattr(rung, name) for rung in row.rungs]
            for name in _OPTIONAL_RUNG
            if any(getattr(rung, name) is not None for rung in row.rungs)
        }
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
            energy=values.get("energy"),
            num_parameters=values.get("num_parameters"),
            spikes_per_layer=dict(values["spikes_per_layer"]),
            firing_rate_per_layer=dict(values["firing_rate_per_layer"]),
        )
    columns = [values.get(f"rung_{name}") or [] for name in _RUNG]
    number = len(columns[0])
    columns += [values.get(f"rung_{name}") or [None] * number for name in _OPTIONAL_RUNG]
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


def _flat_shard(shard: Shard) -> dict[str, Any]:
    correct, cost = np.packbits(shard.correct), shard.cost.astype("<i8")
    return {
        **flat(shard.row),
        "look": shard.look,
        "correct": base64.b64encode(correct.tobytes()).decode(),
        "cost": base64.b64encode(cost.tobytes()).decode(),
    }


def _shard_from_flat(values: dict[str, Any]) -> Shard:
    correct, cost = (base64.b64decode(values[name], validate=True) for name in ("correct", "cost"))
    costs = np.frombuffer(cost, "<i8").astype(np.int64)
    bits = np.unpackbits(np.frombuffer(correct, np.uint8), count=len(costs))
    return Shard(from_flat(values), values["look"], bits.astype(np.bool_), costs)
