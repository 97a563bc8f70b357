"""Finds the mistakes of a file that starts a run on a cluster, without a cluster."""

from __future__ import annotations

from pathlib import Path

from cluster.check.dockerfile import check_dockerfile
from cluster.check.document import Document, read_documents
from cluster.check.finding import Finding
from cluster.check.launcher import check_launcher
from cluster.check.rayjob import check_rayjob
from cluster.check.sky import check_sky
from cluster.check.slurm import check_slurm

__all__ = ["Finding", "check_file"]

_BESIDE_A_RAYJOB = {"PersistentVolumeClaim", "NetworkPolicy", "Secret", "ConfigMap", "Namespace"}


def check_file(path: Path, crd: Path | None = None) -> list[Finding]:
    """The mistakes of a file; of which kind it is, it says itself.

    Args:
        path: The file.
        crd: KubeRay's CustomResourceDefinition of RayJobs as YAML, for the schema of a RayJob.

    Raises:
        ValueError: It is of no kind that can be checked, or no YAML.
        OSError: It cannot be read.
    """
    text = path.read_text()
    if text.startswith("#!") or "#SBATCH" in text:
        return check_slurm(path)
    if path.name.startswith("Dockerfile"):
        return check_dockerfile(path)
    return [
        finding for document in read_documents(str(path), text) for finding in _check_document(document, crd)
    ]


def _check_document(document: Document, crd: Path | None) -> list[Finding]:
    kind = document.get("kind")
    if document.get("provider", "type"):
        return check_launcher(document)
    if kind == "RayJob":
        return check_rayjob(document, None if crd is None else _read(crd))
    if kind in _BESIDE_A_RAYJOB:
        return []
    if document.get("run") is not None:
        return check_sky(document)
    raise ValueError(
        f"{document.file}: expected a file for `ray up` (with provider.type), a RayJob, a SkyPilot task "
        f"(with run), a Slurm script or a Dockerfile, got {kind or 'another file'}."
    )


def _read(crd: Path) -> dict[str, object]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the definition has a megabyte
    values: dict[str, object] = yaml.load(crd.read_text(), loader)
    return values
