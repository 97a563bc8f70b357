"""The rendered Slurm script on a Slurm of this machine: two nodes, interruptions, failures, secrets."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from processes import wait_until, without_times
from slurm_lab import Slurm, slurm, why_no_slurm

from cluster.render import ClusterRun, render
from pipeline.config.flags import flags_of
from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
NUM_EVALUATIONS = 100
LONGEST_RUN = 240.0
# Ray takes a node for dead that does not answer for these seconds, rather than a minute.
DEAD_AFTER_SECONDS = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

# Loaded by every Python process of a job, as PYTHONPATH leads to it: no node evaluates before both can.
SITECUSTOMIZE = """
import importlib.util, os, sys, time
from pathlib import Path

HERE = Path(__file__).parent


class Hook:
    def find_spec(self, name, path, target=None):
        if name != "snn.engines.trie":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), wrap(module))
        return spec


def wrap(module):
    evaluate = module.evaluate_architectures

    def wait_and_evaluate(*arguments, **settings):
        (HERE / os.uname().nodename).touch()
        while not ((HERE / "node1").exists() and (HERE / "node2").exists()):
            time.sleep(0.05)
        return evaluate(*arguments, **settings)

    module.evaluate_architectures = wait_and_evaluate


sys.meta_path.insert(0, Hook())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm()),
]


def tiny_config() -> Config:
    """A search that takes both nodes half a minute, of candidates that differ."""
    demo = named_config("demo")
    return dataclasses.replace(
        demo,
        training_threads=1,
        data=dataclasses.replace(demo.data, max_test_samples=60),
        network=dataclasses.replace(demo.network, channels=4),
        supernet=dataclasses.replace(demo.supernet, epochs=1),
        search=dataclasses.replace(
            demo.search,
            max_evaluations=NUM_EVALUATIONS,
            statistics="recalibrated",
            calibration_samples=800,
            cache=False,
        ),
        retrain=dataclasses.replace(demo.retrain, epochs=1, architectures=("best",)),
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Slurm]:
    with slurm(num_nodes=2, cpus=1) as made:
        yield made


def write_project(folder: Path, config: Config) -> Path:
    """A folder with the project, its environment and the rendered script; returns the script."""
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "launch.py").symlink_to(ROOT / "launch.py")
    script = folder / "slurm.sh"
    script.write_text(render("slurm", ClusterRun(config, workers=2, cpus_per_node=1)))
    return script


def log_of(script: Path, job: int) -> str:
    return next(script.parent.glob(f"*-{job}.log")).read_text()


def nodes_of(run: RunFolder) -> set[str]:
    """The nodes whose evaluations are in the run folder."""
    return {row.worker.split("-")[0] for row in run.read_evaluations()}


@dataclass(frozen=True)
class Job:
    """A job that ended after an interruption.

    Attributes:
        folder: The project's folder as the job saw it.
        run: Its run folder.
        said: What Slurm said of it at its end.
        num_before: Evaluations when it was interrupted.
        tokens: The job's token before and after the interruption.
        command_lines: Those of all processes while it ran.
        modes: Permissions of the folder and the file of the token.
    """

    folder: Path
    run: RunFolder
    said: dict[str, str]
    num_before: int
    tokens: tuple[str, str]
    command_lines: str
    modes: tuple[int, int]


