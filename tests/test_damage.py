"""Every file of a run folder, damaged in every way, under every command.

A command ends with the result of an undamaged folder, or it names the file: in an error, or in a warning if
it can do without it. It changes no other file. A missing file is like a stage that is not finished, unless a
later result was made with it. Work that would be done again is not done here: the stage says so.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save
from toys import toy_evaluation

import launch
import pipeline.run
from pipeline.analysis.rank_fidelity import choices, rank_agreements
from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.networks import make_network
from pipeline.ray.session import Resources
from pipeline.run import open_run
from pipeline.storage.cluster_records import ClusterSample, NodeTime, StageTime
from pipeline.storage.fidelity_records import Fidelity, Score, StudiedArchitecture
from pipeline.storage.names import (
    FIDELITY,
    FILES,
    FINALISTS,
    FOLDED_WEIGHTS,
    LEDGER,
    REPLAY,
    REPORT_JSON,
    checkpoint_of,
)
from pipeline.storage.records import (
    Cost,
    EpochRecord,
    EvaluationRow,
    EventExamples,
    Finalist,
    Finalists,
    RetrainResult,
    SearchResult,
    SupernetResult,
)
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.sealed import seal_of
from pipeline.training.bundle import make_bundle
from snn.fitness import TimeCourse

FLAGS = [
    *("--search.algorithm", "exhaustive", "--search.max-val-samples", "12"),
    *("--network.blocks", "skip_connect", "SRB_k3", "--retrain.architectures", "best", "all-SRB_k3"),
]
CONFIG = launch.read(["run", "demo", *FLAGS]).command.command.settings.here()
SRB_K3 = str(CONFIG.network.parse_architecture("all-SRB_k3"))
HISTORY = (EpochRecord(1, 0.5, 0.25, 100.0, 1.5), EpochRecord(2, 0.25, 0.5, 90.0, 1.5, 0.5, 80.0))
# Written by the commands themselves, or never read.
OUTPUTS = ("report.json", "report.html", "report.sha256", REPLAY)


def make_finished(folder: Path) -> None:
    """A run of all stages, with a replay, examples and the leftovers of a killed driver."""
    run = make_trained(folder)
    rows = evaluation_rows()
    run.close_evaluations(rows)
    best = max(rows, key=lambda row: row.fitness or 0.0)
    run.write_best(SearchResult(best, "exhaustive", -0.08, 100.0, len(rows), 0, len(rows), 2, Cost(9.0, 9.0)))
    for number, (label, text) in enumerate((("best", best.architecture), ("all-SRB_k3", SRB_K3))):
        result = retrain_result(label, text)
        bundle = make_bundle(CONFIG, run.read_environment(), result)
        run.write_retrained(number, result, {"w": torch.arange(9.0)}, bundle)
        run.write_curves(number, HISTORY[0])
        run.write_checkpoint(number, b"state")
    finalist = Finalist(best.architecture, best.fitness or 0.0, 0.5, 80.0, 0.5)
    run.write_finalists(Finalists(1, (finalist,), best.architecture))
    run.write_fidelity(make_study(rows))
    assert launch.main(COMMANDS["replay"](folder)) == launch.main(COMMANDS["report"](folder)) == 0


def make_started(folder: Path) -> None:
    """A run that was interrupted in its search."""
    run = make_trained(folder)
    rows = evaluation_rows()
    run.append_evaluations(rows[:3])
    run.append_evaluations(rows[3:5])


def make_trained(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    open_run(run, CONFIG)
    run.write_event_examples(EventExamples(np.ones((2, 2, 2, 3, 3), np.uint8), ("a", "b")))
    network = make_network(CONFIG.network, load_data(CONFIG))
    sha256 = run.write_supernet_weights(network.state_dict())
    run.write_supernet(SupernetResult("trained", sha256, 100.0, 10, 5, 7, Cost(1.0, 2.0), HISTORY))
    run.write_curves(None, HISTORY[0])
    run.write_checkpoint(None, b"state")
    run.write_cluster([ClusterSample(1e9, 2, 4.0, 0.0, 0)])
    run.write_ledger([StageTime("search", 9.0, None)], [NodeTime("search", "node", 9.0, 18.0, 0.0, None)])
    run.write_folded_weights({"w": np.ones(3)})
    return run


def evaluation_rows() -> list[EvaluationRow]:
    rows = []
    for number, architecture in enumerate(CONFIG.network.search_space()):
        measured = toy_evaluation(architecture)
        fitness = measured.accuracy * (measured.spikes / 100) ** -0.08
        rows.append(EvaluationRow(number, number // 20, str(architecture), (), measured, fitness, "", "w"))
    return rows


def retrain_result(label: str, architecture: str) -> RetrainResult:
    test = toy_evaluation(CONFIG.network.parse_architecture(architecture))
    test = replace(test, synops=5.0, macs=7.0)
    course = TimeCourse((0.1, 0.2), {"stem": (1.0, 2.0)})
    return RetrainResult(label, architecture, 0, 9, 8, 7, 2, 0.5, test, 1e-6, None, Cost(), HISTORY, course)


def make_study(rows: list[EvaluationRow]) -> Fidelity:
    studied = tuple(
        StudiedArchitecture(
            "random",
            row.architecture,
            (0.1 * i,),
            (90.0 - i,),
            0.1 * i,
            {"stored": Score(0.2 * i, 80.0, 0.3)},
        )
        for i, row in enumerate(rows[:5])
    )
    agreements, ceilings = rank_agreements(studied), {"accuracy": None, "spikes": None, "fitness": None}
    return Fidelity((0,), -0.08, 100.0, studied, agreements, ceilings, choices(studied))


MAKERS = {"finished": make_finished, "started": make_started}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind, and a super-network to reuse them for."""
    made = {}
    for kind, make in MAKERS.items():
        made[kind] = tmp_path_factory.mktemp(kind) / "run"
        make(made[kind])
    return made


