"""Where runs and caches are: folders, or prefixes of an object store given by a URI."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.storage.files import Files, LocalFiles
from snn.user_cache import user_cache


def is_uri(location: str) -> bool:
    """Whether a location is in an object store, or meant to be: `s3:/bucket` is not a folder either."""
    return re.match(r"[a-z][a-z0-9]+:/", location) is not None


def open_files(location: str, *, needed: bool = True) -> Files:
    """The files at a location.

    Args:
        location: Where.
        needed: Whether to wait for a store that is away; without, errors come soon.

    Raises:
        ValueError: A URI that no storage here understands.
    """
    if not is_uri(location):
        return LocalFiles(Path(location))
    from pipeline.storage.queued import QueuedFiles
    from snn.object_files import ObjectFiles

    return QueuedFiles(ObjectFiles(location)) if needed else ObjectFiles(location, seconds_of_retries=2.0)


def join(location: str, *names: str) -> str:
    """A location below another one."""
    return "/".join([location.rstrip("/"), *names])


def last_part(location: str) -> str:
    """The name of a run at a location."""
    whole = location if is_uri(location) else str(Path(location).resolve())
    return whole.rstrip("/").rpartition("/")[2]


def shared_cache(location: str) -> str:
    """Where runs keep what they share: beside them in a store, otherwise in the user's cache."""
    return join(location.rstrip("/").rpartition("/")[0], "cache") if is_uri(location) else str(user_cache())
