"""Accuracy against spikes of every architecture the search evaluated."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.report.contents import Report
from pipeline.report.contents_search import Candidate, ChosenCandidate, Search
from pipeline.report.figures import ACCENT, INK, percent_axis, styled_chart, whole_ticks

_GENERATION_COLOURS = ["#c3cfe2", "#6d8fc0", "#16315c"]
_MANY = 1000  # candidates above which their markers are small


@dataclass(frozen=True)
class Evaluated:
    """The fitness formula's numbers and the chart; `chart` is None before the first evaluation.

    `weights` says whose weights candidates are scored with, `num_stopped` how many were given up early.
    """

    template: ClassVar[str] = "evaluated.html.j2"
    scoring: str
    weights: str
    num_stopped: int
    spikes_reference: float | None
    spike_exponent: float
    missing: str
    chart: Markup | None


def evaluated(report: Report) -> Evaluated:
    """Prepares the chart of all evaluated architectures."""
    search = report.search
    scored = [row for row in search.evaluations if row.accuracy is not None and row.spikes is not None]
    return Evaluated(
        search.scoring,
        search.weights,
        search.course.num_stopped if search.course else 0,
        search.spikes_reference,
        search.spike_exponent,
        report.stages.search.missing,
        _chart(search, scored, report.unit) if scored else None,
    )


def _chart(search: Search, scored: Sequence[Candidate], unit: str) -> Markup:
    """Accuracy against spikes (per `unit`): candidates, the Pareto front, the chosen one."""
    figure = go.Figure()
    best = search.best
    if best is not None and best.fitness is not None:
        figure.add_trace(_iso_fitness(search, best, scored))
    figure.add_trace(_front(search, scored))
    figure.add_trace(_candidates(scored))
    if best is not None:
        marker = {"symbol": "star", "size": 18, "color": ACCENT, "line": {"color": "white", "width": 1.5}}
        figure.add_trace(_points([best], "chosen", marker))
    figure.update_xaxes(tickformat="~s")
    percent_axis(figure)
    figure.update_yaxes(range=_padded([row.accuracy for row in scored if row.accuracy is not None]))
    return styled_chart(figure, "evaluations", f"spikes per {unit}", "accuracy on D_val", height=480)


def _iso_fitness(search: Search, best: ChosenCandidate, scored: Sequence[Candidate]) -> go.Scatter:
    """Curve A = A_best * (N / N_best) ** -lambda, along which the fitness is the chosen one's."""
    accuracy, spikes = best.accuracy or 0.0, best.spikes or 0.0
    others = [row.spikes for row in scored if row.spikes is not None and row.spikes > 0]
    low, high = min([*others, spikes]), max([*others, spikes])
    x = [low + (high - low) * i / 60 for i in range(61)] if spikes > 0 else []
    return go.Scatter(
        x=x,
        y=[accuracy * (n / spikes) ** -search.spike_exponent for n in x],
        mode="lines",
        line={"color": ACCENT, "width": 1, "dash": "dash"},
        name="same fitness as the chosen one",
        hoverinfo="skip",
    )


def _front(search: Search, scored: Sequence[Candidate]) -> go.Scatter:
    """The Pareto front as steps."""
    ids = set(search.pareto_front)
    front = sorted((row for row in scored if row.candidate_id in ids), key=lambda row: row.spikes or 0.0)
    return go.Scatter(
        x=[row.spikes for row in front],
        y=[row.accuracy for row in front],
        mode="lines",
        line={"color": INK, "width": 1.5, "shape": "hv"},
        name="Pareto front",
        hoverinfo="skip",
    )


def _candidates(scored: Sequence[Candidate]) -> go.Scatter:
    """All candidates, coloured by generation."""
    num_generations = len({row.generation for row in scored})
    colour_bar = {
        "title": {"text": "generation", "side": "right"},
        "thickness": 8,
        "outlinewidth": 0,
        "x": 1.01,
        "tickformat": "d",
        "len": 0.6,
        "dtick": whole_ticks(num_generations),
    }
    marker = {
        "size": 9 if len(scored) <= _MANY else 5,
        "color": [row.generation for row in scored],
        "colorscale": [[i / 2, colour] for i, colour in enumerate(_GENERATION_COLOURS)],
        "colorbar": colour_bar,
        "showscale": num_generations > 1,
        "line": {"color": "white", "width": 0.8},
    }
    return _points(scored, "evaluated", marker)


def _points(rows: Sequence[Candidate | ChosenCandidate], name: str, marker: dict[str, Any]) -> go.Scatter:
    return go.Scatter(
        x=[row.spikes for row in rows],
        y=[row.accuracy for row in rows],
        customdata=[
            [html.escape(row.architecture), row.fitness, row.generation, row.candidate_id] for row in rows
        ],
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>accuracy %{y:.1%}<br>spikes %{x:,.0f}<br>"
            "fitness %{customdata[1]:.4f}<br>generation %{customdata[2]}, candidate %{customdata[3]}"
            "<extra></extra>"
        ),
    )


def _padded(values: Sequence[float]) -> list[float]:
    """Range of an axis that shows the values with a margin."""
    margin = 0.08 * (max(values) - min(values)) or 0.02
    return [min(values) - margin, max(values) + 1.5 * margin]