@pytest.fixture(scope="module", autouse=True)
def stages_only_say_that_they_run() -> Iterator[None]:
    @contextlib.contextmanager
    def no_ray(_config: Config, **_: str) -> Iterator[Resources]:
        yield Resources(2, 0.0, 2, 0, 2, 0.0)

    def say(stage: str) -> Callable[[RunFolder, Config, Resources], None]:
        def run(folder: RunFolder, _config: Config, _resources: Resources) -> None:
            # what a stage reads before it works
            if stage == "train-supernet":
                folder.read_checkpoint(None)
            elif stage == "search":
                folder.read_supernet_weights()
                folder.read_evaluations()
            print(f"would run {stage}")

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name, stage in list(pipeline.run.STAGES.items()):
            patch.setitem(pipeline.run.STAGES, name, replace(stage, run=say(name)))
        patch.setattr(pipeline.run, "ray_session", no_ray)
        yield


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "run": lambda run: ["run", "demo", "--run-dir", str(run), *FLAGS],
    "train-supernet": lambda run: ["train-supernet", str(run)],
    "search": lambda run: ["search", str(run)],
    "retrain": lambda run: ["retrain", str(run)],
    "report": lambda run: ["report", str(run)],
    "evaluate": lambda run: ["evaluate", str(run), "--architecture", "all-SRB_k3"],
    "replay": lambda run: ["replay", str(run), "--seeds", "1", "--evaluations", "20"],
    "transfer": lambda run: ["retrain", str(run), "--on", "demo", "--run-dir", str(run.parent / "transfer")],
    "reuse": lambda run: [
        *("run", "demo", "--run-dir", str(run.parent / "reuse"), "--reuse-supernet", str(run)),
        *(*FLAGS[2:], "--search.max-evaluations", "5"),
    ],
}


def flip(data: bytes, at: float) -> bytes:
    changed = bytearray(data)
    changed[int(len(data) * at)] ^= 0b10
    return bytes(changed)


def wrong_shape(path: Path, data: bytes) -> bytes:
    """A file of the same kind with other content."""
    if path.suffix == ".json":
        values = {"best": [], "data": 3, "results": None, "seed": {}}
        return json.dumps(seal_of(values, json.loads(data).get("made_with", {})) | values).encode()
    buffer = io.BytesIO()
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"architecture": [1], "accuracy": ["?"]}), buffer)
    elif path.suffix == ".npz":
        np.savez(buffer, samples=np.ones(3), class_names=np.ones(2))
    elif path.suffix == ".safetensors":
        return save({"other": torch.ones(2)})
    return buffer.getvalue() or b"[1, 2]\nother"


