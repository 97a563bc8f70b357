"""Runs the benchmark: speeds as ratios to the plain implementation, both measured in the same run."""

from __future__ import annotations

import dataclasses
import json
import os
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.bench.candidate import bench_one_candidate
from pipeline.bench.cluster import bench_cluster
from pipeline.bench.control_plane import bench_control_plane
from pipeline.bench.evaluation import bench_sharing
from pipeline.bench.hours import Speeds, StageHours, assumptions, estimate_hours
from pipeline.bench.rates import bench_rates
from pipeline.bench.settings import DEFAULT_SECTIONS, SECTIONS, BenchSettings, Section
from pipeline.bench.start_up import bench_start_up
from pipeline.bench.stopwatch import Comparison, OtherProcesses, SectionResult
from pipeline.bench.subject import Subject, generated_subject, trained_subject
from pipeline.bench.training import bench_training
from pipeline.bench.weights import bench_weights
from pipeline.config.named import named_config
from pipeline.console import say
from pipeline.environment import describe_environment
from pipeline.formats import duration
from pipeline.storage.files import LocalFiles
from pipeline.storage.run_folder import RunFolder
from snn.json_values import to_json

BENCH_FILE = "bench.json"

_TITLES: dict[Section, str] = {
    "candidate": "one candidate",
    "rates": "engines, by firing rate and channels",
    "sharing": "many candidates",
    "training": "training of the super-network",
    "cluster": "orchestration by Ray Tune, virtual workers",
    "weights": "distribution of the weights",
    "start-up": "starting up",
    "control-plane": "control plane, long searches on many workers",
}
_IN_RAY: tuple[Section, ...] = ("cluster", "weights", "start-up", "control-plane")
_DISTURBING = 0.1  # CPU share of other processes above which a warning is printed


@dataclass
class _Outcome:
    """Outcome of the sections run so far.

    Attributes:
        results: Results of the sections that succeeded.
        failures: Reasons of those that failed.
        seconds: Wall-clock seconds of every section.
        others: CPU share of other processes, for the sections that work in this process.
    """

    results: dict[Section, SectionResult] = field(default_factory=dict)
    failures: dict[Section, str] = field(default_factory=dict)
    seconds: dict[Section, float] = field(default_factory=dict)
    others: dict[Section, float] = field(default_factory=dict)


def bench(settings: BenchSettings) -> dict[str, Any]:
    """Runs the sections, prints the table and writes bench.json; returns its content.

    A section that fails is recorded with its reason, and the others still run.
    """
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    say("building the super-network")
    subject = _subject(settings)
    say(f"  {subject.source}; firing rate {100 * subject.firing_rate:.1f} %")
    machine = to_json(describe_environment(subject.data)) | {"threads": threads, "variables": _variables()}
    outcome = _Outcome()
    selected = settings.sections or DEFAULT_SECTIONS
    for section in (section for section in SECTIONS if section in selected):
        _run_section(section, subject, settings, outcome)
    hours = estimate_hours(subject, _speeds(outcome.results), settings.price_per_worker_hour)
    values = {
        "quick": settings.quick,
        "machine": machine,
        "subject": subject.facts(),
        "comparisons": [
            {"section": section} | comparison_values(comparison)
            for section, result in outcome.results.items()
            for comparison in result.comparisons
        ],
        "facts": {section: result.facts for section, result in outcome.results.items()},
        "failures": outcome.failures,
        "seconds": outcome.seconds,
        "cpu_share_of_other_processes": outcome.others,
        "estimate": {"stages": [dataclasses.asdict(stage) for stage in hours], **assumptions(subject)},
    }
    LocalFiles(settings.out).put(BENCH_FILE, (json.dumps(to_json(values), indent=1) + "\n").encode())
    _print(outcome, hours, subject)
    say(f"\n{settings.out / BENCH_FILE}")
    return values


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """A comparison with its ratio and whether the target is met, as JSON values."""
    return dataclasses.asdict(comparison) | {"ratio": comparison.ratio, "met": comparison.met}


