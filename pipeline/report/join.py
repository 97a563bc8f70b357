"""Joins what the stages left in a run folder into report.json and report.html.

Works on unfinished runs too: a missing stage is named together with the command that adds it. Every number is
joined from one of the files listed under provenance, beside config, seeds, data hashes and commit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pipeline.analysis.ways import ways_of
from pipeline.config.tree import Config
from pipeline.report.contents import Costs, Events, EventSplit, Provenance, Report, Stage, Stages
from pipeline.report.join_retrained import compare_architectures, join_retrained
from pipeline.report.join_search import join_exact, join_search
from pipeline.report.page import render_page
from pipeline.storage.records import (
    Cost,
    DataSplit,
    EvaluationRow,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from pipeline.storage.run_folder import RunFolder
from snn.json_values import to_json

_T = TypeVar("_T")


def write_report(run: RunFolder) -> Report:
    """Writes report.json and report.html of a run folder, finished or not, and returns the report.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: One of its files is damaged.
    """
    report = join_report(run)
    run.write_report(to_json(report), render_page(report, run.read_event_examples()))
    return report


def join_report(run: RunFolder) -> Report:
    """Everything the stages left; what is missing or not finite is None."""
    config = run.read_config()
    supernet, no_supernet = _if_finished(run.read_supernet)
    if not config.search.needs_supernet:
        no_supernet = "There is none, as each candidate has a short training of its own."
    result, no_search = _if_finished(run.read_best)
    rows = run.read_evaluations()
    retrained = {number: run.read_retrained(number) for number in run.retrained_numbers()}
    networks = join_retrained(retrained)
    search = join_search(config, supernet, result, rows)
    provenance = _provenance(run, config, supernet)
    report = Report(
        run=run.name,
        config_name=config.name,
        stages=Stages(
            supernet=Stage(supernet is not None, no_supernet, needed=config.search.needs_supernet),
            search=Stage(result is not None, no_search),
            retrain=_retrain_stage(run, config, list(retrained.values())),
        ),
        supernet=supernet,
        search=search,
        exact=join_exact(config, rows, run.read_replay(), search.spikes_reference),
        retrained=networks,
        comparison=compare_architectures(networks),
        cost=_costs(config, supernet, result, rows, list(retrained.values())),
        provenance=provenance,
        events=_events(provenance.data or {}) if config.data.is_events else None,
        cluster=tuple(run.read_cluster()),
        ledger=tuple(run.read_ledger()[1]),
        fidelity=run.read_fidelity(),
        finalists=run.read_finalists() if result else None,
    )
    return only_finite(report)


def only_finite(value: _T) -> _T:
    """The value with None in place of every NaN and infinity in it: JSON lacks them."""
    changed: Any = value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        changed = dataclasses.replace(value, **{f.name: only_finite(getattr(value, f.name)) for f in fields})
    elif isinstance(value, dict):
        changed = {key: only_finite(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        changed = type(value)(only_finite(item) for item in value)
    elif isinstance(value, float) and not math.isfinite(value):
        changed = None
    return changed


def _if_finished(read: Callable[[], _T]) -> tuple[_T | None, str]:
    """What a stage left; or None, and which command adds it."""
    try:
        return read(), ""
    except FileNotFoundError as error:
        return None, str(error)


def _retrain_stage(run: RunFolder, config: Config, results: Sequence[RetrainResult]) -> Stage:
    """Finished when every architecture of the config is trained with every seed."""
    planned = {(text, seed) for text in config.retrain.architectures for seed in config.retrain.seeds}
    num_done = len(planned & {(result.label, result.seed) for result in results})
    if num_done == len(planned):
        return Stage(True, "")
    text = f"{num_done} of {len(planned)} networks are retrained; go on with: "
    return Stage(False, f"{text}python launch.py retrain {run}")


def _costs(
    config: Config,
    supernet: SupernetResult | None,
    search: SearchResult | None,
    rows: Sequence[EvaluationRow],
    retrained: Sequence[RetrainResult],
) -> Costs:
    stages = (
        supernet.cost if supernet else None,
        search.cost if search else None,
        sum((result.cost for result in retrained), Cost()) if retrained else None,
    )
    rate = None
    if search and search.cost.wall_seconds > 0:
        measured = search.num_evaluations - search.num_known
        rate = measured / (search.cost.wall_seconds / 3600)
    space = config.network.search_space()
    ways = ways_of(space, supernet, search, rows, retrained) if search else ()
    return Costs(*stages, sum((cost for cost in stages if cost), Cost()), rate, ways)


def _provenance(run: RunFolder, config: Config, supernet: SupernetResult | None) -> Provenance:
    environment = run.read_environment() if run.has_environment() else None
    return Provenance(
        commit=environment.commit if environment else None,
        seed=config.seed,
        retrain_seeds=config.retrain.seeds,
        data=environment.data if environment else None,
        weights_sha256=supernet.weights_sha256 if supernet else None,
        config=config.to_json(),
        environment=environment,
        files=run.hashes(),
    )


def _events(splits: Mapping[str, DataSplit]) -> Events:
    simulated = any("SIMULATED" in note for split in splits.values() for note in split.notes)
    return Events(
        simulated,
        {
            name: EventSplit(split.num_samples, split.events_per_sample, split.notes)
            for name, split in splits.items()
        },
    )
