"""Checks scripts for Slurm that start Ray on the nodes of a job."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cluster.check.finding import Finding
from cluster.check.sbatch import MAYBE_A_VALUE, OPTIONS, WITHOUT_VALUE, Option, sbatch_options

_LEAST_SECONDS_TO_SAVE = 30
_COUNT = r"[1-9]\d*"
_VALUES = {
    "nodes": (_COUNT, "a number of nodes"),
    "ntasks-per-node": ("1", "1: each node starts Ray once"),
    "cpus-per-task": (_COUNT, "a number of CPUs"),
    "gpus-per-node": (rf"([\w.-]+:)?{_COUNT}", "a number of GPUs, or type:number"),
    "time": (r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}", "a time such as 12:00:00 or 2-00"),
    "open-mode": ("append", "append: else a job that is queued again empties its log"),
}
"""What the values of some options look like, and what the options expect."""


def check_slurm(path: Path) -> list[Finding]:
    """The mistakes of a script for sbatch, in the order of its lines.

    Raises:
        OSError: The script cannot be read.
    """
    script = _Script(path)
    rules = (_shebang, _options, _tasks, _requeue, _signal, _gpus, _commands, _closed, _shell)
    return sorted((finding for rule in rules for finding in rule(script)), key=lambda it: it.line)


class _Script:
    """A script and its `#SBATCH` options."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        self.options = list(sbatch_options(self.text))

    def option(self, name: str) -> Option | None:
        """The option of this name that holds: the last one that sbatch reads."""
        return next((it for it in reversed(self.options) if it.name == name and it.read), None)

    def commands(self) -> Iterator[tuple[int, str]]:
        """Number and text of each line without its comment."""
        for number, line in enumerate(self.text.splitlines(), 1):
            yield number, re.sub(r"(^|\s)#.*", "", line)

    def finding(self, line: int, key: str, expected: str, got: str, cure: str) -> Finding:
        return Finding(str(self.path), line, key, expected, got, cure)

    def missing(self, name: str, expected: str, cure: str) -> Finding:
        """An option that is absent, shown where the options are."""
        line = self.options[0].line if self.options else 1
        return self.finding(line, f"--{name}", expected, "none", cure)


def _shebang(script: _Script) -> Iterator[Finding]:
    first = script.text.partition("\n")[0]
    if not re.match(r"#!.*\bbash\b", first):
        cure = "sbatch refuses a script without it."
        yield script.finding(1, "", "#!/usr/bin/env bash", first or "an empty line", cure)


def _options(script: _Script) -> Iterator[Finding]:
    for option in script.options:
        key = f"--{option.name}"
        if not option.read:
            cure = "Move it up: sbatch reads none after the first command."
            yield script.finding(option.line, key, "#SBATCH before all commands", "one after them", cure)
        if option.name not in OPTIONS:
            close = difflib.get_close_matches(option.name, OPTIONS, 1)
            expected = f"--{close[0]}" if close else "an option of sbatch"
            yield script.finding(option.line, key, expected, key, "Correct it; `man sbatch` lists them.")
        elif option.name in WITHOUT_VALUE:
            if option.value:
                yield script.finding(option.line, key, "no value", option.value, "Remove the value.")
        elif not option.value and option.name not in MAYBE_A_VALUE:
            yield script.finding(option.line, key, "a value", "none", f"Write {key}=VALUE.")
        elif option.name in _VALUES:
            pattern, expected = _VALUES[option.name]
            if not re.fullmatch(pattern, option.value):
                yield script.finding(option.line, key, expected, option.value, "Correct the value.")


def _tasks(script: _Script) -> Iterator[Finding]:
    for name in ("nodes", "ntasks-per-node", "cpus-per-task"):
        if script.option(name) is None:
            yield script.missing(name, "a number", "Add it: Slurm's own choice is 1 CPU, on any node.")
    nodes, tasks = script.option("nodes"), script.option("ntasks")
    if nodes and tasks and nodes.value != tasks.value:
        expected = f"{nodes.value}, one a node (--nodes={nodes.value})"
        cure = "Remove it: --nodes and --ntasks-per-node say all."
        yield script.finding(tasks.line, "--ntasks", expected, tasks.value, cure)


