"""What the retrained networks do over their time steps: accuracy and spikes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.report.contents import Report
from pipeline.report.figures import ACCENT, line_style, percent_axis, styled_chart, whole_ticks
from snn.fitness import TimeCourse

_WRITTEN_STEPS = 10  # with more, numbers do not fit into the heatmap's cells


@dataclass(frozen=True)
class NetworkCourse:
    """The time course of one retrained network."""

    label: str
    seed: int
    time_course: TimeCourse

    @property
    def num_steps(self) -> int:
        return len(self.time_course.accuracy)


@dataclass(frozen=True)
class OverTime:
    """Charts of the accuracy of all networks and of the spikes of one, `drawn`.

    Attributes:
        drawn: The network whose spikes are shown: the search's choice, else the first one.
        several_seeds: Whether some accuracies are means over seeds.
        charts: Accuracy if only the votes up to a step count; spikes of each part at each step.
    """

    template: ClassVar[str] = "over_time.html.j2"
    drawn: NetworkCourse
    several_seeds: bool
    charts: tuple[Markup, ...]


def over_time(report: Report) -> OverTime | None:
    """Prepares the time courses; None if none was measured."""
    courses = [NetworkCourse(n.label, n.seed, n.time_course) for n in report.retrained if n.time_course]
    if not courses:
        return None
    drawn = next((course for course in courses if course.label == "best"), courses[0])
    accuracies = _accuracies_by_label(courses)
    return OverTime(
        drawn,
        any(len(seeds) > 1 for seeds in accuracies.values()),
        (
            _accuracy_chart(accuracies, courses[0].num_steps),
            _spikes_chart(drawn, f"spikes per {report.unit} at each step"),
        ),
    )


def _accuracies_by_label(courses: Sequence[NetworkCourse]) -> dict[str, list[Sequence[float]]]:
    """Accuracies over the time steps, one sequence for each seed of a label."""
    accuracies: dict[str, list[Sequence[float]]] = {}
    for course in courses:
        accuracies.setdefault(course.label, []).append(course.time_course.accuracy)
    return accuracies


def _accuracy_chart(accuracies: dict[str, list[Sequence[float]]], num_steps: int) -> Markup:
    """Mean accuracy over the seeds of each label against the time steps used."""
    figure = go.Figure()
    for index, (label, seeds) in enumerate(accuracies.items()):
        means = [_mean(values) for values in zip(*seeds, strict=True)]
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(means) + 1)),
                y=means,
                name=html.escape(label),
                showlegend=len(accuracies) > 1,
                mode="lines+markers",
                hovertemplate="after %{x} time steps: %{y:.1%}",
                **line_style(index),
            )
        )
    figure.update_xaxes(dtick=whole_ticks(num_steps), tickformat="d")
    percent_axis(figure)
    return styled_chart(figure, "time-accuracy", "time steps used", "accuracy, held out", height=360)


def _spikes_chart(course: NetworkCourse, title: str) -> Markup:
    """Parts from input to output, downwards, against the time step."""
    spikes, num_steps = course.time_course.spikes, course.num_steps
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
    figure.update_layout(title={"text": title, "font": {"size": 12}, "x": 0.5, "y": 0.98})
    return styled_chart(figure, "time-spikes", "time step", "", height=360)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
