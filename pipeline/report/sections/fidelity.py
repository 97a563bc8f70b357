"""Does the search's score rank architectures as training from scratch does?"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.subplots import make_subplots

from pipeline.analysis.rank_fidelity import MEASURES, retrained
from pipeline.report.contents import Report
from pipeline.report.figures import ACCENT, percent_axis, styled_chart
from pipeline.storage.fidelity_records import Choice, Estimate, Fidelity, Measure, StudiedArchitecture

_COLOURS = {"random": "#7b93b5", "best": ACCENT}
_NAMED = "#1e3a5f"


@dataclass(frozen=True)
class AgreementRow:
    """A score with Kendall's tau of each measure; None where the score says nothing.

    `training_samples` are those that a search of the run's length trains on with it; None if unknown.
    """

    score: str
    training_samples: int | None
    taus: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class RankFidelity:
    """The study: one row a score, what a perfect score would reach, what believing each costs, scatter plots.

    Attributes:
        num_random: Architectures drawn at random.
        num_named: The others.
        num_seeds: Trainings of each.
        measures: The columns of the rows.
        noise: Names of the scores whose interval for accuracy includes 0: they may rank by chance.
        by_cost: Kendall's tau of accuracy against training samples; None if these are unknown.
        charts: One for each score with accuracies.
    """

    template: ClassVar[str] = "fidelity.html.j2"
    num_random: int
    num_named: int
    num_seeds: int
    measures: tuple[Measure, ...]
    rows: tuple[AgreementRow, ...]
    ceilings: tuple[float | None, ...]
    choices: tuple[Choice, ...]
    noise: tuple[str, ...]
    by_cost: Markup | None
    charts: tuple[Markup, ...]


def fidelity(report: Report) -> RankFidelity | None:
    """Prepares the study; None if there was none."""
    study = report.fidelity
    if study is None:
        return None
    taus = {(one.score, one.measure): one.tau for one in study.agreements}
    scores = list(dict.fromkeys(one.score for one in study.agreements))
    num_random = sum(one.label == "random" for one in study.architectures)
    accuracy_taus = ((score, taus.get((score, "accuracy"))) for score in scores)
    return RankFidelity(
        num_random=num_random,
        num_named=len(study.architectures) - num_random,
        num_seeds=len(study.seeds),
        measures=MEASURES,
        rows=tuple(
            AgreementRow(
                score,
                study.training_samples.get(score),
                tuple(taus.get((score, measure)) for measure in MEASURES),
            )
            for score in scores
        ),
        ceilings=tuple(study.ceilings.get(measure) for measure in MEASURES),
        choices=study.choices,
        noise=tuple(score for score, tau in accuracy_taus if tau is None or tau.low <= 0),
        by_cost=_by_cost(study) if study.training_samples else None,
        charts=tuple(_chart(study, score) for score in scores if (score, "fitness") in taus),
    )


def _by_cost(study: Fidelity) -> Markup:
    """Kendall's tau of accuracy of each score, in the order of what a search trains on with it."""
    agreements = [a for a in study.agreements if a.measure == "accuracy" and a.tau is not None]
    agreements.sort(key=lambda one: study.training_samples.get(one.score, 0))
    samples = [f"{study.training_samples.get(one.score, 0):,}" for one in agreements]
    labels = [f"{html.escape(a.score)}<br>{number}" for a, number in zip(agreements, samples, strict=True)]
    taus = [one.tau for one in agreements if one.tau is not None]
    figure = go.Figure(
        go.Scatter(
            x=labels,
            y=[tau.value for tau in taus],
            error_y={
                "type": "data",
                "array": [tau.high - tau.value for tau in taus],
                "arrayminus": [tau.value - tau.low for tau in taus],
                "thickness": 1,
            },
            mode="markers",
            marker={
                "size": 9,
                "color": [ACCENT if one.score.startswith("trained_") else _NAMED for one in agreements],
            },
            customdata=[html.escape(one.score) for one in agreements],
            showlegend=False,
            hovertemplate="<b>%{customdata}</b><br>tau %{y:.2f}<extra></extra>",
        )
    )
    figure.add_hline(y=0, line={"color": "#9aa7b5", "width": 1})
    if ceiling := study.ceilings.get("accuracy"):
        figure.add_hline(y=ceiling, line={"dash": "dot", "color": "#9aa7b5"}, annotation_text="perfect score")
    figure.update_xaxes(tickangle=-90, automargin=True)
    title = "score, and the samples that a search trains on with it"
    return styled_chart(figure, "fidelity-cost", title, "Kendall's tau of accuracy", height=480)


def _chart(study: Fidelity, score: str) -> Markup:
    """Accuracy and spikes by the score, against those after training from scratch."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    measures: tuple[Measure, ...] = ("accuracy", "spikes")
    for column, measure in enumerate(measures, start=1):
        for name in ("random", "named", "best"):
            chosen = [one for one in study.architectures if _group(one) == name]
            figure.add_trace(
                go.Scatter(
                    x=[getattr(one.scores[score], measure) for one in chosen],
                    y=[retrained(one, measure) for one in chosen],
                    mode="markers",
                    name={"best": "the search's choice"}.get(name, name),
                    legendgroup=name,
                    showlegend=column == 1 and bool(chosen),
                    marker={
                        "color": _COLOURS.get(name, _NAMED),
                        "size": 16 if name == "best" else 9,
                        "symbol": "star" if name == "best" else "circle",
                        "line": {"color": "white", "width": 0.8},
                    },
                    customdata=[[html.escape(one.architecture), html.escape(one.label)] for one in chosen],
                    hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<br>%{x} by the score, %{y} "
                    "retrained<extra></extra>",
                ),
                row=1,
                col=column,
            )
    percent_axis(figure)
    figure.update_yaxes(tickformat="~s", row=1, col=2)
    figure.update_xaxes(tickformat="~s", row=1, col=2)
    figure.update_xaxes(tickformat=".3~p", row=1, col=1)
    figure.update_layout(xaxis2_title_text=f"spikes by {score}")
    return styled_chart(figure, f"fidelity-{score}", f"accuracy by {score}", "retrained", height=360)


def _group(one: StudiedArchitecture) -> str:
    return one.label if one.label in ("random", "best") else "named"
