"""Renders the joined report as one HTML page that opens offline."""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline import formats
from pipeline.report import figures
from pipeline.report.contents import Report
from pipeline.report.sections.chosen import chosen
from pipeline.report.sections.cluster import cluster
from pipeline.report.sections.cost import cost
from pipeline.report.sections.curves import curves
from pipeline.report.sections.effects import effects
from pipeline.report.sections.evaluated import evaluated
from pipeline.report.sections.failures import failures
from pipeline.report.sections.fidelity import fidelity
from pipeline.report.sections.fitness import fitness
from pipeline.report.sections.head import head
from pipeline.report.sections.over_time import over_time
from pipeline.report.sections.provenance import provenance
from pipeline.report.sections.recordings import recordings
from pipeline.report.sections.retrained import retrained
from pipeline.report.sections.whole_space import whole_space
from pipeline.storage.records import EventExamples


class Section(Protocol):
    """What a section's dataclass has besides its contents: the file in templates/ that shows it."""

    template: ClassVar[str]


def render_page(report: Report, examples: EventExamples | None = None) -> str:
    """The page of a report as HTML; all text in it is escaped.

    Args:
        report: The joined report.
        examples: Samples to draw if the data are events.
    """
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=f"{report.run} - architecture search",
            sections=sections(report, examples),
            colours={"accent": figures.ACCENT, "ink": figures.INK, "muted": figures.MUTED},
            plotly_js=Markup(get_plotlyjs()),
        )
    )


def sections(report: Report, examples: EventExamples | None = None) -> list[Section]:
    """The sections of the page from top to bottom; those with nothing to show are left out."""
    prepared: list[Section | None] = [
        head(report),
        recordings(report, examples),
        evaluated(report),
        whole_space(report),
        effects(report),
        fitness(report),
        chosen(report),
        curves(report),
        retrained(report),
        fidelity(report),
        over_time(report),
        failures(report),
        cost(report),
        cluster(report),
        provenance(report),
    ]
    return [section for section in prepared if section is not None]


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["fmt"] = formats
    return environment
