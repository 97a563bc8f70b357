"""The report's charts, made with plotly; a chart becomes a <div> that the page's plotly.js fills."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

ACCENT = "#d9480f"
INK = "#1e293b"
MUTED = "#64748b"
_GRID = "#e8ecf2"
_GENERATION_COLOURS = ["#c3cfe2", "#6d8fc0", "#16315c"]
_LINE_COLOURS = [ACCENT, "#1e3a5f", "#7b93b5", "#94a3b8", "#475569", "#b45309"]
_SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross"]
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PERCENT_TICKS = ".3~p"
_MANY = 1000  # candidates above which their markers are small


def evaluations_chart(search: dict[str, Any], unit: str) -> str:
    """Accuracy against spikes (per `unit`) of everything evaluated, the Pareto front, the chosen one."""
    scored = [row for row in search["evaluations"] if None not in (row["accuracy"], row["spikes"])]
    front_ids = set(search["pareto_front"])
    front = sorted((row for row in scored if row["candidate_id"] in front_ids), key=lambda r: r["spikes"])
    figure = go.Figure()
    best = search["best"]
    if best is not None and best["fitness"] is not None:
        figure.add_trace(_iso_fitness(search, scored))
    figure.add_trace(
        go.Scatter(
            x=[row["spikes"] for row in front],
            y=[row["accuracy"] for row in front],
            mode="lines",
            line={"color": INK, "width": 1.5, "shape": "hv"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    figure.add_trace(_candidates(scored))
    if best is not None:
        marker = {"symbol": "star", "size": 18, "color": ACCENT, "line": {"color": "white", "width": 1.5}}
        figure.add_trace(_points([best], "chosen", marker))
    figure.update_xaxes(tickformat="~s")
    percent_axis(figure)
    figure.update_yaxes(range=_padded([row["accuracy"] for row in scored]))
    return styled_chart(figure, "evaluations", f"spikes per {unit}", "accuracy on D_val", height=480)


def fitness_chart(generations: Sequence[dict[str, Any]]) -> str:
    """Best so far, best and mean fitness of each generation."""
    figure = go.Figure()
    for key, name, colour, dash in (
        ("best_so_far", "best so far", ACCENT, "solid"),
        ("best_fitness", "best of the generation", "#1e3a5f", "dot"),
        ("mean_fitness", "mean of the generation", "#7b93b5", "solid"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[g["generation"] for g in generations],
                y=[g[key] for g in generations],
                name=name,
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=f"generation %{{x}}<br>{name}: %{{y:.4f}}<extra></extra>",
            )
        )
    figure.update_xaxes(dtick=whole_ticks(len(generations)), tickformat="d")
    return styled_chart(figure, "fitness", "generation", "fitness", height=360)


def epoch_chart(
    name: str,
    series: Sequence[tuple[str, Sequence[dict[str, Any]]]],
    key: str,
    title: str,
    *,
    percent: bool = False,
    reference: tuple[str, float | None] = ("", None),
) -> str:
    """One measure against the epoch.

    Args:
        name: Id of the chart in the page.
        series: (label, history) pairs; pairs of the same label share colour and legend entry.
        key: Field of the epoch records that is drawn, where it was measured.
        title: Title of the vertical axis.
        percent: Whether the measure is a share in [0, 1].
        reference: Name and height of a dashed horizontal line.
    """
    figure = go.Figure()
    labels = list(dict.fromkeys(label for label, _ in series))
    for i, (label, history) in enumerate(series):
        points = [record for record in history if record[key] is not None]
        figure.add_trace(
            go.Scatter(
                x=[record["epoch"] for record in points],
                y=[record[key] for record in points],
                name=html.escape(label),
                legendgroup=label,
                showlegend=len(labels) > 1 and label not in [earlier for earlier, _ in series[:i]],
                mode="lines+markers",
                hovertemplate=f"epoch %{{x}}: %{{y:{'.1%' if percent else ',.4~g'}}}",
                **line_style(labels.index(label)),
            )
        )
    if reference[1] is not None:
        figure.add_hline(y=reference[1], line={"color": MUTED, "dash": "dash", "width": 1})
        figure.add_annotation(text=reference[0], y=reference[1], x=1, xref="paper", xanchor="right")
        figure.update_annotations(showarrow=False, yanchor="bottom", bgcolor="rgba(255,255,255,0.85)")
        figure.update_annotations(font={"color": MUTED, "size": 11})
    last = max((len(history) for _, history in series), default=0)
    figure.update_xaxes(dtick=whole_ticks(last), tickformat="d")
    figure.update_yaxes(tickformat=_PERCENT_TICKS if percent else "~s" if key == "spikes" else None)
    return styled_chart(figure, name, "epoch", title, height=300)


def line_style(place: int) -> dict[str, Any]:
    """Colour and symbol of the line at a place of the legend, from 0."""
    place %= len(_LINE_COLOURS)
    colour, symbol = _LINE_COLOURS[place], _SYMBOLS[place]
    return {"line": {"color": colour, "width": 2}, "marker": {"symbol": symbol, "size": 6}}


def percent_axis(figure: go.Figure) -> None:
    """Shares in [0, 1] on the vertical axis as percentages."""
    figure.update_yaxes(tickformat=_PERCENT_TICKS)


def whole_ticks(number: int) -> int | None:
    """Distance of ticks on an axis of `number` whole steps; without it plotly marks halves of few."""
    return 1 if number <= 12 else None


def styled_chart(figure: go.Figure, name: str, x_title: str, y_title: str, *, height: int) -> str:
    """The chart in the report's style, as HTML; `name` is its id in the page."""
    _style(figure, x_title, y_title, height=height)
    return _div(figure, name)


