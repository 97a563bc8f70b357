"""Candidates whose evaluation failed, with their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.report.contents import Report
from pipeline.report.contents_search import Candidate


@dataclass(frozen=True)
class Failures:
    """The failed candidates, out of all evaluated ones."""

    template: ClassVar[str] = "failures.html.j2"
    candidates: tuple[Candidate, ...]
    num_evaluations: int


def failures(report: Report) -> Failures | None:
    """Prepares the failed candidates; None if there are none."""
    failed = tuple(candidate for candidate in report.search.evaluations if candidate.error)
    return Failures(failed, report.search.num_evaluations) if failed else None
