"""Accuracy against cost of every architecture the search evaluated."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline import formats as fmt
from pipeline.formats import COST_NAMES
from pipeline.report.contents import Report
from pipeline.report.contents_search import Candidate, ChosenCandidate, FrontOf, Search
from pipeline.report.figures import ACCENT, INK, percent_axis, styled_chart, whole_ticks
from snn.options import CostName

_GENERATION_COLOURS = ["#c3cfe2", "#6d8fc0", "#16315c"]
_MANY = 1000  # candidates above which their markers are small


@dataclass(frozen=True)
class FrontRow:
    """The front of one cost, in words; the fields are those of `FrontOf`."""

    cost: str
    is_saved: bool
    size: int
    in_common: int
    best: str
    accuracy: float
    value: str


@dataclass(frozen=True)
class Evaluated:
    """The fitness formula's numbers and the chart; `chart` is None before the first evaluation.

    `weights` says whose weights candidates are scored with, `num_stopped` how many were given up early,
    `num_drawn` how many of `num_evaluated` the chart shows. `fronts` is empty unless several costs are known.
    """

    template: ClassVar[str] = "evaluated.html.j2"
    scoring: str
    weights: str
    num_stopped: int
    cost: str
    reference: str
    spike_exponent: float
    missing: str
    num_evaluated: int
    num_drawn: int
    chart: Markup | None
    fronts: tuple[FrontRow, ...]


def evaluated(report: Report) -> Evaluated:
    """Prepares the chart of all evaluated architectures."""
    search = report.search
    scored = [row for row in search.evaluations if row.accuracy is not None and row.spikes is not None]
    return Evaluated(
        search.scoring,
        search.weights,
        search.course.num_stopped if search.course else 0,
        COST_NAMES[search.cost],
        fmt.cost(search.spikes_reference, search.cost),
        search.spike_exponent,
        report.stages.search.missing,
        search.num_evaluations,
        len(search.evaluations),
        _chart(search, scored, report.unit) if scored else None,
        tuple(_front_row(search, front) for front in search.fronts) if len(search.fronts) > 1 else (),
    )


def _front_row(search: Search, front: FrontOf) -> FrontRow:
    return FrontRow(
        COST_NAMES[front.cost],
        front.cost == search.cost,
        len(front.candidates),
        front.in_common,
        front.best,
        front.best_accuracy,
        fmt.cost(front.best_cost, front.cost),
    )


def _chart(search: Search, scored: Sequence[Candidate], unit: str) -> Markup:
    """Accuracy against cost (per `unit`): candidates, the Pareto front, the chosen one; a menu of costs."""
    figure = go.Figure()
    fronts = {front.cost: front.candidates for front in search.fronts} or {search.cost: search.pareto_front}
    numbers = [_add_traces(figure, search, scored, cost, fronts[cost]) for cost in fronts]
    figure.update_xaxes(tickformat="~s")
    percent_axis(figure)
    figure.update_yaxes(range=_padded([row.accuracy for row in scored if row.accuracy is not None]))
    titles = [f"{COST_NAMES[cost]} per {unit}" for cost in fronts]
    shown = [cost == search.cost for cost, number in zip(fronts, numbers, strict=True) for _ in range(number)]
    for trace, visible in zip(figure.data, shown, strict=True):
        trace.visible = visible
    if len(fronts) > 1:
        buttons = [
            {
                "label": title,
                "method": "update",
                "args": [
                    {"visible": [other == i for other, number in enumerate(numbers) for _ in range(number)]},
                    {"xaxis.title.text": title},
                ],
            }
            for i, title in enumerate(titles)
        ]
        menu = {"buttons": buttons, "active": list(fronts).index(search.cost), "x": 1, "y": 1.14}
        figure.update_layout(updatemenus=[menu])
    title = f"{COST_NAMES[search.cost]} per {unit}"
    return styled_chart(figure, "evaluations", title, "accuracy on D_val", height=480)


def _add_traces(
    figure: go.Figure, search: Search, scored: Sequence[Candidate], cost: CostName, front: Sequence[int]
) -> int:
    """Adds the traces of one cost; returns their number."""
    before, best = len(figure.data), search.best
    known = [row for row in scored if getattr(row, cost) is not None]
    if best is not None and best.fitness is not None and cost == search.cost:
        figure.add_trace(_iso_fitness(search, best, known))
    figure.add_trace(_front(front, known, cost))
    figure.add_trace(_candidates(known, cost))
    if best is not None:
        marker = {"symbol": "star", "size": 18, "color": ACCENT, "line": {"color": "white", "width": 1.5}}
        figure.add_trace(_points([best], "chosen", marker, cost))
    return len(figure.data) - before


def _iso_fitness(search: Search, best: ChosenCandidate, scored: Sequence[Candidate]) -> go.Scatter:
    """Curve A = A_best * (N / N_best) ** -lambda, along which the fitness is the chosen one's."""
    accuracy, spent = best.accuracy or 0.0, getattr(best, search.cost) or 0.0
    others = [value for row in scored if (value := getattr(row, search.cost) or 0.0) > 0]
    low, high = min([*others, spent]), max([*others, spent])
    x = [low + (high - low) * i / 60 for i in range(61)] if spent > 0 else []
    return go.Scatter(
        x=x,
        y=[accuracy * (n / spent) ** -search.spike_exponent for n in x],
        mode="lines",
        line={"color": ACCENT, "width": 1, "dash": "dash"},
        name="same fitness as the chosen one",
        hoverinfo="skip",
    )


def _front(members: Sequence[int], scored: Sequence[Candidate], cost: CostName) -> go.Scatter:
    """The Pareto front as steps."""
    ids = set(members)
    front = sorted((row for row in scored if row.candidate_id in ids), key=lambda row: getattr(row, cost))
    return go.Scatter(
        x=[getattr(row, cost) for row in front],
        y=[row.accuracy for row in front],
        mode="lines",
        line={"color": INK, "width": 1.5, "shape": "hv"},
        name="Pareto front",
        hoverinfo="skip",
    )


def _candidates(scored: Sequence[Candidate], cost: CostName) -> go.Scatter:
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
    return _points(scored, "evaluated", marker, cost)


def _points(
    rows: Sequence[Candidate | ChosenCandidate], name: str, marker: dict[str, Any], cost: CostName
) -> go.Scatter:
    return go.Scatter(
        x=[getattr(row, cost) for row in rows],
        y=[row.accuracy for row in rows],
        customdata=[
            [html.escape(row.architecture), row.fitness, row.generation, row.candidate_id] for row in rows
        ],
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>accuracy %{y:.1%}<br>cost %{x:,.6~g}<br>"
            "fitness %{customdata[1]:.4f}<br>generation %{customdata[2]}, candidate %{customdata[3]}"
            "<extra></extra>"
        ),
    )


def _padded(values: Sequence[float]) -> list[float]:
    """Range of an axis that shows the values with a margin."""
    margin = 0.08 * (max(values) - min(values)) or 0.02
    return [min(values) - margin, max(values) + 1.5 * margin]
