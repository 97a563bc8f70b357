"""Command line: python launch.py COMMAND ...; --help shows the commands, COMMAND --help its settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tyro

from pipeline.config.named import CONFIGS, named_config
from pipeline.config.tree import Config

if TYPE_CHECKING:
    from pipeline.storage.run_folder import RunFolder

USAGE = """\
Spike-aware architecture search for spiking neural networks, on Ray Tune.

  python launch.py demo                         all stages on handwritten digits, about 3 minutes
  python launch.py run NAME [--section.field V] all stages of a named config; goes on where it stopped
  python launch.py run NAME --run-dir B --reuse-supernet A    ... with the super-network of run A
  python launch.py configs                      the named configs

one stage of a run folder:
  python launch.py train-supernet|search|retrain|report RUN_DIR
  python launch.py retrain RUN_DIR --on NAME [--architecture best|NAME]    on another config's data set
  python launch.py evaluate RUN_DIR --architecture SRB_k5-SRB_k5-skip_connect-SRB_k3-SRB_k5
  python launch.py replay RUN_DIR [--seeds 20]  search algorithms compared on an exhaustive run's table
  python launch.py import-checkpoint FILE RUN_DIR [--config NAME]

how fast it is on this machine, against the plain way, in a few minutes:
  python launch.py bench [--quick] [--config NAME] [--supernet RUN_DIR] [--price-per-worker-hour P]

COMMAND --help shows the settings of a command (run NAME --help: all settings, their defaults).
"""


@dataclass(frozen=True)
class _FolderArguments(Config):
    """The settings of a run; the defaults are the named config's."""

    run_dir: Path = Path("runs")
    """Folder of the run; one that exists goes on where it stopped."""


@dataclass(frozen=True)
class _RunArguments(_FolderArguments):
    """All stages of a run; the defaults are the named config's."""

    reuse_supernet: Path | None = None
    """Folder of a run whose finished super-network is taken instead of training one; data, network and
    training must be the same."""


_Arguments = TypeVar("_Arguments", bound=_FolderArguments)


def demo(arguments: Sequence[str]) -> None:
    """All stages on built-in data."""
    run(["demo", *arguments])


def run(arguments: Sequence[str]) -> None:
    """All stages of a named config."""
    config, read = _read_run_arguments(_RunArguments, "run", arguments)
    from pipeline.run import run_all
    from pipeline.storage.run_folder import RunFolder

    supernet = None if read.reuse_supernet is None else RunFolder(read.reuse_supernet)
    with _resume_line(f"python launch.py {' '.join(sys.argv[1:])}"):
        run_all(RunFolder(read.run_dir), config, supernet)


def stage(name: str, arguments: Sequence[str]) -> None:
    """One stage of a run folder, with the settings the folder was made with."""

    def read(
        run_dir: tyro.conf.Positional[Path],
        data_root: Path | None = None,
        ray_address: str | None = None,
        ray_num_workers: int | None = None,
    ) -> tuple[Path, Path | None, str | None, int | None]:
        """One stage of a run folder, with the settings the folder was made with.

        Args:
            run_dir: Folder of the run.
            data_root: Folder of the data sets, if it is not where it was.
            ray_address: Ray cluster to join ('auto', ray://...), if another than before.
            ray_num_workers: Trial actors at once, if another number than before.
        """
        return run_dir, data_root, ray_address, ray_num_workers

    run_dir, data_root, address, num_workers = tyro.cli(
        read, prog=f"launch.py {name}", args=_dashed(arguments)
    )
    from pipeline.run import STAGES

    folder, config = _open(run_dir, data_root)
    kept = config.ray
    ray = replace(kept, address=address or kept.address, num_workers=num_workers or kept.num_workers)
    config = replace(config, ray=ray)
    with _resume_line(f"python launch.py {name} {run_dir}"):
        STAGES[name](folder, config)


