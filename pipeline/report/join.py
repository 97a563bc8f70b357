"""Joins what the stages left in a run folder into report.json and report.html.

Works on unfinished runs too: a missing stage is named together with the command that makes it. Every number
is joined from one of the files listed under provenance, beside config, seeds, data hashes and commit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipeline.config.tree import Config
from pipeline.report.exact import join_exact
from pipeline.report.render import render
from pipeline.storage.evaluations import flat
from pipeline.storage.records import Cost, EvaluationRow, RetrainResult, SearchResult, SupernetResult
from pipeline.storage.run_folder import RunFolder, metrics_of
from snn.fitness import pareto_front
from snn.search_space import Architecture, Pool, SearchedLayer

_Result = TypeVar("_Result")


def write_report(run: RunFolder) -> dict[str, Any]:
    """Writes report.json and report.html of a run folder, finished or not, and returns the report.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: One of its files is damaged.
    """
    report = join_report(run)
    run.write_report(report, render(report, run.read_event_examples()))
    return report


def join_report(run: RunFolder) -> dict[str, Any]:
    """Everything the stages left, as one JSON value; what is missing or not finite is None.

    Accuracies and firing rates lie in [0, 1]; spikes, SynOps and energies are per sample.
    """
    config = run.read_config()
    supernet, no_supernet = _if_finished(run.read_supernet)
    chosen, no_search = _if_finished(run.read_best)
    rows = run.read_evaluations()
    retrained = {number: run.read_retrained(number) for number in run.retrained_numbers()}
    entries = [_retrained_entry(number, result) for number, result in retrained.items()]
    provenance = _provenance(run, config, supernet)
    search = _search(config, supernet, chosen, rows)
    report = {
        "run": run.path.resolve().name,
        "config_name": config.name,
        "stages": {
            "supernet": {"done": supernet is not None, "missing": no_supernet},
            "search": {"done": chosen is not None, "missing": no_search},
            "retrain": _retrain_stage(run, config, list(retrained.values())),
        },
        "supernet": supernet,
        "search": search,
        "exact": join_exact(config, rows, run.read_replay(), search["spikes_reference"]),
        "retrained": entries,
        "comparison": _comparison(entries),
        "cost": _cost(supernet, chosen, list(retrained.values())),
        "provenance": provenance,
        "events": _events(provenance["data"]) if config.data.is_events else None,
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def _if_finished(read: Callable[[], _Result]) -> tuple[_Result | None, str]:
    """What a stage left, or None and which command makes it."""
    try:
        return read(), ""
    except FileNotFoundError as error:
        return None, str(error)


def _retrain_stage(run: RunFolder, config: Config, results: Sequence[RetrainResult]) -> dict[str, Any]:
    """The retraining is finished when every architecture of the config was trained with every seed."""
    planned = {(text, seed) for text in config.retrain.architectures for seed in config.retrain.seeds}
    num_done = len(planned & {(result.label, result.seed) for result in results})
    missing = f"{num_done} of {len(planned)} networks are retrained; go on with: "
    missing += f"python launch.py retrain {run.path}"
    done = num_done == len(planned)
    return {"done": done, "missing": "" if done else missing}


def _search(
    config: Config, supernet: SupernetResult | None, chosen: SearchResult | None, rows: list[EvaluationRow]
) -> dict[str, Any]:
    scored = [(row, e) for row in rows if (e := row.evaluation) and len(_finite([e.accuracy, e.spikes])) == 2]
    all_samples = max((e.num_samples for _, e in scored), default=0)
    complete = [(row, e) for row, e in scored if e.num_samples == all_samples]  # racing stops others earlier
    front = pareto_front([(e.accuracy, e.spikes) for _, e in complete])
    reference = chosen.spikes_reference if chosen else supernet.spikes_reference if supernet else None
    return {
        "algorithm": config.search.algorithm,
        "spike_exponent": config.search.spike_exponent,
        "spikes_reference": reference,
        "space_size": len(config.network.search_space()),
        "num_workers": chosen.num_workers if chosen else None,
        "num_evaluations": len(rows),
        "num_failed": sum(bool(row.error) for row in rows),
        "best": flat(chosen.best) if chosen else None,
        "network": _network(config, chosen.best) if chosen else [],
        "pareto_front": [complete[index][0].candidate_id for index in front],
        "course": _course(chosen),
        "generations": _generations(rows),
        "evaluations": [_evaluation(row) for row in rows],
    }


def _course(chosen: SearchResult | None) -> dict[str, Any] | None:
    """How the search ran: engine, what it did not have to evaluate, its workers."""
    if chosen is None:
        return None
    names = ("engine", "num_known", "num_extras", "num_stopped", "samples_saved")
    values = {name: getattr(chosen, name) for name in names}
    return values | {"evaluators_started": chosen.evaluators_started, "busy_share": chosen.busy_share}


def _evaluation(row: EvaluationRow) -> dict[str, Any]:
    names = ("candidate_id", "generation", "architecture", "accuracy", "spikes", "fitness", "worker", "error")
    values = flat(row)
    return {name: values[name] for name in names}


def _generations(rows: list[EvaluationRow]) -> list[dict[str, Any]]:
    """Best and mean fitness within each generation, and the best up to it; failed candidates left out."""
    generations = []
    best_so_far: float | None = None
    for generation in sorted({row.generation for row in rows}):
        members = [row for row in rows if row.generation == generation]
        fitness = _finite([row.fitness for row in members])
        best_so_far = max([*_finite([best_so_far]), *fitness], default=None)
        generations.append(
            {
                "generation": generation,
                "num_evaluations": len(members),
                "best_fitness": max(fitness, default=None),
                "mean_fitness": sum(fitness) / len(fitness) if fitness else None,
                "best_so_far": best_so_far,
            }
        )
    return generations


def _network(config: Config, row: EvaluationRow) -> list[dict[str, Any]]:
    """Parts of a candidate's network from input to output; one that counts no spikes has 0."""
    backbone = config.network.make_backbone("image")
    measured = row.evaluation
    assert measured is not None
    channels: int | None = backbone.stem_channels
    parts = [("stem", "3x3 convolution", channels)]
    if "stem_reduction" in measured.spikes_per_layer:
        parts.append(("stem_reduction", "pooling, 3x3 convolution", channels))
    blocks = iter(Architecture.parse(row.architecture, len(backbone.layers)).blocks)
    for part in backbone.body:
        if isinstance(part, SearchedLayer):
            channels = part.out_channels
            parts.append((part.name, next(blocks), channels))
        else:
            parts.append((part.name, _pool_text(part), part.channels))
    if backbone.spiking_global_pool:
        parts.append(("global_pool", "global average pool", channels))
    parts.append(("head", "voting neurons", None))
    return [
        {
            "part": name,
            "block": block,
            "channels": width,
            "spikes": measured.spikes_per_layer.get(name, 0.0),
            "firing_rate": measured.firing_rate_per_layer.get(name),
        }
        for name, block, width in parts
    ]


