"""Turns the joined report into one HTML page that opens offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline import formats as fmt
from pipeline.report.drawing import network_drawing
from pipeline.report.events import recordings, simulated
from pipeline.report.exact import exact
from pipeline.report.figures import epoch_chart, evaluations_chart, fitness_chart
from pipeline.report.over_time import over_time
from pipeline.report.page import columns, escape, facts, missing, note, page, section, table, unit
from pipeline.report.provenance import STAGE_NAMES, cost, failures, provenance
from pipeline.storage.records import EventExamples


def render(report: dict[str, Any], examples: EventExamples | None = None) -> str:
    """The page of a report as made by `pipeline.report.join.join_report`; all text in it is escaped.

    Args:
        report: The joined report.
        examples: Samples to draw, where the data are events.
    """
    sections = (
        _head(report),
        recordings(report, examples),
        _evaluated(report),
        exact(report),
        _fitness(report),
        _chosen(report),
        _curves(report),
        _retrained(report),
        over_time(report),
        failures(report),
        cost(report),
        provenance(report),
    )
    return page(f"{report['run']} - architecture search", "\n".join(sections))


def result_sentence(report: dict[str, Any]) -> str:
    """The result of the run in one plain sentence."""
    search, best = report["search"], report["search"]["best"]
    if best is None:
        return f"{fmt.count(search['num_evaluations'])} architectures evaluated; the search is not finished."
    text = (
        f"Of {fmt.count(search['num_evaluations'])} evaluated out of {fmt.count(search['space_size'])} "
        f"architectures, {best['architecture']} reaches {fmt.percent(best['accuracy'])} on D_val with "
        f"{fmt.count(best['spikes'])} spikes per {unit(report)}, on the super-network's weights"
    )
    row = _best_retrained(report)
    if row is None:
        return text + "; it is not retrained yet."
    num_seeds = len(row["seeds"])
    return (
        f"{text}; retrained from scratch: {fmt.spread(row['test_accuracy'], fmt.percent, num_seeds)} "
        f"on the test set with {fmt.count(row['spikes']['mean'] if row['spikes'] else None)} spikes "
        f"per {unit(report)}"
        + (f", mean (and range) of {num_seeds} seeds." if num_seeds > 1 else ", one seed.")
    )


def _best_retrained(report: dict[str, Any]) -> dict[str, Any] | None:
    return next((row for row in report["comparison"] if row["label"] == "best"), None)


def _head(report: dict[str, Any]) -> str:
    stages = "".join(
        f'<li class="{"done" if stage["done"] else "open"}">{STAGE_NAMES[name]}: '
        f"{'done' if stage['done'] else 'not finished'}</li>"
        for name, stage in report["stages"].items()
    )
    config = escape(report["config_name"])
    return (
        f'<header><p class="eyebrow">Spike-aware architecture search, config {config}</p>'
        f'<h1>{escape(report["run"])}</h1><p class="lead">{escape(result_sentence(report))}</p>'
        f'{simulated(report)}<ul class="stages">{stages}</ul>'
        f'<div class="cards">{_cards(report)}</div></header>'
    )


def _cards(report: dict[str, Any]) -> str:
    search, best, row = report["search"], report["search"]["best"], _best_retrained(report)
    cards: list[tuple[str, str, bool]] = []
    if row is not None:
        mean = {key: (row[key] or {}).get("mean") for key in ("test_accuracy", "spikes", "energy_joules")}
        cards.append((fmt.percent(mean["test_accuracy"]), "test accuracy, retrained", True))
        cards.append((fmt.count(mean["spikes"]), f"spikes per test {unit(report)}", True))
        cards.append((fmt.energy(mean["energy_joules"]), f"estimated energy per {unit(report)}", False))
    if best is not None:
        cards.append((fmt.percent(best["accuracy"]), "accuracy on D_val in the search", False))
        cards.append((fmt.count(best["spikes"]), _against_random(search, unit(report)), False))
    evaluated = f"of {fmt.count(search['space_size'])} architectures evaluated"
    if report["cost"]["search"]:
        evaluated += f" in {fmt.duration(report['cost']['search']['wall_seconds'])}"
    cards.append((fmt.count(search["num_evaluations"]), evaluated, False))
    return "".join(
        f'<div class="card{" main" if main else ""}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label, main in cards
    )


def _evaluated(report: dict[str, Any]) -> str:
    search = report["search"]
    intro = (
        "Every architecture the search evaluated, scored on D_val with the super-network's weights. "
        f"The fitness is accuracy \u00d7 (spikes / {fmt.count(search['spikes_reference'])})^("
        f"{search['spike_exponent']}); the reference is the mean of random paths in the last epoch of the "
        "super-network's training: it scales every fitness alike and changes no ranking."
    )
    scored = any(row["accuracy"] is not None for row in search["evaluations"])
    chart = evaluations_chart(search, unit(report)) if scored else note("Nothing is evaluated yet.")
    return section("Accuracy against spikes", intro, missing(report, "search") + chart)


def _fitness(report: dict[str, Any]) -> str:
    generations = report["search"]["generations"]
    if report["search"]["algorithm"] == "exhaustive":
        return ""  # it has one generation, in the order of the space
    if not generations:
        return section("Fitness per generation", "", missing(report, "search"))
    intro = "Failed candidates are left out of best and mean."
    return section("Fitness per generation", intro, fitness_chart(generations))


def _chosen(report: dict[str, Any]) -> str:
    search, best = report["search"], report["search"]["best"]
    if best is None:
        return section("The chosen architecture", "", missing(report, "search"))
    time_steps = report["provenance"]["config"]["network"]["time_steps"]
    network_input = f"{'event frames' if report['events'] else 'image'}, {time_steps} time steps"
    orphan = "none" if search["algorithm"] == "exhaustive" else "none (drawn at random)"
    parents = ", ".join(str(parent) for parent in best["parents"]) or orphan
    pairs = [
        ("Architecture", best["architecture"]),
        (
            "Accuracy on D_val",
            f"{fmt.percent(best['accuracy'])} of {fmt.count(best['num_samples'])} {unit(report)}s",
        ),
        (f"Spikes per {unit(report)}", fmt.count(best["spikes"])),
        ("Firing rate", fmt.percent(best["firing_rate"])),
        ("Fitness", fmt.NOT_MEASURED if best["fitness"] is None else f"{best['fitness']:.4f}"),
        ("Candidate", f"{best['candidate_id']}, generation {best['generation']}"),
        ("Parents", parents),
        ("Search algorithm", search["algorithm"]),
    ]
    intro = (
        f"Spikes per {unit(report)} and firing rates (spikes per neuron and time step) on D_val, "
        "part by part."
    )
    drawing = network_drawing(search["network"], network_input)
    return section(
        "The chosen architecture", intro, f'<div class="split"><div>{drawing}</div>{facts(pairs)}</div>'
    )


def _curves(report: dict[str, Any]) -> str:
    return section("Training curves", "", _supernet_curves(report) + _retrained_curves(report))


def _supernet_curves(report: dict[str, Any]) -> str:
    supernet = report["supernet"]
    title = "<h3>Super-network</h3>"
    if supernet is None:
        return title + missing(report, "supernet")
    if not supernet["history"]:
        return title + note(f"No curve: the weights were imported from {supernet['source']}.")
    series = [("super-network", supernet["history"])]
    mean = ("reference", supernet["spikes_reference"])
    charts = (
        epoch_chart("supernet-loss", series, "loss", "training loss"),
        epoch_chart("supernet-accuracy", series, "train_accuracy", "training accuracy", percent=True),
        epoch_chart("supernet-spikes", series, "spikes", f"spikes per {unit(report)}", reference=mean),
    )
    return title + columns(charts)


def _retrained_curves(report: dict[str, Any]) -> str:
    title = "<h3>Retrained networks</h3>"
    series = [(entry["label"], entry["history"]) for entry in report["retrained"] if entry["history"]]
    if not series:
        return title + (missing(report, "retrain") or note("No curves were recorded."))
    charts = (
        epoch_chart("retrained-train", series, "train_accuracy", "training accuracy", percent=True),
        epoch_chart("retrained-val", series, "val_accuracy", "validation accuracy", percent=True),
    )
    return title + columns(charts)


def _retrained(report: dict[str, Any]) -> str:
    rows = report["comparison"]
    if not rows:
        return section("Retrained from scratch", "", missing(report, "retrain"))
    intro = (
        "The epoch is chosen on held-out training samples; the test set is then measured once. Means, with "
        "minimum and maximum where there are several seeds. Energy counts operations only, no memory."
    )
    cells = [
        (
            f"<b>{escape(row['label'])}</b><small><code>{escape(row['architecture'])}</code></small>",
            escape(", ".join(map(str, row["seeds"]))),
            escape(", ".join(map(str, row["chosen_epochs"]))),
            _spread_cell(row, "test_accuracy", fmt.percent),
            _spread_cell(row, "spikes", fmt.count),
            _spread_cell(row, "firing_rate", fmt.percent, ranged=False),
            _spread_cell(row, "synops", fmt.large, ranged=False),
            _spread_cell(row, "energy_joules", fmt.energy, ranged=False),
            escape(fmt.count(row["num_parameters"])),
        )
        for row in rows
    ]
    names = ("chosen as", "seeds", "epochs", "test accuracy", "spikes", "firing rate")
    summary = table((*names, "SynOps", "energy", "parameters"), cells, num_text=3)
    return section(
        "Retrained from scratch", intro, missing(report, "retrain") + summary + _paper_protocol(rows)
    )


def _paper_protocol(rows: Sequence[dict[str, Any]]) -> str:
    measured = [row for row in rows if row["paper_accuracy"]]
    if not measured:
        return ""
    cells = [
        (
            escape(row["label"]),
            _spread_cell(row, "paper_accuracy", fmt.percent),
            _spread_cell(row, "paper_spikes", fmt.count),
        )
        for row in measured
    ]
    intro = "Optimistic: the epoch is chosen on the test set itself. For comparison with the paper only."
    summary = table(("chosen as", "best test epoch", "spikes"), cells, num_text=1)
    return f"<h3>The paper's protocol (optimistic)</h3>{note(intro)}{summary}"


def _spread_cell(
    row: dict[str, Any], key: str, number: Callable[[float | None], str], *, ranged: bool = True
) -> str:
    """A mean, with its range below where there are several seeds."""
    values, num_seeds = row[key], len(row["seeds"])
    mean = escape(fmt.spread(values, number, 1))
    if values is None or not ranged or num_seeds < 2:
        return mean
    return f"{mean}<small>{escape(number(values['min']))} \u2013 {escape(number(values['max']))}</small>"


def _against_random(search: dict[str, Any], sample: str) -> str:
    """How the chosen one's spikes compare with generation 0: random architectures, or the whole space.

    Not with spikes_reference: that was measured while training, with batch norm in another mode.
    """
    spikes = search["best"]["spikes"]
    first = [row["spikes"] for row in search["evaluations"] if row["generation"] == 0 and row["spikes"]]
    if spikes is None or not first:
        return f"spikes per {sample} in the search"
    change = spikes / (sum(first) / len(first)) - 1
    share = fmt.percent(abs(change))
    mean = "the space" if search["algorithm"] == "exhaustive" else "generation 0"
    return f"spikes on D_val, {share} {'below' if change <= 0 else 'above'} the mean of {mean}"
