"""Checks tasks of SkyPilot."""

from __future__ import annotations

from cluster.check.document import Document
from cluster.check.finding import Finding
from cluster.check.mounts import mount_findings
from cluster.check.schema import schema_findings

_TEXT = {"type": "string"}
_SCHEMA = {
    "type": "object",
    "required": ["run", "resources"],
    "additionalProperties": False,
    "properties": {
        "name": _TEXT,
        "workdir": _TEXT,
        "num_nodes": {"type": "integer", "minimum": 1},
        "resources": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "infra": _TEXT,
                "cpus": {"type": ["string", "integer"]},
                "memory": {"type": ["string", "integer"]},
                "accelerators": {"type": ["string", "object", "array"]},
                "instance_type": _TEXT,
                "use_spot": {"type": "boolean"},
                "disk_size": {"type": ["integer", "string"]},
                "image_id": {"type": ["string", "object"]},
                "ports": {"type": ["integer", "string", "array"]},
                "any_of": {"type": "array"},
            },
        },
        "envs": {"type": "object"},
        "secrets": {"type": "object"},
        "file_mounts": {"type": "object"},
        "setup": _TEXT,
        "run": _TEXT,
    },
}


def check_sky(document: Document) -> list[Finding]:
    """The mistakes of a SkyPilot task."""
    findings = list(schema_findings(document, _SCHEMA, "SkyPilot's documentation lists the keys."))
    findings += mount_findings(document)
    if document.get("resources", "ports"):
        findings.append(
            document.finding(
                ["resources", "ports"],
                expected="none: the nodes reach each other without",
                got=str(document.get("resources", "ports")),
                cure="Remove the key; it opens them to the internet.",
            )
        )
    if "RAY_AUTH_MODE=token" not in str(document.get("run")):
        findings.append(
            document.finding(
                ["run"],
                expected="RAY_AUTH_MODE=token before `ray start`",
                got="a Ray that lets everybody in",
                cure="Export it, and mount the token.",
            )
        )
    return findings
