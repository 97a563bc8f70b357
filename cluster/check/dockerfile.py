"""Checks Dockerfiles: hadolint where it is installed, and what our container promises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster.check.finding import Finding


def check_dockerfile(path: Path) -> list[Finding]:
    """The mistakes of a Dockerfile."""
    lines = path.read_text().splitlines()
    return [*_base(path, lines), *_user(path, lines), *_hadolint(path)]


def _base(path: Path, lines: list[str]) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        if found := re.match(r"FROM\s+(\S+)", line):
            image = found[1]
            if image.rpartition(":")[2] in (image, "latest"):
                yield Finding(
                    str(path), number, "FROM", "an image with a version", image, "Name the version."
                )


def _user(path: Path, lines: list[str]) -> Iterator[Finding]:
    users = [(number, line.split()[1]) for number, line in enumerate(lines, 1) if line.startswith("USER ")]
    number, user = users[-1] if users else (len(lines), "none, so root")
    if user in ("root", "0", "none, so root"):
        yield Finding(
            str(path), number, "USER", "a user without rights", user, "End with USER and another name."
        )


def _hadolint(path: Path) -> Iterator[Finding]:
    if shutil.which("hadolint") is None:
        return
    command = ["hadolint", "--no-fail", "--format", "json", str(path)]
    for found in json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout):
        if found["level"] in ("error", "warning"):
            yield Finding(
                str(path),
                found["line"],
                found["code"],
                "what hadolint asks for",
                found["message"].rstrip("."),
                f"https://github.com/hadolint/hadolint/wiki/{found['code']}",
            )
