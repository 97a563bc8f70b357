"""What of a run is finished, known from its folder alone: no torch, no Ray and no data set is opened."""

from __future__ import annotations

import json

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.formats import duration
from pipeline.storage.cluster_records import THIS_MACHINE, NodeTime, StageTime
from pipeline.storage.files import read_bytes
from pipeline.storage.names import CONFIG, REPORT_HTML, REPORT_JSON, metrics_of
from pipeline.storage.run_folder import RunFolder
from snn.search_space import Architecture

TITLES = {"train-supernet": "1/3 super-network", "search": "2/3 search", "retrain": "3/3 retraining"}
"""The stages of a run, by their commands, as the terminal calls them."""


def planned_networks(config: Config) -> list[tuple[str, int]]:
    """(label, seed) of each network that is retrained; its number is its index."""
    return [(label, seed) for label in config.retrain.architectures for seed in config.retrain.seeds]


def named_architecture(run: RunFolder, config: Config, label: str) -> Architecture:
    """The architecture of a label; "best" is the search's choice."""
    return config.network.parse_architecture(run.chosen_architecture() if label == "best" else label)


def unfinished_networks(run: RunFolder, config: Config) -> list[int]:
    """Numbers of the networks that are still to be retrained.

    Raises:
        FileNotFoundError: The weights of a finished one are missing.
        ValueError: Its files are damaged or of other settings, or it is not what the search chose.
    """
    finished = run.retrained_numbers()
    unfinished = []
    for number, (label, _) in enumerate(planned_networks(config)):
        if number not in finished:
            unfinished.append(number)
            continue
        run.retrained_weights(number)
        there, chosen = run.read_retrained(number).architecture, named_architecture(run, config, label)
        if there != str(chosen):
            raise ValueError(
                f"'{run.shown(metrics_of(number))}' is of {there}, but '{label}' is {chosen}. Restore the "
                "file that belongs to it, or delete this one to train again."
            )
    return unfinished


def skipped(config: Config) -> dict[str, str]:
    """The stages that a run of these settings goes without, and why."""
    if config.search.needs_supernet:
        return {}
    return {"train-supernet": f"search.scoring is {config.search.scoring}"}


def is_finished(stage: str, run: RunFolder, config: Config) -> bool:
    """Whether all results of a stage exist; raises if one of them is damaged."""
    if stage == "train-supernet":
        return run.has_supernet()
    return run.has_best() if stage == "search" else not unfinished_networks(run, config)


def say_if_finished(run: RunFolder, config: Config) -> bool:
    """Whether a run of these settings has nothing left to do, its report included; if so, says so.

    Raises:
        ValueError: Files are damaged or of other settings.
    """
    try:
        if not _is_whole(run, config):
            return False
    except OSError:  # the stages say what is missing, and wait for a store that is away
        return False
    for stage, title in TITLES.items():
        reason = skipped(config).get(stage)
        say(f"{title}: skipped, as {reason}" if reason else f"{title}: already finished")
    say_report(run)
    return True


def _is_whole(run: RunFolder, config: Config) -> bool:
    if not run.files.exists(CONFIG) or not _has_current_report(run):
        return False
    run.check(config)
    return all(is_finished(stage, run, config) for stage in TITLES if stage not in skipped(config))


def say_report(run: RunFolder) -> None:
    """Says what the stages took, and where the report is."""
    for line in ledger_lines(*run.read_ledger()):
        say(line)
    say(f"report: {run.shown(REPORT_HTML)}")


def ledger_lines(stages: list[StageTime], nodes: list[NodeTime]) -> list[str]:
    """Lines for the terminal; none of a stage on this machine alone without price and energy."""
    lines = []
    for entry in stages:
        there = [node for node in nodes if node.stage == entry.stage]
        if entry.joules is None and all(n.node_type == THIS_MACHINE and n.dollars is None for n in there):
            continue
        parts = [duration(entry.wall_seconds)]
        parts += [f"{node.node_seconds / 3600:.2f} node hours of '{node.node_type}'" for node in there]
        if any(node.dollars is not None for node in there):
            parts.append(f"{sum(node.dollars or 0.0 for node in there):.2f} dollars")
        if entry.joules is not None:
            parts.append(f"{entry.joules / 3.6e6:.3f} kWh of this machine's processors and GPUs")
        lines.append(f"{entry.stage}: {', '.join(parts)}")
    return lines


def _has_current_report(run: RunFolder) -> bool:
    """Whether there is an undamaged report, made of the files that the folder holds."""
    if not run.has_report():
        return False
    reported = json.loads(read_bytes(run.files, REPORT_JSON))["provenance"]["files"]
    return bool(reported == run.hashes())