def _pool_text(pool: Pool) -> str:
    return "2x2 max-pool" if pool.kind == "max" else "2x2 average pool"


def _retrained_entry(number: int, result: RetrainResult) -> dict[str, Any]:
    return {
        "number": number,
        "source": metrics_of(number),
        "label": result.label,
        "architecture": result.architecture,
        "seed": result.seed,
        "test_accuracy": result.test.accuracy,
        "spikes": result.test.spikes,
        "firing_rate": result.test.firing_rate,
        "synops": result.test.synops,
        "energy_joules": result.energy_joules,
        "num_test": result.test.num_samples,
        "num_train": result.num_train,
        "num_val": result.num_val,
        "num_parameters": result.num_parameters,
        "chosen_epoch": result.chosen_epoch,
        "val_accuracy": result.val_accuracy,
        "paper_protocol": result.paper_protocol,
        "cost": result.cost,
        "history": result.history,
        "time_course": result.time_course,
    }


def _comparison(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean, minimum and maximum over the seeds of each label, in the order the labels appear."""
    comparison = []
    for label, architecture in dict.fromkeys((entry["label"], entry["architecture"]) for entry in entries):
        same = [e for e in entries if (e["label"], e["architecture"]) == (label, architecture)]
        papers = [entry["paper_protocol"] for entry in same if entry["paper_protocol"]]
        measured = ("test_accuracy", "spikes", "firing_rate", "synops", "energy_joules", "val_accuracy")
        comparison.append(
            {
                "label": label,
                "architecture": architecture,
                "numbers": [entry["number"] for entry in same],
                "seeds": [entry["seed"] for entry in same],
                "chosen_epochs": [entry["chosen_epoch"] for entry in same],
                "num_parameters": same[0]["num_parameters"],
                **{name: _spread([entry[name] for entry in same]) for name in measured},
                "paper_accuracy": _spread([paper.accuracy for paper in papers]),
                "paper_spikes": _spread([paper.spikes for paper in papers]),
            }
        )
    return comparison


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    finite = _finite(values)
    if not finite:
        return None
    return {"mean": sum(finite) / len(finite), "min": min(finite), "max": max(finite)}


def _cost(
    supernet: SupernetResult | None, chosen: SearchResult | None, retrained: Sequence[RetrainResult]
) -> dict[str, Any]:
    stages = {"supernet": supernet.cost if supernet else None, "search": chosen.cost if chosen else None}
    stages["retrain"] = sum((result.cost for result in retrained), Cost()) if retrained else None
    total = sum((cost for cost in stages.values() if cost), Cost())
    rate = None
    if chosen and chosen.cost.wall_seconds > 0:
        rate = chosen.num_evaluations / (chosen.cost.wall_seconds / 3600)
    return {**stages, "total": total, "evaluations_per_hour": rate}


def _provenance(run: RunFolder, config: Config, supernet: SupernetResult | None) -> dict[str, Any]:
    environment: dict[str, Any] = {}
    if run.has_environment():
        environment = run.read_environment()
    return {
        "commit": environment.get("commit"),
        "seed": config.seed,
        "retrain_seeds": config.retrain.seeds,
        "data": environment.get("data"),
        "weights_sha256": supernet.weights_sha256 if supernet else None,
        "config": config.to_json(),
        "environment": environment,
        "files": run.hashes(),
    }


def _events(data: Any) -> dict[str, Any]:
    """Events per sample and notes of each split, and whether a note says that the data are simulated."""
    known = data if isinstance(data, dict) else {}
    splits: dict[str, dict[str, Any]] = {
        name: {
            "num_samples": split.get("num_samples"),
            "events_per_sample": split.get("events_per_sample"),
            "notes": split.get("notes") or [],
        }
        for name, split in known.items()
        if isinstance(split, dict)
    }
    simulated = any("SIMULATED" in text for split in splits.values() for text in split["notes"])
    return {"simulated": simulated, "splits": splits}


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, NaN and infinities, which JSON lacks, as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