def _requeue(script: _Script) -> Iterator[Finding]:
    if script.option("requeue") is None:
        yield script.missing("requeue", "--requeue", "Add it: sites may forbid to queue a job again.")
    if forbidden := script.option("no-requeue"):
        cure = "Remove it: the run could not go on when its time is up."
        yield script.finding(forbidden.line, "--no-requeue", "--requeue", "--no-requeue", cure)
    if script.option("open-mode") is None:
        cure = "Add it: a job that is queued again empties its log."
        yield script.missing("open-mode", "--open-mode=append", cure)
    if "scontrol requeue" not in script.text:
        cure = 'End it with: scontrol requeue "$SLURM_JOB_ID" after status 75.'
        yield script.finding(1, "", "a script that queues itself again", "none of `scontrol requeue`", cure)


def _signal(script: _Script) -> Iterator[Finding]:
    option = script.option("signal")
    expected = f"B:USR1@SECONDS, at least {_LEAST_SECONDS_TO_SAVE} s before the time is up"
    if option is None:
        yield script.missing("signal", expected, "Add it: Slurm would kill the run without a warning.")
        return
    parts = re.fullmatch(r"B:(SIG)?USR1@(\d+)", option.value)
    if parts is None or int(parts[2]) < _LEAST_SECONDS_TO_SAVE:
        cure = "Write --signal=B:USR1@120; without B: the signal never reaches the driver."
        yield script.finding(option.line, "--signal", expected, option.value, cure)
    if not re.search(r"^\s*trap\s.*\bUSR1\b", script.text, re.MULTILINE):
        cure = """Add: trap 'kill -USR1 "$driver"' USR1"""
        yield script.finding(option.line, "--signal", "a trap that hands USR1 to the driver", "none", cure)


def _gpus(script: _Script) -> Iterator[Finding]:
    asked = ("gpus", "gpus-per-node", "gpus-per-task", "gres")
    for number, line in script.commands():
        share = re.search(r"--ray\.gpus-per-worker[ =](\S+)", line)
        if share and float(share[1]) and not any(script.option(name) for name in asked):
            got, cure = f"{share[1]} GPUs per worker, but none for the job", "Add #SBATCH --gpus-per-node=N."
            yield script.finding(number, "--ray.gpus-per-worker", "--gpus-per-node", got, cure)


def _commands(script: _Script) -> Iterator[Finding]:
    for number, line in script.commands():
        if re.search(r"\b(ray|ray\.scripts\.scripts|scripts)\s+stop\b", line):
            cure = "Remove it: it ends every Ray of the node, also those of other jobs. Slurm ends the job's."
            yield script.finding(number, "", "no `ray stop`", line.strip(), cure)
        if "symmetric-run" in line:
            cure = "Start Ray with `srun ... ray start --block`: symmetric-run loses the exit status."
            yield script.finding(number, "", "no `ray symmetric-run`", line.strip(), cure)


def _closed(script: _Script) -> Iterator[Finding]:
    commands = list(script.commands())
    if not any(re.search(r"\bRAY_AUTH_MODE=[\"']?token\b", line) for _, line in commands):
        cure = "Export it, and RAY_AUTH_TOKEN_PATH: else everybody on the network may use the nodes."
        yield script.finding(1, "", "RAY_AUTH_MODE=token", "a Ray that lets everybody in", cure)
    for number, line in commands:
        if re.search(r"\bRAY_AUTH_TOKEN=", line):
            cure = "Write it to a file that only you may read, and export RAY_AUTH_TOKEN_PATH."
            yield script.finding(number, "", "no token in the script", "RAY_AUTH_TOKEN=...", cure)
        host = re.search(r"--dashboard-host[ =](\S+)", line)
        if host and host[1] not in ("127.0.0.1", "localhost"):
            cure = "Remove it: who reaches the dashboard may run code."
            yield script.finding(number, "--dashboard-host", "127.0.0.1", host[1], cure)


def _shell(script: _Script) -> Iterator[Finding]:
    """What shellcheck warns of; nothing where it is not installed."""
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    program = shutil.which("shellcheck", path=places)
    if program is None:
        return
    command = [program, "--format=json", "--severity=warning", "--shell=bash", str(script.path)]
    for found in json.loads(subprocess.run(command, capture_output=True, text=True).stdout):
        code = f"SC{found['code']}"
        cure = f"https://www.shellcheck.net/wiki/{code} explains it."
        yield script.finding(found["line"], code, "sound shell code", found["message"].rstrip("."), cure)
