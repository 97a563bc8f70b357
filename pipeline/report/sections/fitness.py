"""Fitness of each generation of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.report.contents import Report
from pipeline.report.contents_search import Generation
from pipeline.report.figures import ACCENT, styled_chart, whole_ticks


@dataclass(frozen=True)
class Fitness:
    """The chart; None, with what is missing, before the first evaluation."""

    template: ClassVar[str] = "fitness.html.j2"
    missing: str
    chart: Markup | None


def fitness(report: Report) -> Fitness | None:
    """Prepares the course of the fitness; None for an exhaustive search, which has one generation."""
    if report.search.algorithm == "exhaustive":
        return None
    generations = report.search.generations
    return Fitness(report.stages.search.missing, _chart(generations) if generations else None)


def _chart(generations: Sequence[Generation]) -> Markup:
    """Best so far, best and mean fitness of each generation."""
    figure = go.Figure()
    for values, name, colour, dash in (
        ([g.best_so_far for g in generations], "best so far", ACCENT, "solid"),
        ([g.best_fitness for g in generations], "best of the generation", "#1e3a5f", "dot"),
        ([g.mean_fitness for g in generations], "mean of the generation", "#7b93b5", "solid"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[g.generation for g in generations],
                y=values,
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=f"generation %{{x}}<br>{name}: %{{y:.4f}}<extra></extra>",
            )
        )
    figure.update_xaxes(dtick=whole_ticks(len(generations)), tickformat="d")
    return styled_chart(figure, "fitness", "generation", "fitness", height=360)
