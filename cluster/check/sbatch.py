"""The `#SBATCH` lines of a script, and which options sbatch knows (Slurm 22.05 to 26.11)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

SHORT = {
    "A": "account", "a": "array", "b": "begin", "D": "chdir", "M": "clusters", "C": "constraint",
    "S": "core-spec", "c": "cpus-per-task", "d": "dependency", "m": "distribution", "e": "error",
    "x": "exclude", "B": "extra-node-info", "G": "gpus", "H": "hold", "i": "input", "J": "job-name",
    "L": "licenses", "k": "no-kill", "F": "nodefile", "w": "nodelist", "N": "nodes", "n": "ntasks",
    "o": "output", "O": "overcommit", "s": "oversubscribe", "p": "partition", "q": "qos", "Q": "quiet",
    "t": "time", "v": "verbose", "W": "wait",
}  # fmt: skip
"""Long names of the options of one letter."""

WITHOUT_VALUE = {
    "consolidate-segments", "contiguous", "external", "hold", "ignore-pbs", "no-requeue", "overcommit",
    "parsable", "quiet", "reboot", "spread-job", "spread-segments", "stepmgr", "use-min-nodes", "verbose",
    "wait",
}  # fmt: skip
MAYBE_A_VALUE = {
    "exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "oversubscribe", "propagate", "requeue",
    "resv-ports",
}  # fmt: skip
OPTIONS = {
    *SHORT.values(), *WITHOUT_VALUE, *MAYBE_A_VALUE, "acctg-freq", "batch", "bb", "bbf", "cluster-constraint",
    "comment", "container", "container-id", "context", "cores-per-socket", "cpu-freq", "cpus-per-gpu",
    "deadline", "delay-boot", "export", "export-file", "extra", "gid", "gpu-bind", "gpu-freq",
    "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint", "kill-on-invalid-dep",
    "mail-type", "mail-user", "mcs-label", "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mem-update",
    "mincpus", "network", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket",
    "ntasks-per-tres", "open-mode", "power", "prefer", "priority", "profile", "reservation", "resources",
    "segment", "signal", "sockets-per-node", "switches", "thread-spec", "threads-per-core", "time-min", "tmp",
    "tres-bind", "tres-per-task", "uid", "wait-all-nodes", "wckey",
}  # fmt: skip
"""All options by their long names."""


@dataclass(frozen=True)
class Option:
    """An option of sbatch as a script gives it.

    Attributes:
        line: Line of the script, from 1.
        name: Long name without dashes.
        value: Its value; empty without one.
        read: Whether sbatch reads it: it stops at the first command.
    """

    line: int
    name: str
    value: str
    read: bool


def sbatch_options(text: str) -> Iterator[Option]:
    """The options that the `#SBATCH` lines of a script give."""
    read = True
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#SBATCH"):
            for name, value in _split(shlex.split(line.removeprefix("#SBATCH"), comments=True)):
                yield Option(number, name, value, read)
        elif line.strip() and not line.lstrip().startswith("#"):
            read = False


def _split(words: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values of `--name=value`, `--name value`, `-n value` and `-nvalue`."""
    while words:
        word = words.pop(0)
        if long := re.fullmatch(r"--([^=]*)(=?)(.*)", word):
            name, equals, value = long.groups()
        elif short := re.fullmatch(r"-(.)(.*)", word):
            name, equals, value = SHORT.get(short[1], short[1]), short[2], short[2]
        else:
            name, equals, value = word, "=", ""
        needs_value = name in OPTIONS - WITHOUT_VALUE - MAYBE_A_VALUE
        if not equals and needs_value and words and not words[0].startswith("-"):
            value = words.pop(0)
        yield name, value
