"""The folder of a user's cached files: prepared data, compiled kernels, evaluations."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path


def user_cache() -> Path:
    """`$XDG_CACHE_HOME`/autosnn, or ~/.cache/autosnn; may not exist yet, and may not be writable.

    A relative `$XDG_CACHE_HOME` is ignored, as its specification asks. Without a home directory (a user id
    without an account, as in containers), it is a folder in the system's temporary directory that belongs to
    this user alone.

    Raises:
        OSError: There is neither a home directory nor a temporary one.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if configured.is_absolute():
        return configured / "autosnn"
    with suppress(RuntimeError):  # no home directory
        home = Path.home()
        if home.is_absolute():
            return home / ".cache" / "autosnn"
    return _temporary_cache(Path(tempfile.gettempdir()))


@cache
def _temporary_cache(parent: Path) -> Path:
    """The same folder for all processes of a user, unless another user took its name."""
    folder = parent / f"autosnn-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    facts = folder.lstat()
    if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="autosnn-", dir=parent))
