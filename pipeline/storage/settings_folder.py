"""A folder of results that knows the settings it was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.tree import Config, list_differences, written_config
from pipeline.storage import names
from pipeline.storage.files import Files
from pipeline.storage.location import join, last_part, open_files
from pipeline.storage.origin import SealedFiles
from pipeline.storage.sealed import Sealed, seal
from snn.json_values import to_json

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = "give the command again that started the run"
"""Advice for results that only the command itself can make again."""
_START = "start a run with: python launch.py run NAME"
SUPERNET_FACT = "super-network"
"""What results of a search were made with beside the settings: the hash of the weights."""


class SettingsFolder:
    """Writes and reads the settings of a run, and seals its results with them.

    Args:
        location: A folder, or a URI of an object store.
        files: Where the files are, if not there.
    """

    def __init__(self, location: str | Path, files: Files | None = None) -> None:
        self.location = str(location)
        self.files = files or open_files(self.location)
        self._sealed = SealedFiles(self.files, self.location)
        self._identity: Mapping[str, Any] | None = None  # of the settings, once known to be the folder's

    def shown(self, name: str) -> str:
        """A file's name as it is shown to people."""
        return join(self.location, name)

    def __str__(self) -> str:
        return self.location

    @property
    def name(self) -> str:
        """The last part of its location."""
        return last_part(self.location)

    @property
    def path(self) -> Path:
        """The folder, of a run that is not in an object store."""
        return Path(self.location)

    def check(self, config: Config) -> None:
        """Checks that the folder is new or was made with the same settings.

        Raises:
            ValueError: The folder, or a result in a folder that lost its settings, is of other settings; the
                message lists the differences. Or one of these files is damaged.
        """
        asked = config.identity()
        if self.files.exists(names.CONFIG):
            there: dict[str, Mapping[str, Any]] = {f"Run folder '{self}'": self.read_config().identity()}
        else:
            there = {f"Result '{self.shown(n)}'": self._settings_of(n) for n in self._results()}
        for what, settings in there.items():
            if differences := list_differences(settings, asked):
                raise ValueError(
                    f"{what} was made with other settings:\n{differences}\n"
                    "Choose another folder with --run-dir, or give the settings it was made with."
                )
        self._identity = asked

    def write_config(self, config: Config) -> None:
        """Writes the settings, unless the folder has some."""
        if not self.files.exists(names.CONFIG):
            self.files.put(names.CONFIG, seal(Sealed(to_json(config), {})))

    def read_config(self) -> Config:
        """The settings the folder was made with.

        Raises:
            FileNotFoundError: The folder holds no run, or only its results.
            ValueError: The file is damaged, incomplete or of another version.
        """
        advice = AGAIN if self._results() else _START
        values = self._sealed.record(names.CONFIG, advice).values
        try:
            config = written_config(values)
        except ValueError as error:
            raise self._sealed.damaged(names.CONFIG, error, advice) from error
        self._identity = config.identity()
        return config

    def _results(self) -> list[str]:
        """Names of the files that say what they were made with."""
        retrained = [n for n in self.files.list(names.RETRAINED) if n.endswith((names.METRICS, ".pt"))]
        parts = [*self.files.list(names.EVALUATION_PARTS), *self.files.list(names.SHARDS)]
        there = [name for name in (*names.SAY_THEIR_SETTINGS, *retrained) if self.files.exists(name)]
        return there + [name for name in parts if name.endswith(".parquet")]

    def _made_with(self) -> Mapping[str, Any]:
        """What every result of the folder is made with."""
        return self._identity or self.read_config().identity()

    def _settings_of(self, result: str) -> Mapping[str, Any]:
        """The settings that a result was made with, by its own account."""
        made_with = self._sealed.made_with(result)
        return {name: value for name, value in made_with.items() if name != SUPERNET_FACT}

    def _write(self, name: str, record: Any) -> None:
        self.files.put(name, seal(Sealed(to_json(record), self._made_with())))

    def _put_weights(self, name: str, weights: Mapping[str, Tensor]) -> str:
        from safetensors.torch import save

        return self._put_hashed(name, save({key: value.contiguous() for key, value in weights.items()}))

    def _put_hashed(self, name: str, data: bytes) -> str:
        self.files.put(name, data)
        return hashlib.sha256(data).hexdigest()
