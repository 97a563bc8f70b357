"""What each block in each layer costs and brings, over the whole space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from pipeline.analysis.effects import Effects, Measure
from pipeline.formats import COST_NAMES
from pipeline.report.contents import Report
from pipeline.report.figures import INK, line_style, styled_chart

_MOST_IN_WORDS = 8  # columns of a map whose values are written into it
_SCALE = [[0.0, "#1e3a5f"], [0.5, "#f8fafc"], [1.0, "#d9480f"]]


@dataclass(frozen=True)
class BlockEffects:
    """Charts of main effects and of pairs; `pairs` is None for a single layer.

    `cost` names what is saved; `shares` are the variances that main effects and pairs explain, by measure.
    """

    template: ClassVar[str] = "effects.html.j2"
    unit: str
    cost: str
    shares: tuple[tuple[str, float, float], ...]
    scatter: Markup
    main: Markup
    pairs: Markup | None


def effects(report: Report) -> BlockEffects | None:
    """Prepares the effects; None without a table of the whole space."""
    answers = report.exact.answers if report.exact else None
    if answers is None or answers.effects is None:
        return None
    found, cost = answers.effects, COST_NAMES[answers.cost]
    return BlockEffects(
        report.unit,
        cost,
        tuple(
            (name, measure.main_share, measure.pair_share)
            for name, measure in (("accuracy", found.accuracy), (cost, found.cost))
        ),
        _scatter(found, f"{cost} per {report.unit}"),
        _main(found, cost),
        _pairs(found, cost) if found.pairs else None,
    )


def _scatter(found: Effects, cost: str) -> Markup:
    """Accuracy against cost of each block in each layer, as differences from the mean of the space."""
    figure = go.Figure()
    layers = range(len(found.accuracy.main))
    for index, block in enumerate(found.blocks):
        style = line_style(index)
        figure.add_trace(
            go.Scatter(
                x=[found.cost.main[layer][index] for layer in layers],
                y=[found.accuracy.main[layer][index] for layer in layers],
                mode="markers+text",
                text=[str(layer) for layer in layers],
                textposition="middle right",
                textfont={"size": 10, "color": INK},
                name=block,
                marker={**style["marker"], "size": 11, "color": style["line"]["color"]},
                hovertemplate=f"{block} in layer %{{text}}<br>accuracy %{{y:+.2%}}<br>cost %{{x:+,.4s}}",
            )
        )
    figure.update_xaxes(tickformat="+~s", zeroline=True)
    figure.update_yaxes(tickformat="+.1%", zeroline=True)
    return styled_chart(
        figure, "effects", f"{cost}, against the mean", "accuracy, against the mean", height=440
    )


def _main(found: Effects, cost: str) -> Markup:
    """The same as two maps: blocks down, layers across."""
    names = [f"layer {layer}" for layer in range(len(found.accuracy.main))]
    figure = make_subplots(cols=2, horizontal_spacing=0.14, subplot_titles=("accuracy", cost))
    for column, (measure, form) in enumerate(((found.accuracy, "+.1%"), (found.cost, "+,.3s")), start=1):
        values = [list(row) for row in zip(*measure.main, strict=True)]
        figure.add_trace(_map(names, found.blocks, values, form), row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    return styled_chart(figure, "main-effects", "", "", height=80 + 34 * len(found.blocks))


def _pairs(found: Effects, cost: str) -> Markup:
    """For a pair of layers, chosen by a menu, what their blocks do together beyond their main effects."""
    figure = make_subplots(cols=2, horizontal_spacing=0.14, subplot_titles=("accuracy", cost))
    for number in range(len(found.pairs)):
        for column, (measure, form) in enumerate(((found.accuracy, "+.2%"), (found.cost, "+,.3s")), start=1):
            values = [list(row) for row in measure.pairs[number]]
            trace = _map(found.blocks, found.blocks, values, form, bound=_largest(measure))
            trace.visible = number == 0
            figure.add_trace(trace, row=1, col=column)
    buttons = [
        {
            "label": f"layer {first} (down) and layer {second} (across)",
            "method": "update",
            "args": [{"visible": [i // 2 == number for i in range(2 * len(found.pairs))]}],
        }
        for number, (first, second) in enumerate(found.pairs)
    ]
    size = 90 + 34 * len(found.blocks)  # of the maps, in pixels
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1 + 110 / size, "yanchor": "top"}
    figure.update_layout(updatemenus=[menu])
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(automargin=True)
    return styled_chart(figure, "pair-effects", "", "", height=size + 90)


def _map(
    across: Sequence[str],
    down: Sequence[str],
    values: list[list[float]],
    form: str,
    *,
    bound: float | None = None,
) -> go.Heatmap:
    """A map of signed values, white at 0; `form` is their format."""
    bound = bound or max((abs(value) for row in values for value in row), default=0.0) or 1.0
    return go.Heatmap(
        x=list(across),
        y=list(down),
        z=values,
        zmin=-bound,
        zmax=bound,
        colorscale=_SCALE,
        showscale=False,
        texttemplate=f"%{{z:{form}}}" if len(across) <= _MOST_IN_WORDS else None,
        textfont={"size": 11},
        hovertemplate=f"%{{y}}, %{{x}}: %{{z:{form}}}<extra></extra>",
        xgap=2,
        ygap=2,
    )


def _largest(measure: Measure) -> float:
    """The largest interaction, so that the maps of all pairs have one scale."""
    return max(abs(value) for pair in measure.pairs for row in pair for value in row)
