"""Exact answers of a table of the whole space, and how close searches replayed on it come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.analysis.replay import until_text
from pipeline.report.contents import Report
from pipeline.report.contents_search import ExactAnswers
from pipeline.report.figures import line_style, styled_chart
from pipeline.storage.records import ReplayResult


@dataclass(frozen=True)
class Quartiles:
    """Lower quartile, median and upper quartile, in words."""

    low: str
    median: str
    high: str


@dataclass(frozen=True)
class ReplayRow:
    """One algorithm replayed on the table; the fields are those of `ReplayResult`."""

    algorithm: str
    budget: int
    num_seeds: int
    regret: Quartiles
    found_share: float
    evaluations: Quartiles


@dataclass(frozen=True)
class Replay:
    """The replays as a table and as a chart of the regret against the evaluations."""

    optimum_fitness: float
    rows: tuple[ReplayRow, ...]
    chart: Markup


@dataclass(frozen=True)
class WholeSpace:
    """Exact answers and replays; either may be None."""

    template: ClassVar[str] = "whole_space.html.j2"
    unit: str
    space_size: int
    answers: ExactAnswers | None
    replay: Replay | None


def whole_space(report: Report) -> WholeSpace | None:
    """Prepares the exact answers; None if the table is not that of a whole space."""
    exact = report.exact
    if exact is None:
        return None
    replay = _replay(exact.replay) if exact.replay else None
    return WholeSpace(report.unit, report.search.space_size, exact.answers, replay)


def _replay(results: Sequence[ReplayResult]) -> Replay:
    return Replay(results[0].optimum_fitness, tuple(_row(result) for result in results), _chart(results))


def _row(result: ReplayResult) -> ReplayRow:
    low, median, high = result.regret_quartiles
    first, middle, last = result.evaluations_quartiles
    return ReplayRow(
        algorithm=result.algorithm,
        budget=result.budget,
        num_seeds=result.num_seeds,
        regret=Quartiles(f"{low:.5f}", f"{median:.5f}", f"{high:.5f}"),
        found_share=result.found_share,
        evaluations=Quartiles(
            until_text(first, result.budget),
            until_text(middle, result.budget),
            until_text(last, result.budget),
        ),
    )


def _chart(results: Sequence[ReplayResult]) -> Markup:
    figure = go.Figure()
    for index, result in enumerate(results):
        figure.add_trace(
            go.Scatter(
                x=result.curve_evaluations,
                y=result.mean_regret,
                name=result.algorithm,
                mode="lines+markers",
                hovertemplate="after %{x:,} evaluations: %{y:.5f}",
                **line_style(index),
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return styled_chart(figure, "regret", "evaluations", "mean regret of the fitness", height=380)