def render_table(comparisons: Sequence[Comparison]) -> str:
    """One line per comparison: name and unit, ours, theirs, ratio, target, whether it is met."""
    header = ("", "ours", "theirs", "ratio", "target", "met")
    rows = [header, *(_row(comparison) for comparison in comparisons)]
    return _aligned(rows)


def render_hours(stages: Sequence[StageHours]) -> str:
    """A table with one line per stage and number of workers."""
    rows = [("estimate", "workers", "time", "cost")]
    for stage in stages:
        cost = "" if stage.cost is None else f"{stage.cost:,.2f}"
        rows.append((stage.stage, str(stage.num_workers), duration(3600 * stage.hours), cost))
    return _aligned(rows)


def _variables() -> dict[str, str]:
    """Environment variables that affect speed."""
    return {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "MKL_", "MALLOC_"))}


def _subject(settings: BenchSettings) -> Subject:
    if settings.supernet is None:
        return generated_subject(named_config(settings.config))
    return trained_subject(RunFolder(settings.supernet), settings.data_root)


def _run_section(section: Section, subject: Subject, settings: BenchSettings, outcome: _Outcome) -> None:
    quick = settings.quick
    runners: dict[Section, Callable[[], SectionResult]] = {
        "candidate": lambda: bench_one_candidate(subject, quick=quick),
        "rates": lambda: bench_rates(subject, quick=quick),
        "sharing": lambda: bench_sharing(subject, quick=quick),
        "training": lambda: bench_training(subject, quick=quick),
        "cluster": lambda: bench_cluster(quick=quick),
        "weights": lambda: bench_weights(subject, quick=quick),
        "start-up": lambda: bench_start_up(quick=quick),
        "control-plane": lambda: bench_control_plane(settings.out, quick=quick, address=settings.ray_address),
    }
    say(_TITLES[section])
    start = time.perf_counter()
    try:
        with OtherProcesses() as others:
            outcome.results[section] = runners[section]()
    except Exception as error:  # a failed section must not lose the others
        outcome.failures[section] = f"failed: {type(error).__name__}: {error}"
        say(f"  {outcome.failures[section]}\n{traceback.format_exc()}")
    outcome.seconds[section] = time.perf_counter() - start
    say(f"  took {duration(outcome.seconds[section])}")
    if section not in _IN_RAY:
        outcome.others[section] = others.share
        if others.share > _DISTURBING:
            say(f"  other processes took {100 * others.share:.0f} % of the CPUs: these ratios are rough")


def _print(outcome: _Outcome, hours: Sequence[StageHours], subject: Subject) -> None:
    say("\n" + render_table([c for result in outcome.results.values() for c in result.comparisons]))
    for section, reason in outcome.failures.items():
        say(f"{_TITLES[section]}: {reason}")
    assumed = assumptions(subject)
    if hours:
        say("\n" + render_hours(hours))
        say(textwrap.fill(assumed["assumed"], 100))
    elif assumed["unknown"]:
        say("\n" + textwrap.fill(assumed["unknown"], 100))


def _speeds(results: dict[Section, SectionResult]) -> Speeds:
    train = generation = space = None
    if "training" in results:
        train = results["training"].facts["images_per_second"]["ours"]
    if "sharing" in results:
        facts = results["sharing"].facts
        runs, seconds = facts["block_runs_shared_and_separate"], facts["seconds_per_image"]
        generation = seconds["generation_shared"] / runs["generation"][0]
        space = seconds["whole_space_shared"] / runs["exhaustive"][0]
    return Speeds(train, generation, space)


def _row(c: Comparison) -> tuple[str, ...]:
    name = f"{c.name} [{c.unit}]" if c.unit else c.name
    target = ""
    if c.target is not None:
        target = f"{'>=' if c.at_least else '<='} {c.target:g}{' ' + c.unit if c.absolute else ''}"
    ratio = "" if c.ratio is None else f"{c.ratio:.3g}"
    met = {True: "yes", False: "NO", None: ""}[c.met]
    return name, _number(c.ours), _number(c.theirs), ratio, target, met


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Pads columns to their widest cell; the first is aligned left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
