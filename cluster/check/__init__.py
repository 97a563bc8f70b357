"""Finds the mistakes of a file that starts a run on a cluster, without a cluster."""

from __future__ import annotations

from pathlib import Path

from cluster.check.document import read_documents
from cluster.check.finding import Finding
from cluster.check.launcher import check_launcher
from cluster.check.slurm import check_slurm

__all__ = ["Finding", "check_file"]


def check_file(path: Path) -> list[Finding]:
    """The mistakes of a file; of which kind it is, it says itself.

    Raises:
        ValueError: It is of no kind that can be checked, or no YAML.
        OSError: It cannot be read.
    """
    text = path.read_text()
    if text.startswith("#!") or "#SBATCH" in text:
        return check_slurm(path)
    findings: list[Finding] = []
    documents = read_documents(str(path), text)
    for document in documents:
        if document.get("provider", "type"):
            findings += check_launcher(document)
        else:
            raise ValueError(
                f"{path}: expected a file of Ray's cluster launcher (with provider.type), got another one."
            )
    return findings