def _candidates(scored: Sequence[dict[str, Any]]) -> go.Scatter:
    scale = [[i / 2, colour] for i, colour in enumerate(_GENERATION_COLOURS)]
    colour_bar = {
        "title": {"text": "generation", "side": "right"},
        "thickness": 8,
        "outlinewidth": 0,
        "x": 1.01,
    }
    num_generations = len({row["generation"] for row in scored})
    colour_bar |= {"tickformat": "d", "len": 0.6, "dtick": whole_ticks(num_generations)}
    marker = {
        "size": 9 if len(scored) <= _MANY else 5,
        "color": [row["generation"] for row in scored],
        "colorscale": scale,
        "colorbar": colour_bar,
        "showscale": num_generations > 1,
        "line": {"color": "white", "width": 0.8},
    }
    return _points(scored, "evaluated", marker)


def _points(rows: Sequence[dict[str, Any]], name: str, marker: dict[str, Any]) -> go.Scatter:
    fields = ("architecture", "fitness", "generation", "candidate_id")
    return go.Scatter(
        x=[row["spikes"] for row in rows],
        y=[row["accuracy"] for row in rows],
        customdata=[[row[field] for field in fields] for row in rows],
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>accuracy %{y:.1%}<br>spikes %{x:,.0f}<br>"
            "fitness %{customdata[1]:.4f}<br>generation %{customdata[2]}, candidate %{customdata[3]}"
            "<extra></extra>"
        ),
    )


def _iso_fitness(search: dict[str, Any], scored: Sequence[dict[str, Any]]) -> go.Scatter:
    """Curve A = A_best * (N / N_best) ** -lambda, along which the fitness is the chosen one's."""
    best, spikes = search["best"], [row["spikes"] for row in scored if row["spikes"] > 0]
    low, high = min([*spikes, best["spikes"]]), max([*spikes, best["spikes"]])
    x = [low + (high - low) * i / 60 for i in range(61)] if best["spikes"] > 0 else []
    return go.Scatter(
        x=x,
        y=[best["accuracy"] * (n / best["spikes"]) ** -search["spike_exponent"] for n in x],
        mode="lines",
        line={"color": ACCENT, "width": 1, "dash": "dash"},
        name="same fitness as the chosen one",
        hoverinfo="skip",
    )


def _padded(values: Sequence[float]) -> list[float] | None:
    if not values:
        return None
    margin = 0.08 * (max(values) - min(values)) or 0.02
    return [min(values) - margin, max(values) + 1.5 * margin]


def _style(figure: go.Figure, x_title: str, y_title: str, *, height: int) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 58, "r": 16, "t": 34, "b": 46},
        font={"family": _FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.01, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        hoverlabel={"bgcolor": "white", "font": {"color": INK}},
    )
    axis = {"gridcolor": _GRID, "linecolor": "#cbd5e1", "zeroline": False, "title": {"standoff": 8}}
    figure.update_xaxes(title_text=x_title, **axis)
    figure.update_yaxes(title_text=y_title, automargin=True, **axis)


def _div(figure: go.Figure, name: str) -> str:
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"chart-{name}",
        default_height=f"{figure.layout.height}px",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    return f'<div class="chart">{text}</div>'
