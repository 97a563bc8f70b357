"""The head of the page: the result in one sentence, the stages, the main numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pipeline import formats as fmt
from pipeline.report.contents import Comparison, Report, Spread


@dataclass(frozen=True)
class Card:
    """A number with its label; `main` ones stand out."""

    value: str
    label: str
    main: bool = False


@dataclass(frozen=True)
class Head:
    """The title, and what a reader should know first.

    Attributes:
        run: Name of the run folder.
        config_name: Name of the run's config.
        result: The result in one sentence.
        simulated: Notes that say that the data are simulated; empty if there are none.
        doubts: Why the choice of the search is no better than another; empty if it is.
        stages: Name of each stage and whether it is finished.
        cards: The main numbers.
    """

    template: ClassVar[str] = "head.html.j2"
    run: str
    config_name: str
    result: str
    simulated: str
    doubts: tuple[str, ...]
    stages: tuple[tuple[str, bool], ...]
    cards: tuple[Card, ...]


def head(report: Report) -> Head:
    """Prepares the head of the page."""
    notes = report.events.splits_by_note() if report.events else {}
    return Head(
        run=report.run,
        config_name=report.config_name,
        result=result_sentence(report),
        simulated=" ".join(note for note in notes if "SIMULATED" in note),
        doubts=report.search.doubts,
        stages=tuple(
            (name, stage.done)
            for name, stage in (
                ("Super-network", report.stages.supernet),
                ("Search", report.stages.search),
                ("Retraining", report.stages.retrain),
            )
            if stage.needed
        ),
        cards=(*_retrained_cards(report), *_search_cards(report)),
    )


def result_sentence(report: Report) -> str:
    """The result of the run in one plain sentence."""
    search, best = report.search, report.search.best
    if best is None:
        return f"{fmt.count(search.num_evaluations)} architectures evaluated; the search is not finished."
    text = (
        f"Of {fmt.count(search.num_evaluations)} evaluated out of {fmt.count(search.space_size)} "
        f"architectures, {best.architecture} reaches {fmt.percent(best.accuracy)} on D_val with "
        f"{fmt.count(best.spikes)} spikes per {report.unit}, on {search.weights}"
    )
    row = _best_retrained(report)
    if row is None:
        return text + "; it is not retrained yet."
    if row.architecture != best.architecture:
        text += f"; of the first candidates {row.architecture} was best after a short training"
    num_seeds = len(row.seeds)
    return (
        f"{text}; retrained from scratch: {_spread_text(row.test_accuracy, fmt.percent, num_seeds)} "
        f"on the test set with {fmt.count(_mean(row.spikes))} spikes per {report.unit}"
        + (f", mean (and range) of {num_seeds} seeds." if num_seeds > 1 else ", one seed.")
    )


def _best_retrained(report: Report) -> Comparison | None:
    """The search's choice after retraining."""
    return next((row for row in report.comparison if row.label == "best"), None)


def _spread_text(spread: Spread | None, number: Callable[[float | None], str], num_seeds: int) -> str:
    """A mean; with several seeds minimum and maximum too."""
    if spread is None or num_seeds < 2:
        return number(_mean(spread))
    return f"{number(spread.mean)} ({number(spread.min)} \u2013 {number(spread.max)})"


def _mean(spread: Spread | None) -> float | None:
    return spread.mean if spread else None


def _retrained_cards(report: Report) -> list[Card]:
    row = _best_retrained(report)
    if row is None:
        return []
    return [
        Card(fmt.percent(_mean(row.test_accuracy)), "test accuracy, retrained", main=True),
        Card(fmt.count(_mean(row.spikes)), f"spikes per test {report.unit}", main=True),
        Card(fmt.energy(_mean(row.energy_joules)), f"estimated energy per {report.unit}"),
    ]


def _search_cards(report: Report) -> list[Card]:
    search, cards = report.search, []
    if search.best is not None:
        cards.append(Card(fmt.percent(search.best.accuracy), "accuracy on D_val in the search"))
        cards.append(Card(fmt.count(search.best.spikes), _against_random(report, search.best.spikes)))
    evaluated = f"of {fmt.count(search.space_size)} architectures evaluated"
    if report.cost.search:
        evaluated += f" in {fmt.duration(report.cost.search.wall_seconds)}"
    return [*cards, Card(fmt.count(search.num_evaluations), evaluated)]


def _against_random(report: Report, spikes: float | None) -> str:
    """How the chosen one's spikes compare with generation 0: random architectures, or the whole space.

    Not with spikes_reference, which was measured during training, with batch norm in another mode.
    """
    first = [row.spikes for row in report.search.evaluations if row.generation == 0 and row.spikes]
    if spikes is None or not first:
        return f"spikes per {report.unit} in the search"
    change = spikes / (sum(first) / len(first)) - 1
    share = fmt.percent(abs(change))
    mean = "the space" if report.search.algorithm == "exhaustive" else "generation 0"
    return f"spikes on D_val, {share} {'below' if change <= 0 else 'above'} the mean of {mean}"
