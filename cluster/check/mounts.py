"""Checks the files that a cluster file takes from this machine."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from cluster.check.document import Document
from cluster.check.finding import Finding


def mount_findings(document: Document) -> Iterator[Finding]:
    """What `file_mounts` names but is not there, seen from the current folder, and tokens others can read."""
    for target, source in (document.get("file_mounts") or {}).items():
        if not isinstance(source, str) or "://" in source:  # a bucket
            continue
        path, key, is_token = Path(source).expanduser(), ["file_mounts", target], "token" in str(target)
        if not path.exists():
            yield document.finding(
                key,
                expected="a file or folder of this machine",
                got=f"nothing at '{source}'",
                cure="`ray get-auth-token --generate` makes it."
                if is_token
                else "Put it there, or name another.",
            )
        elif is_token and stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            yield document.finding(
                key,
                expected="a token that only you can read",
                got=stat.filemode(path.stat().st_mode),
                cure=f"chmod 600 {source}",
            )