def retrain(arguments: Sequence[str]) -> None:
    """Stage 3, or with --on the retraining of a found architecture on another data set."""
    if "--on" not in arguments:
        stage("retrain", arguments)
        return
    rest = list(arguments)
    name = _taken_from(rest, "--on", "the name of a config")
    text = _taken_from(rest, "--architecture", "an architecture") if "--architecture" in rest else "best"
    if not rest or rest[0].startswith("-"):
        raise ValueError("'retrain --on' needs the folder of the run whose architecture it takes.")
    source, _ = _open(Path(rest.pop(0)), None)
    default = source.path / "transfer" / f"{name}-{text}"
    config, read = _read_run_arguments(
        _FolderArguments, "retrain RUN_DIR --on", [name, *rest], run_dir=default
    )
    from pipeline.run import run_transfer
    from pipeline.storage.run_folder import RunFolder

    with _resume_line(f"python launch.py {' '.join(sys.argv[1:])}"):
        run_transfer(source, text, RunFolder(read.run_dir), config)


def evaluate(arguments: Sequence[str]) -> None:
    """One architecture, scored with the super-network."""

    def read(
        run_dir: tyro.conf.Positional[Path], architecture: str, data_root: Path | None = None
    ) -> tuple[Path, str, Path | None]:
        """Scores one architecture with the super-network of a run folder.

        Args:
            run_dir: Folder of the run.
            architecture: Blocks joined by '-', 'all-BLOCK', or a reference architecture such as 'autosnn'.
            data_root: Folder of the data sets, if it is not where it was.
        """
        return run_dir, architecture, data_root

    run_dir, architecture, data_root = tyro.cli(read, prog="launch.py evaluate", args=_dashed(arguments))
    from pipeline.run import evaluate as evaluate_architecture

    evaluate_architecture(*_open(run_dir, data_root), architecture)


def replay(arguments: Sequence[str]) -> None:
    """Search algorithms on the table of an exhaustive run."""
    from pipeline.analysis.replay import DEFAULT_ALGORITHMS, replay_run, replay_table

    def read(
        run_dir: tyro.conf.Positional[Path],
        seeds: int = 20,
        evaluations: int | None = None,
        algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS,
    ) -> tuple[Path, int, int | None, tuple[str, ...]]:
        """Compares search algorithms on the table of a finished run with --search.algorithm exhaustive.

        Args:
            run_dir: Folder of the run.
            seeds: Searches of each algorithm, with the seeds 0, 1, ...
            evaluations: Evaluations of each search; the run's search.max_evaluations if not given.
            algorithms: Names as in --search.algorithm.
        """
        return run_dir, seeds, evaluations, algorithms

    run_dir, seeds, evaluations, algorithms = tyro.cli(read, prog="launch.py replay", args=arguments)
    folder, _ = _open(run_dir, None)
    print(replay_table(replay_run(folder, num_seeds=seeds, algorithms=algorithms, budget=evaluations)))
    print(f"\nwritten to {folder.replay_file}; for the report: python launch.py report {run_dir}")


def import_checkpoint(arguments: Sequence[str]) -> None:
    """A run from a super-network of the official code."""
    if len(arguments) < 2 or arguments[0].startswith("-") or "--help" in arguments[:2]:
        print(
            "usage: launch.py import-checkpoint FILE RUN_DIR [--config NAME] [--section.field VALUE ...]\n\n"
            "FILE is a super-network checkpoint of the official AutoSNN code (.pth.tar); RUN_DIR becomes a\n"
            "run of config NAME (default cifar10) with stage 1 finished."
        )
        raise SystemExit(0 if "--help" in arguments else 2)
    checkpoint, run_dir, *rest = arguments
    name = "cifar10"
    if rest[:1] == ["--config"] and len(rest) > 1:
        name, rest = rest[1], rest[2:]
    config, _ = _read_run_arguments(_FolderArguments, "import-checkpoint", [name, *rest])
    from pipeline.run import run_import
    from pipeline.storage.run_folder import RunFolder

    run_import(RunFolder(Path(run_dir)), config, Path(checkpoint))


