"""The style of the report's plotly charts; a chart becomes a <div> that the page's plotly.js fills."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

ACCENT = "#d9480f"
INK = "#1e293b"
MUTED = "#64748b"
PERCENT_TICKS = ".3~p"
_GRID = "#e8ecf2"
_LINE_COLOURS = [ACCENT, "#1e3a5f", "#7b93b5", "#94a3b8", "#475569", "#b45309"]
_SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross"]
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def line_style(index: int) -> dict[str, Any]:
    """Colour and symbol of the line at an index of the legend, from 0; up to 36 are different."""
    turn, place = divmod(index, len(_LINE_COLOURS))
    colour, symbol = _LINE_COLOURS[place], _SYMBOLS[(place + turn) % len(_SYMBOLS)]
    return {"line": {"color": colour, "width": 2}, "marker": {"symbol": symbol, "size": 6}}


def percent_axis(figure: go.Figure) -> None:
    """Shows shares in [0, 1] on the vertical axis as percentages."""
    figure.update_yaxes(tickformat=PERCENT_TICKS)


def whole_ticks(number: int) -> int | None:
    """Distance of ticks on an axis of `number` whole steps; if they are few, plotly would mark halves."""
    return 1 if number <= 12 else None


def styled_chart(figure: go.Figure, name: str, x_title: str, y_title: str, *, height: int) -> Markup:
    """The chart in the report's style, as HTML; `name` is its id in the page."""
    _style(figure, x_title, y_title, height=height)
    text = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"chart-{name}",
        default_height=f"{height}px",
        config={"responsive": True, "displaylogo": False, "displayModeBar": False},
    )
    return Markup(f'<div class="chart">{text}</div>')  # plotly escapes what could end its <script>


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
    figure.update_yaxes(automargin=True, **axis)
    figure.update_yaxes(title_text=y_title, selector=lambda axis: axis.side != "right")
