"""The cluster's nodes over time, beside the evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.report.contents import Report
from pipeline.report.figures import ACCENT, styled_chart, whole_ticks
from pipeline.storage.cluster_records import ClusterSample


@dataclass(frozen=True)
class Cluster:
    """The chart, and the most that the cluster had at once."""

    template: ClassVar[str] = "cluster.html.j2"
    most_nodes: int
    most_cpus: float
    most_gpus: float
    chart: Markup


def cluster(report: Report) -> Cluster | None:
    """Prepares the cluster's course; None if the run used one machine alone."""
    samples = report.cluster
    if not samples:
        return None
    return Cluster(
        most_nodes=max(sample.nodes for sample in samples),
        most_cpus=max(sample.cpus for sample in samples),
        most_gpus=max(sample.gpus for sample in samples),
        chart=_chart(samples),
    )


def _chart(samples: Sequence[ClusterSample]) -> Markup:
    """Nodes on the left axis, evaluations on the right one, over the minutes since the run's start."""
    minutes = [(sample.time - samples[0].time) / 60 for sample in samples]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=minutes,
            y=[sample.nodes for sample in samples],
            name="nodes",
            mode="lines",
            line={"color": "#1e3a5f", "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(123, 147, 181, 0.25)",
            hovertemplate="%{x:.1f} min<br>%{y} nodes<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=minutes,
            y=[sample.evaluations for sample in samples],
            name="evaluations",
            mode="lines",
            line={"color": ACCENT, "width": 2},
            yaxis="y2",
            hovertemplate="%{x:.1f} min<br>%{y:,} evaluations<extra></extra>",
        )
    )
    figure.update_yaxes(dtick=whole_ticks(max(sample.nodes for sample in samples)))
    figure.update_layout(
        yaxis2={"title": {"text": "evaluations"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    )
    return styled_chart(figure, "cluster", "minutes since the start", "nodes", height=320)
