"""`cluster check` on scripts for Slurm: each mistake is named with its line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from cluster.check import check_file
from cluster.render import ClusterRun, render
from pipeline.config.named import named_config

EXAMPLE = Path(__file__).resolve().parents[1] / "cluster" / "slurm.sh"
GOOD = render("slurm", ClusterRun(named_config("cifar10"), workers=4, gpus_per_worker=1))

# What is replaced, by what, and the text of the finding; it names the line of the replacement.
MISTAKES = {
    "misspelt option": ("#SBATCH --nodes=4", "#SBATCH --node=4", "expected --nodes, got --node"),
    "no number": ("--cpus-per-task=8", "--cpus-per-task=many", "expected a number of CPUs, got many"),
    "no value": ("--cpus-per-task=8", "--cpus-per-task", "expected a value, got none"),
    "two Rays on a node": ("--ntasks-per-node=1", "--ntasks-per-node=2", "expected 1: each node"),
    "other tasks": ("#SBATCH --requeue", "#SBATCH --requeue --ntasks=3", "expected 4, one a node"),
    "signal to all": ("--signal=B:USR1@120", "--signal=USR1@120", "expected B:USR1@SECONDS"),
    "signal too late": ("--signal=B:USR1@120", "--signal=B:USR1@5", "at least 30 s"),
    "no time": ("--time=12:00:00", "--time=noon", "expected a time such as 12:00:00"),
    "never again": ("#SBATCH --requeue", "#SBATCH --no-requeue", "expected --requeue"),
    "log emptied": ("#SBATCH --open-mode=append", "#SBATCH --open-mode=truncate", "expected append"),
    "option too late": ("set -u", "set -u\n#SBATCH --exclusive", "before all commands"),
    "ray stop": ("driver=$!", "driver=$!; ray stop --force", "no `ray stop`"),
    "symmetric-run": ("driver=$!", "driver=$!; ray symmetric-run -- true", "no `ray symmetric-run`"),
    "token in the script": ("driver=$!", "driver=$!; export RAY_AUTH_TOKEN=abc", "no token in the script"),
    "open dashboard": ("--include-dashboard=false", "--dashboard-host=0.0.0.0", "expected 127.0.0.1"),
}


def checked(folder: Path, text: str) -> list[tuple[int, str]]:
    script = folder / "job.sh"
    script.write_text(text)
    return [(finding.line, str(finding)) for finding in check_file(script)]


def test_example_is_what_render_gives_and_has_no_mistakes() -> None:
    assert EXAMPLE.read_text() == GOOD
    assert check_file(EXAMPLE) == []


@pytest.mark.parametrize("gpus", [0.0, 0.25])
def test_rendered_script_passes(tmp_path: Path, gpus: float) -> None:
    assert checked(tmp_path, render("slurm", ClusterRun(named_config("demo"), 7, gpus))) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    right, wrong, expected = MISTAKES[name]
    assert GOOD.count(right) == 1
    text = GOOD.replace(right, wrong)
    line = text[: text.index(wrong) + len(wrong)].count("\n") + 1
    found = checked(tmp_path, text)
    assert any(number == line and expected in finding for number, finding in found), found
    assert all(f"job.sh:{number}: " in finding for number, finding in found)


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("#SBATCH --nodes=4\n", "--nodes: expected a number, got none"),
        ("#SBATCH --requeue\n", "--requeue: expected --requeue, got none"),
        ("#SBATCH --signal=B:USR1@120\n", "--signal: expected B:USR1@SECONDS"),
        ("#SBATCH --gpus-per-node=1\n", "--ray.gpus-per-worker: expected --gpus-per-node"),
        ("""trap 'kill -USR1 "$driver"' USR1\n""", "expected a trap that hands USR1 to the driver"),
        ("RAY_AUTH_MODE=token ", "expected RAY_AUTH_MODE=token"),
        ("#!/usr/bin/env bash\n", "expected #!/usr/bin/env bash"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, without: str, expected: str) -> None:
    assert GOOD.count(without) == 1
    [(_, finding)] = checked(tmp_path, GOOD.replace(without, ""))
    assert expected in finding


@pytest.mark.skipif(
    not (shutil.which("shellcheck") or (Path(sys.executable).parent / "shellcheck").exists()),
    reason="shellcheck is not installed",
)
def test_shellcheck_is_asked(tmp_path: Path) -> None:
    [(line, finding)] = checked(tmp_path, GOOD.replace('wait "$driver"\n', "wait $(pidof driver)\n"))
    assert (
        "SC2046" in finding and "$(pidof driver)" in (tmp_path / "job.sh").read_text().splitlines()[line - 1]
    )
