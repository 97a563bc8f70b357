"""Wall, CPU and GPU time of each stage, and how the search ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline import formats as fmt
from pipeline.analysis.ways import Way
from pipeline.report.contents import Report
from pipeline.report.contents_search import Course, Search
from pipeline.storage.cluster_records import NodeTime
from pipeline.storage.records import Cost


@dataclass(frozen=True)
class CostRow:
    """One stage, or the total.

    Attributes:
        name: Its name.
        cost: What it used; None if it is not finished.
        added_up: Whether the wall time is the sum of several jobs' or stages'.
    """

    name: str
    cost: Cost | None
    added_up: bool = False


@dataclass(frozen=True)
class StageCosts:
    """The cost of the run.

    Attributes:
        rows: Its stages and the total.
        num_retrained: Networks retrained.
        evaluations_per_hour: Pace of the search; None while it is unfinished.
        num_workers: Candidates evaluated at once.
        nodes: Of each stage and node type what was there for it, idle or not; with a price, its dollars.
        ways: What each way to score architectures costs; empty while the search is unfinished.
        course: Names and values of how the search ran; empty while it is unfinished.
    """

    template: ClassVar[str] = "cost.html.j2"
    rows: tuple[CostRow, ...]
    num_retrained: int
    evaluations_per_hour: float | None
    num_workers: int | None
    nodes: tuple[NodeTime, ...]
    ways: tuple[Way, ...]
    course: tuple[tuple[str, str], ...]


def cost(report: Report) -> StageCosts:
    """Prepares the cost of the run."""
    costs, search, num_retrained = report.cost, report.search, len(report.retrained)
    return StageCosts(
        rows=(
            *([CostRow("Super-network", costs.supernet)] if report.stages.supernet.needed else []),
            CostRow("Search", costs.search),
            CostRow("Retraining", costs.retrain, added_up=num_retrained > 1),
            CostRow("Total", costs.total, added_up=True),
        ),
        num_retrained=num_retrained,
        evaluations_per_hour=costs.evaluations_per_hour,
        num_workers=search.num_workers,
        nodes=report.ledger,
        ways=costs.ways,
        course=_course(search, search.course) if search.course else (),
    )


def _course(search: Search, course: Course) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Evaluation", course.engine.replace("_", "-")),
        ("Evaluator processes started", f"{course.evaluators_started} for {search.num_workers} slots"),
        ("Workers' time spent evaluating", fmt.percent(course.busy_share)),
        ("Answered without a trial", f"{course.num_known} (evaluated earlier, or ahead of the search)"),
        ("Evaluated ahead in idle slots", fmt.count(course.num_extras)),
    ]
    if course.num_stopped:
        saved = f"{course.num_stopped}, which saved {fmt.percent(course.samples_saved)} of the samples"
        if course.block_runs_saved is not None:
            saved += f" and {fmt.percent(course.block_runs_saved)} of the block evaluations"
        elif search.scoring == "supernet":
            saved += "; parents and choice are those of a full search"
        facts.append(("Stopped early", saved))
    return tuple(facts)
