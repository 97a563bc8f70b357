"""The architecture the search chose: its measurements, and its network drawn from input to output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline import formats as fmt
from pipeline.report.contents import Report
from pipeline.report.contents_search import ChosenCandidate, Part


@dataclass(frozen=True)
class DrawnPart:
    """One part of the network as network.svg.j2 draws it: a box, and beside it a bar of its spikes.

    Attributes:
        name: Its name.
        block: Its block or fixed operation.
        channels: Its output channels in words; empty for the head.
        spikes: Its spikes and firing rate in words.
        share: Its share of the network's spikes in words; empty if it fires none.
        load: Its spikes relative to the part that fires most, in [0, 1].
    """

    name: str
    block: str
    channels: str
    spikes: str
    share: str
    load: float


@dataclass(frozen=True)
class Chosen:
    """The chosen architecture; without `parts`, but with what is missing, while the search is unfinished.

    Attributes:
        missing: What is missing and which command adds it.
        unit: What a sample is called.
        network_input: What the network's input is, in words.
        parts: The parts of the network from input to output.
        facts: Names and values of the measurements.
    """

    template: ClassVar[str] = "chosen.html.j2"
    missing: str
    unit: str
    network_input: str
    parts: tuple[DrawnPart, ...]
    facts: tuple[tuple[str, str], ...]


def chosen(report: Report) -> Chosen:
    """Prepares the chosen architecture."""
    search = report.search
    time_steps = report.provenance.config["network"]["time_steps"]
    return Chosen(
        missing=report.stages.search.missing,
        unit=report.unit,
        network_input=f"{'event frames' if report.events else 'image'}, {time_steps} time steps",
        parts=draw_network(search.network),
        facts=_facts(report, search.best) if search.best else (),
    )


def draw_network(parts: Sequence[Part]) -> tuple[DrawnPart, ...]:
    """Texts and bar lengths of the parts of a network."""
    most = max((part.spikes or 0.0 for part in parts), default=0.0) or 1.0
    total = sum(part.spikes or 0.0 for part in parts) or 1.0
    return tuple(_drawn(part, most, total) for part in parts)


def _drawn(part: Part, most: float, total: float) -> DrawnPart:
    spikes = part.spikes or 0.0
    rate = f" \u00b7 rate {fmt.percent(part.firing_rate)}" if part.firing_rate is not None else ""
    return DrawnPart(
        name=part.part.replace("_", " "),
        block=part.block,
        channels=f"{part.channels} ch" if part.channels else "",
        spikes=f"{fmt.count(spikes)}{rate}" if spikes else "0 spikes",
        share=f" \u00b7 {fmt.percent(spikes / total)} of all" if spikes else "",
        load=spikes / most,
    )


def _facts(report: Report, best: ChosenCandidate) -> tuple[tuple[str, str], ...]:
    search = report.search
    orphan = "none" if search.algorithm == "exhaustive" else "none (drawn at random)"
    accuracy = f"{fmt.percent(best.accuracy)} of {fmt.count(best.num_samples)} {report.unit}s"
    return (
        ("Architecture", best.architecture),
        ("Accuracy on D_val", accuracy),
        (f"Spikes per {report.unit}", fmt.count(best.spikes)),
        ("Firing rate", fmt.percent(best.firing_rate)),
        ("Fitness", fmt.NOT_MEASURED if best.fitness is None else f"{best.fitness:.4f}"),
        ("Candidate", f"{best.candidate_id}, generation {best.generation}"),
        ("Parents", ", ".join(map(str, best.parents)) or orphan),
        ("Search algorithm", search.algorithm),
        ("Probability of being the best scored", fmt.percent(search.probability_best)),
    )