def other_version(path: Path, data: bytes) -> bytes:
    if path.suffix == ".json":
        return json.dumps({**json.loads(data), "format": 99}).encode()
    if path.suffix == ".parquet":
        table = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()
    return data.replace(b'"format": 1', b'"format": 99') + b" "


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def rewrite(change: Callable[[Path, bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path, path.read_bytes()))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": remove,
    "a folder": make_folder,
    "empty": rewrite(lambda _, data: b""),
    "truncated": rewrite(lambda _, data: data[: len(data) // 2]),
    "flipped early": rewrite(lambda _, data: flip(data, 0.2)),
    "flipped late": rewrite(lambda _, data: flip(data, 0.9)),
    "zeros": rewrite(lambda _, data: bytes(len(data))),
    "wrong shape": rewrite(wrong_shape),
    "other version": rewrite(other_version),
}


def content(run: Path) -> dict[str, bytes]:
    files = [path for path in run.rglob("*") if path.is_file()]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Outcome:
    """Status of a command, its output with the numbers of report and replay, its errors."""

    status: int
    result: str
    errors: str

    @property
    def redone(self) -> list[str]:
        return [line for line in self.result.splitlines() if line.startswith("would run")]


def outcome(command: str, run: Path) -> Outcome:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            status = launch.main(COMMANDS[command](run))
        except SystemExit as stop:
            status = int(stop.code or 0)
    result = out.getvalue()
    if command in ("run", "report") and status == 0:
        report = json.loads((run / REPORT_JSON).read_text())
        for made_anew in ("environment", "files", "commit", "data"):
            del report["provenance"][made_anew]
        result += json.dumps(report)
    if command == "replay" and status == 0:
        result += json.dumps(json.loads((run / REPLAY).read_text())["results"])
    return Outcome(status, result.replace(str(run.parent), ""), err.getvalue())


def files_of(kind: str) -> list[str]:
    """Names of the files that a folder of this kind holds, one of each pattern that the folder declares."""
    finished = ["evaluations/*.parquet"] if kind == "finished" else []
    started = ["evaluations.parquet", "best.json", FINALISTS, REPLAY, FIDELITY, "retrained/*", "report.*"]
    absent = [*(finished if kind == "finished" else started), "shards/*"]  # those are in test_elimination
    return [p for p in FILES if not any(fnmatch.fnmatch(p, a) for a in absent)]


def cases() -> Iterator[Any]:
    """Each file of each kind of folder with each damage and every third command; most are slow."""
    names = list(COMMANDS)
    for kind in MAKERS:
        for (i, pattern), (k, damage) in itertools.product(enumerate(files_of(kind)), enumerate(DAMAGES)):
            quick = kind == "finished" and damage in ("missing", "flipped late", "other version")
            marks = () if quick else pytest.mark.slow
            yield pytest.param(kind, pattern, damage, names[(i + k) % 3 :: 3], marks=marks)


@pytest.fixture(scope="module")
def undamaged(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The outcome of each command on each kind of folder."""
    outcomes = {}
    for kind, command in itertools.product(MAKERS, COMMANDS):
        run = tmp_path_factory.mktemp("undamaged") / "run"
        shutil.copytree(folders[kind], run)
        outcomes[kind, command] = outcome(command, run)
    return outcomes


@pytest.mark.parametrize(("kind", "pattern", "damage", "commands"), list(cases()))
def test_damaged_file_is_named_or_does_no_harm(
    folders: dict[str, Path],
    undamaged: dict,
    tmp_path: Path,
    kind: str,
    pattern: str,
    damage: str,
    commands: list[str],
) -> None:
    for command in commands:
        run = tmp_path / command / "run"
        shutil.copytree(folders[kind], run)
        damaged = sorted(run.glob(pattern))[0]
        DAMAGES[damage](damaged)
        before = content(run)
        expected, now = undamaged[kind, command], outcome(command, run)
        where = f"{command}, {pattern} {damage}: status {now.status}\n{now.errors}"
        assert now.status in (0, 2) and "Traceback" not in now.errors, where
        if now.status == 2 and expected.status == 0:
            assert damaged.name in now.errors and str(run) in now.errors, where
        if now.status == 0 and now.redone == expected.redone and damage not in ("missing", "a folder"):
            assert now.result == expected.result or damaged.name in now.errors, where
        after = content(run)
        grows = (*OUTPUTS, FOLDED_WEIGHTS, LEDGER)
        finished = [name for name in before if name not in grows and run / name != damaged]
        assert [name for name in finished if after.get(name) != before[name]] == [], where
        shutil.rmtree(tmp_path / command)


def test_folders_hold_every_file_that_a_run_may_hold(folders: dict[str, Path]) -> None:
    for kind, folder in folders.items():
        names = set(content(folder)) - {checkpoint_of(None)}
        unknown = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in FILES)]
        assert not unknown, kind
        for pattern in files_of(kind):
            assert list(folder.glob(pattern)), (kind, pattern)
