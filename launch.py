"""Spike-aware architecture search for spiking neural networks, on Ray Tune.

COMMAND --help shows the settings of a command; run NAME --help shows all settings of a config.

AUTOSNN_LOG=debug|info|warning|error sets what is logged; AUTOSNN_TRACEBACK=1 shows tracebacks of errors.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional, Suppress, arg, subcommand

from cluster.command import ABOUT as ABOUT_CLUSTER
from cluster.command import cluster_commands
from pipeline.bench.settings import BenchSettings
from pipeline.config.named import CONFIGS, configs_table, named_config
from pipeline.config.tree import Config
from pipeline.console import run_command, say

RunDir = Annotated[str, Positional, arg(metavar="RUN_DIR", help="Folder of the run, or its URI (s3://...).")]
NetworkDir = Annotated[
    str, Positional, arg(metavar="NETWORK", help="Its folder, RUN_DIR/retrained/0, or its URI.")
]
DataRoot = Annotated[Path | None, arg(name="data.root", aliases=["--data-root"], help="Data sets, if moved.")]
ConfigName = Annotated[str, arg(metavar="NAME", help="Config whose data set and settings are used.")]
Settings = Annotated[Config, arg(name="")]


@dataclass(frozen=True)
class Run:
    """All stages with the settings of a config; an interrupted run resumes."""

    settings: Settings
    run_dir: str
    """Folder of the run, or its URI (s3://..., gs://..., az://...); a run that exists resumes."""
    storage: str | None = None
    """Folder or URI below which the run is kept by its config's name, instead of --run-dir."""
    reuse_supernet: str | None = None
    """A run with the same data, network and training, whose super-network is used."""
    dry_run: bool = False
    """Only measure speeds and say what the run would take: hours, dollars (--budget.prices), disk."""

    def run(self) -> None:
        from pipeline.finished import say_if_finished
        from pipeline.storage.location import join
        from pipeline.storage.run_folder import RunFolder

        supernet = None if self.reuse_supernet is None else RunFolder(self.reuse_supernet)
        location = self.run_dir if self.storage is None else join(self.storage, self.settings.name)
        if self.dry_run:
            from pipeline.dry_run import dry_run

            dry_run(RunFolder(location), self.settings.here())
        elif supernet or not say_if_finished(RunFolder(location), self.settings.here()):
            from pipeline.run import run_all

            run_all(RunFolder(location), self.settings.here(), supernet)


@dataclass(frozen=True)
class Stage:
    """One stage of a run folder, with the settings of the folder."""

    name: Suppress[str]
    run_dir: RunDir
    data_root: DataRoot = None
    address: Annotated[str | None, arg(name="ray.address", aliases=["--ray-address"])] = None
    """Ray cluster to join ('auto', ray://...), if another than before."""
    num_workers: Annotated[int | None, arg(name="ray.num-workers", aliases=["--ray-num-workers"])] = None
    """Trial actors that run at once, if another number than before."""
    training_workers: Annotated[tuple[int, ...] | None, arg(name="training.workers")] = None
    """Workers that train the super-network together, if another number than before."""
    max_hours: Annotated[float | None, arg(name="budget.max-hours")] = None
    """Hours that the run may take, if another limit than before."""
    max_dollars: Annotated[float | None, arg(name="budget.max-dollars")] = None
    """Dollars that the run may cost, if another limit than before."""

    def run(self) -> None:
        from pipeline.run import run_stage
        from pipeline.storage.run_folder import RunFolder

        folder = RunFolder(self.run_dir)
        config = folder.read_config().here(
            self.data_root,
            self.address,
            self.num_workers,
            self.max_hours,
            self.max_dollars,
            self.training_workers,
        )
        run_stage(self.name, folder, config)


@dataclass(frozen=True)
class Transfer:
    """Retrains an architecture of a run on the data set of another config, with that config's settings."""

    source: RunDir
    on: ConfigName
    settings: Settings
    architecture: str = "best"
    """`best`, the choice of the run's search, or the name or text of an architecture."""
    run_dir: str | None = None
    """Folder or URI of the new run; by default RUN_DIR/transfer/NAME-ARCHITECTURE."""

    def run(self) -> None:
        from pipeline.run import run_transfer
        from pipeline.storage.location import join
        from pipeline.storage.run_folder import RunFolder

        target = self.run_dir or join(self.source, "transfer", f"{self.on}-{self.architecture}")
        run_transfer(RunFolder(self.source), self.architecture, RunFolder(target), self.settings.here())


@dataclass(frozen=True)
class Evaluate:
    """Scores one architecture with the super-network of a run folder."""

    run_dir: RunDir
    architecture: str
    """Blocks joined by '-', 'all-BLOCK', or a reference architecture such as 'autosnn'."""
    data_root: DataRoot = None

    def run(self) -> None:
        from pipeline.storage.run_folder import RunFolder
        from pipeline.use.evaluate import evaluate

        folder = RunFolder(self.run_dir)
        evaluate(folder, folder.read_config().here(self.data_root), self.architecture)


@dataclass(frozen=True)
class Replay:
    """Compares search algorithms on the table of a finished run with --search.algorithm exhaustive, or on a
    table made elsewhere (--table)."""

    run_dir: Annotated[str, Positional, arg(metavar="[RUN_DIR]", help="Folder of the run, or its URI.")] = ""
    table: Path | None = None
    """Parquet or CSV file instead of a run: columns `accuracy` in [0, 1], `spikes` or `firing_rate`, and
    `architecture` (choices joined by "-") or one column per layer; a row for each combination of choices."""
    seeds: int = 20
    """Searches of each algorithm, with the seeds 0, 1, ..."""
    evaluations: int | None = None
    """Evaluations of each search; by default the run's search.max_evaluations, 400 for a table."""
    spike_exponent: float | None = None
    """lambda of the fitness; by default the run's, -0.08 for a table."""
    official_crossover: bool = False
    """Cut as the official code does, as --search.official-crossover."""
    algorithms: tuple[str, ...] = ()
    """Names as in --search.algorithm; by default `evolution`, `random`, `aging` and `nsga2`."""

    def run(self) -> None:
        from pipeline.algorithms.settings import SearchSettings
        from pipeline.analysis.replay import DEFAULT_ALGORITHMS, replay_run, replay_table
        from pipeline.analysis.table import replay_file
        from pipeline.storage.names import REPLAY
        from pipeline.storage.run_folder import RunFolder

        if bool(self.run_dir) == (self.table is not None):
            raise ValueError("replay needs either a RUN_DIR or --table FILE; replay --help explains both.")
        asked = {"max_evaluations": self.evaluations, "spike_exponent": self.spike_exponent}
        changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if self.official_crossover:
            changes["official_crossover"] = True
        algorithms = self.algorithms or DEFAULT_ALGORITHMS
        if self.table is not None:
            settings = SearchSettings(**changes)
            say(replay_table(replay_file(self.table, settings, num_seeds=self.seeds, algorithms=algorithms)))
            return
        folder = RunFolder(self.run_dir)
        say(replay_table(replay_run(folder, num_seeds=self.seeds, algorithms=algorithms, **changes)))
        say(f"\nwritten to {folder.shown(REPLAY)}; for the report: python launch.py report {self.run_dir}")


@dataclass(frozen=True)
class Fidelity:
    """Trains architectures of a run from scratch and tells how far the search's score ranks them rightly."""

    run_dir: RunDir
    architectures: int = 24
    """Architectures to train: those that the run names, the others drawn at random."""
    seeds: int = 2
    """Trainings of each, with the seeds 0, 1, ..."""
    supernets: tuple[str, ...] = ()
    """Further runs with super-networks of the same space and data, trained otherwise or with other seeds:
    each is a score by the name of its folder, and the mean of all is one."""
    data_root: DataRoot = None
    address: Annotated[str | None, arg(name="ray.address", aliases=["--ray-address"])] = None
    """Ray cluster to join ('auto', ray://...), if another than before."""

    def run(self) -> None:
        from pipeline.driving import driving
        from pipeline.fidelity import fidelity_table, study
        from pipeline.run import run_report
        from pipeline.storage.run_folder import RunFolder

        folder = RunFolder(self.run_dir)
        config = folder.read_config().here(self.data_root, self.address)
        with driving(folder):
            result = study(
                folder,
                config,
                num_architectures=self.architectures,
                num_seeds=self.seeds,
                supernets=[RunFolder(path) for path in self.supernets],
            )
            say(fidelity_table(result))
            run_report(folder)


@dataclass(frozen=True)
class Predict:
    """Names the class of pictures or camera recordings with a retrained network."""

    network: NetworkDir
    files: Annotated[tuple[Path, ...], Positional, arg(metavar="FILE...", help="Pictures or recordings.")]
    plot: Path | None = None
    """HTML page to write with the spikes of each file, per layer and time step."""

    def run(self) -> None:
        from pipeline.use import predict_files

        if not self.files:
            raise ValueError("predict needs at least one picture or recording after the network's folder.")
        predict_files(self.network, self.files, self.plot)


@dataclass(frozen=True)
class Export:
    """Writes a retrained network in a form that other tools read, and checks it."""

    network: NetworkDir
    output: Path
    """The file to write; of `c` a folder."""
    format: Literal["onnx", "pt2", "nir", "c"] = "onnx"
    """`onnx`, `pt2` (the archive of torch.export), `nir` (for chips; knows no max-pools), or
    `c`: a folder that a C compiler builds."""

    def run(self) -> None:
        from pipeline.use import export

        export(self.network, self.format, self.output)


@dataclass(frozen=True)
class ImportCheckpoint:
    """Makes a run from a super-network of the official AutoSNN code, as if stage 1 were finished."""

    file: Annotated[Path, Positional, arg(metavar="FILE", help="Checkpoint of the official code (.pth.tar).")]
    run_dir: RunDir
    config: ConfigName
    settings: Settings

    def run(self) -> None:
        from pipeline.run import run_import
        from pipeline.storage.run_folder import RunFolder

        run_import(RunFolder(self.run_dir), self.settings.here(), self.file)


@dataclass(frozen=True)
class Configs:
    """Lists the named configs."""

    def run(self) -> None:
        say(f"{configs_table()}\n\nAll settings of one: python launch.py run NAME --help")


_SUMMARIES = {
    "demo": "All stages on handwritten digits, in about 3 minutes.",
    "run": "All stages of a named config.",
    "train-supernet": "Stage 1 of a run folder: trains the super-network.",
    "search": "Stage 2 of a run folder: the spike-aware search.",
    "retrain": "Stage 3 of a run folder; with --on NAME on the data set of another config.",
    "report": "Writes the report of a run folder.",
    "fidelity": "Compares the score of a run's search with training from scratch.",
    "cluster": ABOUT_CLUSTER,
}


def read(arguments: list[str]) -> Any:
    """The command that a command line asks for; its method `run` runs it."""
    # Read first, because the settings of the config that these flags name are the defaults of other flags.
    (on, config), _ = tyro.cli(_config_names, args=arguments, return_unknown_args=True, add_help=False)
    todo: Any = tyro.MISSING
    runs = {name: Run(settings, f"runs/{name}") for name, settings in CONFIGS.items()}
    commands: dict[str, Any] = {
        "demo": runs["demo"],
        "run": _choice(runs, {name: f"On {run.settings.data.dataset}." for name, run in runs.items()})(todo),
        "configs": Configs(),
        **{name: Stage(name, todo) for name in ("train-supernet", "search", "retrain", "report")},
        "evaluate": Evaluate(todo, todo),
        "replay": Replay(),
        "fidelity": Fidelity(todo),
        "predict": Predict(todo, todo),
        "export": Export(todo, todo),
        "import-checkpoint": ImportCheckpoint(todo, todo, config, named_config(config)),
        "bench": BenchSettings(),
        "cluster": _choice(cluster_commands(arguments), {})(todo),
    }
    if on is not None:
        commands["retrain"] = Transfer(todo, on, named_config(on))
    return tyro.cli(_choice(commands, _SUMMARIES), prog="launch.py", description=__doc__, args=arguments)


def _config_names(on: ConfigName | None = None, config: ConfigName = "cifar10") -> tuple[str | None, str]:
    return on, config


def _choice(cases: dict[str, Any], about: dict[str, str]) -> Any:
    """A command that is one of several, given by name with their defaults."""
    kinds = [Annotated[type(c), subcommand(n, default=c, description=about.get(n))] for n, c in cases.items()]
    field = ("command", Annotated[Union[tuple(kinds)], arg(name="")])  # noqa: UP007
    return make_dataclass("Choice", [field], namespace={"run": lambda self: self.command.run()})


def main(arguments: list[str]) -> int:
    """Runs a command and returns the exit status."""
    resumable = {*arguments[:1]} <= _SUMMARIES.keys()
    return run_command(lambda: read(arguments or ["--help"]).run(), resume=arguments if resumable else ())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
