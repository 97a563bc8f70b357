"""A cache of the evaluations of all runs of a user.

Its key is all that evaluations depend on: weights, data, network and engine. Each trial adds a Parquet file;
existing files are never changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from pipeline.config.tree import Config
from pipeline.data import RunData
from pipeline.identity import identity_of
from pipeline.storage.evaluations import from_parquet, to_parquet
from pipeline.storage.files import Files, read_bytes
from pipeline.storage.location import join, open_files, shared_cache
from pipeline.storage.records import EvaluationRow
from pipeline.storage.run_folder import RunFolder

logger = logging.getLogger(__name__)

_SECONDS_OF_PAUSE = 60.0


class EvaluationCache:
    """Evaluations with one super-network's weights and the same settings.

    Args:
        files: Where they are.
        key: What they depend on, as `cache_key`; files of another key are skipped.
    """

    def __init__(self, files: Files, key: str = "") -> None:
        self.files = files
        self.key = key
        self._warned = False
        self._pause_until = 0.0

    def read(self) -> dict[str, EvaluationRow]:
        """All evaluations by architecture; damaged files are skipped, as a cache only saves work."""
        rows: dict[str, EvaluationRow] = {}
        try:
            names = [name for name in self.files.list("") if name.endswith(".parquet")]
        except OSError as error:
            logger.warning("the evaluation cache cannot be read: %s", error)
            names = []
        for name in names:
            try:
                rows |= {row.architecture: row for row in self._in_file(name) if not row.error}
            except (OSError, ValueError) as error:
                logger.warning("skipping '%s/%s' of the evaluation cache: %s", self.files, name, error)
        return rows

    def append(self, rows: list[EvaluationRow]) -> None:
        """Adds the rows of one trial. Errors only warn, as a search can do without its cache.

        After an error it tries no more for a minute, so that a store that is away does not hold up a search.
        """
        if not rows or time.monotonic() < self._pause_until:
            return
        texts = "/".join(sorted(row.architecture for row in rows))
        name = hashlib.sha256(texts.encode()).hexdigest()[:24]
        try:
            self.files.put(f"{name}.parquet", to_parquet(rows, {"key": self.key}))
        except OSError as error:
            if not self._warned:
                logger.warning("the evaluation cache cannot be written: %s", error.__cause__ or error)
            self._warned = True
            self._pause_until = time.monotonic() + _SECONDS_OF_PAUSE

    def _in_file(self, name: str) -> list[EvaluationRow]:
        table = from_parquet(read_bytes(self.files, name))
        if table.made_with != {"key": self.key}:
            raise ValueError("it holds evaluations of other weights, data or settings")
        return table.rows


def open_cache(
    run: RunFolder, config: Config, data: RunData, *, weights_sha256: str, engine: Mapping[str, Any]
) -> EvaluationCache:
    """The cache of a run's search, where runs beside it have theirs; for the arguments see `cache_key`."""
    key = cache_key(config, data, weights_sha256=weights_sha256, engine=engine)
    location = join(shared_cache(run.location), "evaluations", key)
    return EvaluationCache(open_files(location, needed=False), key)


def cache_key(config: Config, data: RunData, *, weights_sha256: str, engine: Mapping[str, Any]) -> str:
    """Hash of all that an evaluation depends on besides the architecture, 32 hexadecimal digits.

    Args:
        config: Settings of network and data.
        data: The samples that candidates are scored on.
        weights_sha256: Hash of the super-network's weights.
        engine: `EngineSpec.identity` of the engine that evaluates.
    """
    calibration = data.supernet_train().indices[: engine.get("recalibrate", 0)]
    facts: dict[str, Any] = {
        "weights": weights_sha256,
        "data": data.train.fingerprint,
        "samples": hashlib.sha256(data.search_val().indices.tobytes()).hexdigest(),
        "calibration": hashlib.sha256(calibration.tobytes()).hexdigest(),
        "dataset": config.data.dataset,
        "event_values": config.data.event_values,
        "network": identity_of(config.network),
        "engine": dict(engine),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
