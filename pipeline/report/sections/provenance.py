"""Config, seeds, versions, commit, data and files behind the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.report.contents import Report
from pipeline.storage.records import DataSplit

Facts = tuple[tuple[str, str], ...]
_LEFT_FACTS = 4


@dataclass(frozen=True)
class ClassCounts:
    """Samples of one class in each split, in the order of the splits; None where it has none recorded."""

    name: str
    counts: tuple[int | None, ...]


@dataclass(frozen=True)
class Origin:
    """Where the numbers come from.

    Attributes:
        facts: Names and values, in two columns.
        has_environment: Whether environment.json was there.
        splits: The splits by name.
        show_notes: Whether notes of the data are shown here; those on events have a section of their own.
        classes: Samples of each class in each split.
        files: SHA-256 of each file that was joined, by path within the run folder.
        versions: Version of each package; None if environment.json is missing.
        config: All settings as JSON.
    """

    template: ClassVar[str] = "provenance.html.j2"
    facts: tuple[Facts, Facts]
    has_environment: bool
    splits: dict[str, DataSplit]
    show_notes: bool
    classes: tuple[ClassCounts, ...]
    files: dict[str, str]
    versions: dict[str, str] | None
    config: str


def provenance(report: Report) -> Origin:
    """Prepares where the numbers come from."""
    origin = report.provenance
    facts, splits = _facts(report), origin.data or {}
    return Origin(
        facts=(facts[:_LEFT_FACTS], facts[_LEFT_FACTS:]),
        has_environment=origin.environment is not None,
        splits=splits,
        show_notes=report.events is None,
        classes=_classes(splits),
        files=origin.files,
        versions=origin.environment.versions if origin.environment else None,
        config=json.dumps(origin.config, indent=2),
    )


def _facts(report: Report) -> Facts:
    """Names and values of what is known."""
    origin, machine = report.provenance, report.provenance.environment
    num_cpus = machine.num_cpus if machine else None
    pairs = (
        ("Commit", origin.commit),
        ("Created", machine and machine.created),
        ("Seed of split, search and super-network", origin.seed),
        ("Seeds of retraining", _joined(origin.retrain_seeds)),
        ("Super-network", report.supernet.source if report.supernet else None),
        ("Super-network weights, SHA-256", origin.weights_sha256),
        ("Platform", machine and machine.platform),
        ("CPU", _joined([machine and machine.cpu, f"{num_cpus} cores" if num_cpus else None])),
        ("GPUs", _joined((machine and machine.gpus) or ["none"])),
    )
    return tuple((name, str(value)) for name, value in pairs if value not in (None, ""))


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values if value not in (None, ""))


def _classes(splits: Mapping[str, DataSplit]) -> tuple[ClassCounts, ...]:
    names = dict.fromkeys(name for split in splits.values() for name in split.samples_per_class)
    return tuple(
        ClassCounts(name, tuple(split.samples_per_class.get(name) for split in splits.values()))
        for name in names
    )
