"""The folder of a user's cached files: prepared data, compiled kernels, evaluations."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME`/autosnn, or ~/.cache/autosnn; may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autosnn"
