"""The retrained networks: each architecture over its seeds, and the paper's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.report.contents import Comparison, Report
from pipeline.storage.records import Finalists


@dataclass(frozen=True)
class Retrained:
    """The comparison of the retrained architectures, and what is still missing.

    Attributes:
        missing: What is missing and which command adds it.
        rows: All architectures.
        paper_rows: Those measured with the paper's protocol too.
        finalists: The short trainings that chose "best"; None if the search was believed.
        energy_rows: Those whose energy with memory was estimated.
    """

    template: ClassVar[str] = "retrained.html.j2"
    missing: str
    rows: tuple[Comparison, ...]
    paper_rows: tuple[Comparison, ...]
    finalists: Finalists | None
    energy_rows: tuple[Comparison, ...]


def retrained(report: Report) -> Retrained:
    """Prepares the comparison of the retrained architectures."""
    rows = report.comparison
    paper_rows = tuple(row for row in rows if row.paper_accuracy)
    energy_rows = tuple(row for row in rows if row.energy)
    return Retrained(report.stages.retrain.missing, rows, paper_rows, report.finalists, energy_rows)
