"""Training curves of the super-network and of the retrained networks."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import plotly.graph_objects as go
from markupsafe import Markup

from pipeline.report.contents import Report
from pipeline.report.figures import MUTED, PERCENT_TICKS, line_style, styled_chart, whole_ticks
from pipeline.storage.records import EpochRecord

_TICKS = {"number": None, "percent": PERCENT_TICKS, "spikes": "~s"}


@dataclass(frozen=True)
class CurveGroup:
    """The curves of one stage: charts beside each other, or why there are none."""

    title: str
    charts: tuple[Markup, ...] = ()
    missing: str = ""
    note: str = ""


@dataclass(frozen=True)
class Curves:
    """The training curves of the two stages that train."""

    template: ClassVar[str] = "curves.html.j2"
    groups: tuple[CurveGroup, ...]


def curves(report: Report) -> Curves:
    """Prepares the training curves."""
    return Curves((_supernet(report), _retrained(report)))


def _supernet(report: Report) -> CurveGroup:
    title, supernet = "Super-network", report.supernet
    if supernet is None:
        return CurveGroup(title, missing=report.stages.supernet.missing)
    if not supernet.history:
        return CurveGroup(title, note=f"No curve: the weights were imported from {supernet.source}.")
    histories = [("super-network", supernet.history)]
    charts = (
        _chart("supernet-loss", histories, lambda record: record.loss, "training loss"),
        _chart(
            "supernet-accuracy",
            histories,
            lambda record: record.train_accuracy,
            "training accuracy",
            kind="percent",
        ),
        _chart(
            "supernet-spikes",
            histories,
            lambda record: record.spikes,
            f"spikes per {report.unit}",
            kind="spikes",
            reference=supernet.spikes_reference,
        ),
    )
    return CurveGroup(title, charts)


def _retrained(report: Report) -> CurveGroup:
    title, missing = "Retrained networks", report.stages.retrain.missing
    histories = [(network.label, network.history) for network in report.retrained if network.history]
    if not histories:
        return CurveGroup(title, missing=missing, note="" if missing else "No curves were recorded.")
    charts = (
        _chart(
            "retrained-train",
            histories,
            lambda record: record.train_accuracy,
            "training accuracy",
            kind="percent",
        ),
        _chart(
            "retrained-val",
            histories,
            lambda record: record.val_accuracy,
            "validation accuracy",
            kind="percent",
        ),
    )
    return CurveGroup(title, charts)


def _chart(
    name: str,
    histories: Sequence[tuple[str, Sequence[EpochRecord]]],
    measure: Callable[[EpochRecord], float | None],
    title: str,
    *,
    kind: Literal["number", "percent", "spikes"] = "number",
    reference: float | None = None,
) -> Markup:
    """One measure against the epoch.

    Args:
        name: Id of the chart in the page.
        histories: (label, history) pairs; pairs of the same label share colour and legend entry.
        measure: What is drawn of an epoch; None where it was not measured.
        title: Title of the vertical axis.
        kind: Format of the measure; "percent" is for shares in [0, 1].
        reference: Height of a dashed horizontal line.
    """
    figure = go.Figure()
    labels = list(dict.fromkeys(label for label, _ in histories))
    value_format = ".1%" if kind == "percent" else ",.4~g"
    for i, (label, history) in enumerate(histories):
        points = [(record.epoch, value) for record in history if (value := measure(record)) is not None]
        figure.add_trace(
            go.Scatter(
                x=[epoch for epoch, _ in points],
                y=[value for _, value in points],
                name=html.escape(label),
                legendgroup=label,
                showlegend=len(labels) > 1 and label not in [earlier for earlier, _ in histories[:i]],
                mode="lines+markers",
                hovertemplate=f"epoch %{{x}}: %{{y:{value_format}}}",
                **line_style(labels.index(label)),
            )
        )
    if reference is not None:
        _mark(figure, reference)
    last = max((len(history) for _, history in histories), default=0)
    figure.update_xaxes(dtick=whole_ticks(last), tickformat="d")
    figure.update_yaxes(tickformat=_TICKS[kind])
    return styled_chart(figure, name, "epoch", title, height=300)


def _mark(figure: go.Figure, height: float) -> None:
    """A dashed line at N_avg, the reference of the fitness."""
    figure.add_hline(y=height, line={"color": MUTED, "dash": "dash", "width": 1})
    figure.add_annotation(text="reference", y=height, x=1, xref="paper", xanchor="right")
    figure.update_annotations(showarrow=False, yanchor="bottom", bgcolor="rgba(255,255,255,0.85)")
    figure.update_annotations(font={"color": MUTED, "size": 11})
