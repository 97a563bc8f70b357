"""The report's section on what a table of the whole space says for certain, and how near searches come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from pipeline import formats as fmt
from pipeline.analysis.exact import (
    best_within,
    exact_front,
    exact_optima,
    holds_whole_space,
    lambda_intervals,
    studied_exponents,
)
from pipeline.analysis.replay import until_text
from pipeline.config.tree import Config
from pipeline.report.figures import line_style, styled_chart
from pipeline.report.page import escape, note, section, table, unit
from pipeline.storage.records import EvaluationRow, ReplayResult


def join_exact(
    config: Config,
    rows: Sequence[EvaluationRow],
    replayed: Sequence[ReplayResult],
    spikes_reference: float | None,
) -> dict[str, Any] | None:
    """The exact answers of a table and the replays on it; None unless it holds the whole space."""
    if spikes_reference is None or not holds_whole_space(rows, config.network.search_space()):
        return {"answers": None, "replay": replayed} if replayed else None
    budget = config.search.max_spikes
    answers = {
        "num_failed": sum(row.evaluation is None for row in rows),
        "front_size": len(exact_front(rows)),
        "optima": exact_optima(rows, spikes_reference, studied_exponents(config.search)),
        "max_spikes": budget,
        "best_within": None if budget is None else best_within(rows, budget),
        "lambda_intervals": lambda_intervals(rows),
    }
    return {"answers": answers, "replay": replayed}


def exact(report: dict[str, Any]) -> str:
    """Optimum of every lambda and regret of the searches; empty if the table is not that of a whole space."""
    joined = report["exact"]
    if joined is None:
        return ""
    answers = joined["answers"]
    body = _optima(answers, unit(report)) + _intervals(answers, unit(report)) if answers else ""
    intro = ""
    if answers:
        intro = (
            f"All {fmt.count(report['search']['space_size'])} architectures are evaluated: what follows "
            "is exact for the super-network's weights on D_val, no search can find better. "
            f"{fmt.count(answers['front_size'])} architectures are on the Pareto front."
        )
        if answers["num_failed"]:
            intro += f" {fmt.count(answers['num_failed'])} evaluations failed and are left out."
    return section("The whole space", intro, body + _replay(joined["replay"]))


def _optima(answers: dict[str, Any], sample: str) -> str:
    cells = [
        (
            escape(f"{point['spike_exponent']:g}"),
            _architecture(point),
            escape(fmt.percent(point["accuracy"])),
            escape(fmt.count(point["spikes"])),
            escape(f"{point['fitness']:.4f}"),
        )
        for point in answers["optima"]
    ]
    names = ("lambda", "best architecture", "accuracy on D_val", f"spikes per {sample}", "fitness")
    return "<h3>Optimum of each lambda</h3>" + table(names, cells, num_text=2) + _budget(answers, sample)


def _budget(answers: dict[str, Any], sample: str) -> str:
    if answers["max_spikes"] is None:
        return ""
    budget, best = fmt.count(answers["max_spikes"]), answers["best_within"]
    if best is None:
        return note(f"No architecture keeps the budget of {budget} spikes per {sample}.")
    return note(
        f"Highest accuracy within the budget of {budget} spikes per {sample}: {best['architecture']}, "
        f"{fmt.percent(best['accuracy'])} with {fmt.count(best['spikes'])} spikes."
    )


def _intervals(answers: dict[str, Any], sample: str) -> str:
    cells = [
        (
            escape(_range(interval["lambda_from"], interval["lambda_to"])),
            _architecture(interval),
            escape(fmt.percent(interval["accuracy"])),
            escape(fmt.count(interval["spikes"])),
        )
        for interval in reversed(answers["lambda_intervals"])
    ]
    names = ("lambda", "best architecture", "accuracy on D_val", f"spikes per {sample}")
    text = (
        "Which architecture is the optimum for which lambda: within a range a finer lambda changes nothing."
    )
    return "<h3>Optimum of every lambda</h3>" + note(text) + table(names, cells, num_text=2)


def _range(low: float | None, high: float) -> str:
    return f"below {high:.4f}" if low is None else f"{low:.4f} to {high:.4f}"


def _architecture(point: dict[str, Any]) -> str:
    return f"<code>{escape(point['architecture'])}</code>"


def _replay(results: Sequence[dict[str, Any]]) -> str:
    """Regret of each algorithm replayed on the table, as a table and against evaluations."""
    if not results:
        return ""
    cells = [
        (
            escape(result["algorithm"]),
            escape(fmt.count(result["budget"])),
            escape(fmt.count(result["num_seeds"])),
            _quartiles([f"{regret:.5f}" for regret in result["regret_quartiles"]]),
            escape(fmt.percent(result["found_share"])),
            _quartiles([until_text(n, result["budget"]) for n in result["evaluations_quartiles"]]),
        )
        for result in results
    ]
    names = ("algorithm", "evaluations", "seeds", "regret", "optimum found", "evaluations up to it")
    text = (
        "Each algorithm replayed on the table. Regret is the optimum's fitness "
        f"({results[0]['optimum_fitness']:.4f}) minus the best fitness found; medians over the seeds, with "
        "quartiles below."
    )
    return "<h3>Searches against the optimum</h3>" + note(text) + table(names, cells) + _chart(results)


def _quartiles(texts: Sequence[str]) -> str:
    low, median, high = map(escape, texts)
    return f"{median}<small>{low} \u2013 {high}</small>"


def _chart(results: Sequence[dict[str, Any]]) -> str:
    figure = go.Figure()
    for place, result in enumerate(results):
        figure.add_trace(
            go.Scatter(
                x=result["curve_evaluations"],
                y=result["mean_regret"],
                name=result["algorithm"],
                mode="lines+markers",
                hovertemplate="after %{x:,} evaluations: %{y:.5f}",
                **line_style(place),
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return styled_chart(figure, "regret", "evaluations", "mean regret of the fitness", height=380)