def bench(arguments: Sequence[str]) -> None:
    """How fast it is here, against the plain way."""

    def read(
        config: str = "cifar10",
        quick: bool = False,
        out: Path = Path("bench"),
        supernet: Path | None = None,
        data_root: Path | None = None,
        price_per_worker_hour: float | None = None,
        sections: tuple[str, ...] = (),
    ) -> tuple[str, bool, Path, Path | None, Path | None, float | None, tuple[str, ...]]:
        """Measures speeds on this machine as ratios against the plain way, and estimates a config's hours.

        Args:
            config: Named config whose network is measured.
            quick: Fewer rounds and cases.
            out: Folder of bench.json.
            supernet: Run folder whose super-network and D_val are measured instead of generated ones.
            data_root: Folder of that run's data sets, if it is not where it was.
            price_per_worker_hour: Of a machine like this one; the estimate then has a cost.
            sections: Only these of candidate, sharing, training, cluster, weights.
        """
        return config, quick, out, supernet, data_root, price_per_worker_hour, sections

    name, quick, out, supernet, root, price, sections = tyro.cli(
        read, prog="launch.py bench", args=_dashed(arguments)
    )
    # Threads that wait for each other by spinning fall far behind where other processes use the CPUs too, the
    # plain way most of all. torch reads this when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from pipeline.bench.run import BenchSettings, check_sections
    from pipeline.bench.run import bench as run_bench

    run_bench(BenchSettings(named_config(name), out, quick, check_sections(sections), supernet, root, price))


def configs(arguments: Sequence[str]) -> None:
    """Lists the named configs."""
    columns = f"{'T':>3} {'epochs':>7} {'evaluations':>12} {'retrain':>8}"
    print(f"{'name':<14} {'data':<14} {'backbone':<12} {columns}")
    for name, config in CONFIGS.items():
        backbone = f"{config.network.backbone}_{config.network.channels}"
        print(
            f"{name:<14} {config.data.dataset:<14} {backbone:<12} {config.network.time_steps:>3} "
            f"{config.supernet.epochs:>7} {config.search.max_evaluations:>12} {config.retrain.epochs:>8}"
        )
    print("\nAll settings of one: python launch.py run NAME --help")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "demo": demo,
    "run": run,
    "train-supernet": partial(stage, "train-supernet"),
    "search": partial(stage, "search"),
    "retrain": retrain,
    "report": partial(stage, "report"),
    "evaluate": evaluate,
    "replay": replay,
    "import-checkpoint": import_checkpoint,
    "bench": bench,
    "configs": configs,
}


def main(arguments: Sequence[str]) -> int:
    """Runs a command; errors of the user's are printed without a traceback, with exit status 2."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    command, *rest = arguments
    try:
        if command not in COMMANDS:
            raise ValueError(f"Unknown command '{command}'; choose from: {', '.join(COMMANDS)}.")
        COMMANDS[command](rest)
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("AUTOSNN_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _taken_from(arguments: list[str], flag: str, what: str) -> str:
    """Removes `flag VALUE` from the arguments and returns the value."""
    place = arguments.index(flag)
    if place + 1 == len(arguments):
        raise ValueError(f"{flag} needs {what}.")
    value = arguments[place + 1]
    del arguments[place : place + 2]
    return value


def _read_run_arguments(
    kind: type[_Arguments], command: str, arguments: Sequence[str], run_dir: Path | None = None
) -> tuple[Config, _Arguments]:
    """The settings after `NAME`, and with them those that belong to the command alone."""
    if not arguments or arguments[0].startswith("-"):
        names = ", ".join(CONFIGS)
        raise ValueError(f"'{command}' needs the name of a config: one of {names}.")
    name, *rest = arguments
    named = {field.name: getattr(named_config(name), field.name) for field in fields(Config)}
    read = tyro.cli(
        kind,
        prog=f"launch.py {command} {name}",
        args=rest,
        default=kind(**named, run_dir=run_dir or Path("runs") / name),
    )
    config = Config(**{field.name: getattr(read, field.name) for field in fields(Config)})
    return _with_data_at(config, config.data.root), read


def _open(run_dir: Path, data_root: Path | None) -> tuple[RunFolder, Config]:
    """A run folder and its settings; the data may lie elsewhere than when it was made."""
    from pipeline.storage.run_folder import RunFolder

    folder = RunFolder(run_dir)
    config = folder.read_config()
    return folder, _with_data_at(config, data_root or config.data.root)


def _with_data_at(config: Config, root: Path) -> Config:
    """The data folder as an absolute path, since workers may have another working directory."""
    return replace(config, data=replace(config.data, root=root.resolve()))


def _dashed(arguments: Sequence[str]) -> list[str]:
    """Lets stages take --data.root and --ray.address, as `run` spells them."""
    sections = ("--data.", "--ray.")
    return [a.replace(".", "-", 1) if a.startswith(sections) else a for a in arguments]


@contextmanager
def _resume_line(command: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print(f"\ninterrupted; what is finished is kept. Go on with: {command}", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
