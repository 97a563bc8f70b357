"""The report's sections on how its numbers came about: failures, cost, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline import formats as fmt
from pipeline.report.page import columns, escape, facts, folded, note, section, table

STAGE_NAMES = {"supernet": "Super-network", "search": "Search", "retrain": "Retraining"}


def failures(report: dict[str, Any]) -> str:
    """Candidates whose evaluation failed, with their errors; empty if there are none."""
    failed = [row for row in report["search"]["evaluations"] if row["error"]]
    if not failed:
        return ""
    cells = [
        (
            f"{row['candidate_id']}, generation {row['generation']}"
            f"<small>{escape(row['architecture'].replace('-', ' - '))}</small>"
            f"<small>{escape(row['worker'])}</small>",
            f"<pre>{escape(row['error'])}</pre>",
        )
        for row in failed
    ]
    intro = (
        f"{len(failed)} of {report['search']['num_evaluations']}; they take no part in the search's choice."
    )
    body = table(("candidate", "error"), cells, num_text=2)
    return section("Failed evaluations", intro, body)


def cost(report: dict[str, Any]) -> str:
    """Wall, CPU and GPU time of each stage; evaluations per hour."""
    costs, num_retrained = report["cost"], len(report["retrained"])
    added_up = ["total", "retrain"] if num_retrained > 1 else ["total"]
    cells = [
        (
            escape(name),
            _duration(costs[key], "wall_seconds") + ("<small>added up</small>" if key in added_up else ""),
            _duration(costs[key], "cpu_seconds"),
            _duration(costs[key], "gpu_seconds"),
        )
        for key, name in {**STAGE_NAMES, "total": "Total"}.items()
    ]
    body = table(("stage", "wall", "CPU", "GPU"), cells)
    if num_retrained > 1:
        body += note(
            f"The wall time of retraining is added up over {num_retrained} networks, which may have trained "
            "side by side: less time may have passed. The same holds for the total."
        )
    rate, workers = costs["evaluations_per_hour"], report["search"]["num_workers"]
    if rate is not None:
        at_once = f"{workers} worker{'' if workers == 1 else 's'}"
        body += note(f"{fmt.count(rate)} evaluations per hour of search, with {at_once}.")
    return section("Cost", "", body + _course(report["search"]))


def _course(search: dict[str, Any]) -> str:
    """How the search ran."""
    course = search["course"]
    if course is None:
        return ""
    pairs = [
        ("Evaluation", course["engine"].replace("_", "-")),
        ("Evaluator processes started", f"{course['evaluators_started']} for {search['num_workers']} slots"),
        ("Workers' time spent evaluating", fmt.percent(course["busy_share"])),
        ("Answered without a trial", f"{course['num_known']} (evaluated earlier, or ahead of the search)"),
        ("Evaluated ahead in idle slots", fmt.count(course["num_extras"])),
    ]
    if course["num_stopped"]:
        saved = f"{course['num_stopped']}, which saved {fmt.percent(course['samples_saved'])} of the samples"
        pairs.append(("Given up early by racing", f"{saved}; parents and choice are those of a full search"))
    return "<h3>How the search ran</h3>" + facts(pairs)


def _duration(spent: dict[str, Any] | None, kind: str) -> str:
    return escape(fmt.duration(spent[kind] if spent else None))


def provenance(report: dict[str, Any]) -> str:
    """Config, seeds, versions, commit, data and files behind the numbers."""
    origin = report["provenance"]
    environment = origin["environment"]
    supernet = report["supernet"] or {}
    pairs = [
        ("Commit", origin["commit"]),
        ("Created", environment.get("created")),
        ("Seed of split, search and super-network", origin["seed"]),
        ("Seeds of retraining", ", ".join(map(str, origin["retrain_seeds"]))),
        ("Super-network", supernet.get("source")),
        ("Super-network weights, SHA-256", origin["weights_sha256"]),
        ("Platform", environment.get("platform")),
        ("CPU", _joined([environment.get("cpu"), _cores(environment.get("num_cpus"))])),
        ("GPUs", _joined(environment.get("gpus")) or "none"),
    ]
    known = [(name, value) for name, value in pairs if value not in (None, "")]
    body = columns((facts(known[:4]), facts(known[4:])))
    if not environment:
        body += note("environment.json is missing: commit, versions and data hashes are not known.")
    body += _data(origin["data"], with_notes=report["events"] is None)
    body += folded("Files behind this report, SHA-256", _hashes(origin["files"]))
    versions = environment.get("versions")
    if isinstance(versions, dict):
        body += folded("Package versions", _hashes(versions))
    config = f"<pre>{escape(json.dumps(origin['config'], indent=2))}</pre>"
    return section("Provenance", "", body + folded("Config", config))


def _data(data: Any, *, with_notes: bool) -> str:
    """Fingerprints and sizes of the splits; samples per class; notes unless another section has them."""
    if not isinstance(data, dict):
        return ""
    splits = {name: split for name, split in data.items() if isinstance(split, dict)}
    cells = [
        (
            escape(name) + (_small_notes(split) if with_notes else ""),
            f"<code>{escape(split.get('fingerprint', fmt.NOT_MEASURED))}</code>",
            escape(fmt.count(split.get("num_samples"))),
        )
        for name, split in splits.items()
    ]
    body = table(("split", "fingerprint", "samples"), cells, num_text=2)
    return f"<h3>Data</h3>{body}" + _samples_per_class(splits)


def _small_notes(split: dict[str, Any]) -> str:
    return "".join(f"<small>{escape(text)}</small>" for text in split.get("notes") or ())


def _samples_per_class(splits: dict[str, dict[str, Any]]) -> str:
    counts = {name: split.get("samples_per_class") or {} for name, split in splits.items()}
    classes = dict.fromkeys(label for per_class in counts.values() for label in per_class)
    cells = [
        (escape(label), *(escape(fmt.count(per_class.get(label))) for per_class in counts.values()))
        for label in classes
    ]
    return folded("Samples per class", table(("class", *counts), cells)) if cells else ""


def _hashes(values: dict[str, Any]) -> str:
    rows = [(escape(name), f"<code>{escape(value)}</code>") for name, value in values.items()]
    return table(("name", "value"), rows, num_text=2)


def _cores(number: Any) -> str:
    return f"{number} cores" if number else ""


def _joined(values: Any) -> str:
    items: Sequence[Any] = values if isinstance(values, list) else [values]
    return ", ".join(str(item) for item in items if item)