@pytest.fixture(scope="module")
def interrupted(lab: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that gets USR1 in the middle of its search, as if its time were up."""
    script = write_project(tmp_path_factory.mktemp("slurm") / "project", tiny_config())
    run = RunFolder(script.parent / "runs" / "demo")
    (script.parent / "hook").mkdir()
    (script.parent / "hook" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    job = lab.submit(script, PYTHONPATH=str(script.parent / "hook"))
    token = lab.home / ".autosnn" / f"job-{job}" / "token"
    wait_until(lambda: len(nodes_of(run)) == 2, LONGEST_RUN, "evaluations of both nodes")
    first, modes = token.read_text(), (token.parent.stat().st_mode, token.stat().st_mode)
    command_lines = "\n".join(" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
    lab.call("scancel", "--signal=USR1", "--batch", job)
    lab.wait_for_state(job, "PENDING")
    assert not token.exists()
    num_before = len(run.read_evaluations())
    lab.wait_for_state(job, "RUNNING")
    wait_until(lambda: token.exists() and len(token.read_text()) == 64, 30, "the second token")
    second = token.read_text()
    said = lab.end_of(job, LONGEST_RUN)
    assert "Traceback" not in log_of(script, job)
    return Job(script.parent, run, said, num_before, (first, second), command_lines, modes)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run on one machine, with one worker."""
    run = RunFolder(tmp_path_factory.mktemp("alone") / "run")
    flags = [*flags_of(tiny_config(), named_config("demo")), "--ray.num-workers", "1"]
    command = [sys.executable, "launch.py", "run", "demo", "--run-dir", str(run.path), *flags]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return run


def test_interrupted_job_is_queued_again_and_completes(interrupted: Job) -> None:
    said = interrupted.said
    assert (said["JobState"], said["ExitCode"], said["Restarts"]) == ("COMPLETED", "0:0", "1")
    assert 0 < interrupted.num_before < NUM_EVALUATIONS


def test_both_nodes_together_make_the_table_of_one_machine(interrupted: Job, alone: RunFolder) -> None:
    rows = interrupted.run.read_evaluations()
    assert nodes_of(interrupted.run) == {"node1", "node2"}
    assert without_times(rows) == without_times(alone.read_evaluations())
    assert len({row.evaluation.spikes for row in rows}) > NUM_EVALUATIONS // 2
    assert interrupted.run.read_retrained(0).test == alone.read_retrained(0).test


def test_token_is_nowhere_but_in_its_file(interrupted: Job) -> None:
    first, second = interrupted.tokens
    assert re.fullmatch("[0-9a-f]{64}", first) and len(second) == 64 and first != second
    assert [mode & 0o777 for mode in interrupted.modes] == [0o700, 0o600]
    assert "gcs_server" in interrupted.command_lines
    written = [p for p in interrupted.folder.rglob("*") if p.is_file() and ".venv" not in p.parts]
    assert any(path.suffix == ".log" for path in written) and interrupted.run.path / "config.json" in written
    for token in interrupted.tokens:
        assert token not in interrupted.command_lines
        assert not [path for path in written if token.encode() in path.read_bytes()]


def test_nothing_is_left_when_the_job_has_ended(lab: Slurm, interrupted: Job) -> None:
    number = interrupted.said["JobId"]
    for host in lab.nodes.values():
        processes = [psutil.Process(pid) for pid in host.pids()]
        names = {process.name() for process in processes if process.status() != psutil.STATUS_ZOMBIE}
        assert names <= {"sh", "sleep", "slurmd"}  # the first two are the host itself
    assert not list(Path("/tmp").glob(f"ray-{number}-*"))
    assert not list((lab.home / ".autosnn").iterdir())


@pytest.mark.long
def test_failed_job_keeps_its_status_and_is_not_queued_again(lab: Slurm, tmp_path: Path) -> None:
    config = named_config("cifar10_small")
    config = dataclasses.replace(
        config, training_threads=1, data=dataclasses.replace(config.data, root=tmp_path / "nowhere")
    )
    script = write_project(tmp_path / "project", config)
    job = lab.submit(script, AUTOSNN_TRACEBACK="1")  # an error that nobody handles: status 1
    said = lab.end_of(job, LONGEST_RUN)
    assert (said["JobState"], said["ExitCode"], said["Restarts"]) == ("FAILED", "1:0", "0")
    assert "nowhere" in log_of(script, job)


@pytest.mark.long
def test_cancelled_job_is_not_queued_again_and_keeps_what_it_did(lab: Slurm, tmp_path: Path) -> None:
    script = write_project(tmp_path / "project", tiny_config())
    run = RunFolder(script.parent / "runs" / "demo")
    job = lab.submit(script)
    wait_until(lambda: len(run.evaluation_parts()) >= 2, LONGEST_RUN, "evaluations")
    lab.call("scancel", job)
    said = lab.end_of(job, 60)
    assert (said["JobState"], said["Restarts"]) == ("CANCELLED", "0")
    assert run.read_evaluations()


@pytest.mark.long
def test_node_that_was_cut_off_joins_again(lab: Slurm, alone: RunFolder, tmp_path: Path) -> None:
    script = write_project(tmp_path / "project", tiny_config())
    run = RunFolder(script.parent / "runs" / "demo")
    job = lab.submit(script, **DEAD_AFTER_SECONDS)
    wait_until(lambda: len(run.evaluation_parts()) >= 2, LONGEST_RUN, "evaluations")
    log = next(script.parent.glob(f"*-{job}-node2.log"))
    assert log.read_text().count("Ray runtime started") == 1
    lab.nodes["node2"].cut()
    wait_until(lambda: "marked dead" in log_of(script, job), 30, "the node's death")
    lab.nodes["node2"].heal()
    wait_until(lambda: log.read_text().count("Ray runtime started") == 2, 30, "the node's return")
    said = lab.end_of(job, LONGEST_RUN)
    assert (said["JobState"], said["Restarts"]) == ("COMPLETED", "0")
    assert without_times(run.read_evaluations()) == without_times(alone.read_evaluations())
