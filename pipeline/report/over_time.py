"""The report's section on what the retrained networks do over their time steps."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from pipeline.report.figures import ACCENT, line_style, percent_axis, styled_chart, whole_ticks
from pipeline.report.page import columns, note, section, unit

_WRITTEN_STEPS = 10  # with more, numbers do not fit into the heatmap's cells


def over_time(report: dict[str, Any]) -> str:
    """Accuracy and spikes over the time steps; empty if no retrained network has them measured."""
    measured = [entry for entry in report["retrained"] if entry["time_course"]]
    if not measured:
        return ""
    drawn = next((entry for entry in measured if entry["label"] == "best"), measured[0])
    intro = (
        f"How many of its {len(drawn['time_course']['accuracy'])} time steps a network needs: its accuracy "
        "if only the votes up to a step count, and when its layers fire. Measured on the samples held out "
        "of retraining, on which the epoch was chosen too; not on the test set."
    )
    charts = (_accuracy_chart(measured), _spikes_chart(drawn, f"spikes per {unit(report)}"))
    several = any(len(group) > 1 for group in _by_label(measured).values())
    text = f"Spikes are those of {drawn['label']}, seed {drawn['seed']}."
    return section(
        "Over time",
        intro,
        columns(charts) + note(("Accuracies are means over the seeds. " if several else "") + text),
    )


def _by_label(entries: Sequence[dict[str, Any]]) -> dict[str, list[Sequence[float]]]:
    """Accuracies over the time steps of each label, a sequence for each seed."""
    courses: dict[str, list[Sequence[float]]] = {}
    for entry in entries:
        courses.setdefault(entry["label"], []).append(entry["time_course"]["accuracy"])
    return courses


def _accuracy_chart(entries: Sequence[dict[str, Any]]) -> str:
    figure = go.Figure()
    groups = _by_label(entries)
    for place, (label, courses) in enumerate(groups.items()):
        means = [_mean(values) for values in zip(*courses, strict=True)]
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(means) + 1)),
                y=means,
                name=html.escape(label),
                showlegend=len(groups) > 1,
                mode="lines+markers",
                hovertemplate="after %{x} time steps: %{y:.1%}",
                **line_style(place),
            )
        )
    num_steps = len(entries[0]["time_course"]["accuracy"])
    figure.update_xaxes(dtick=whole_ticks(num_steps), tickformat="d")
    percent_axis(figure)
    return styled_chart(figure, "time-accuracy", "time steps used", "accuracy, held out", height=360)


def _spikes_chart(entry: dict[str, Any], title: str) -> str:
    """Parts from input to output, downwards, against the time step."""
    spikes: dict[str, Sequence[float | None]] = entry["time_course"]["spikes"]
    num_steps = len(entry["time_course"]["accuracy"])
    figure = go.Figure(
        go.Heatmap(
            x=list(range(1, num_steps + 1)),
            y=[html.escape(part.replace("_", " ")) for part in spikes],
            z=list(spikes.values()),
            zmin=0,
            xgap=2,
            ygap=2,
            colorscale=[[0, "#f4f6f9"], [1, ACCENT]],
            colorbar={"thickness": 8, "outlinewidth": 0, "x": 1.01, "tickformat": "~s"},
            texttemplate="%{z:.2~s}" if num_steps <= _WRITTEN_STEPS else None,
            hovertemplate="%{y}, time step %{x}<br>%{z:,.0f} spikes<extra></extra>",
        )
    )
    figure.update_xaxes(dtick=whole_ticks(num_steps), tickformat="d", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(title={"text": f"{title} at each step", "font": {"size": 12}, "x": 0.5, "y": 0.98})
    return styled_chart(figure, "time-spikes", "time step", "", height=360)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
