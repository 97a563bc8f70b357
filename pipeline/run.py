"""The stages in order, each only if it is not finished; the functions that the command line calls."""

from __future__ import annotations

import gc
import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

from pipeline.config.tree import Config
from pipeline.console import say
from pipeline.driving import driving
from pipeline.finished import TITLES, is_finished, say_report, skipped
from pipeline.formats import duration, percent
from pipeline.ray.course import recorded_cluster
from pipeline.ray.ledger import ledger
from pipeline.ray.session import Resources, ray_session
from pipeline.ray.waiting import Waiting, refuse_what_no_node_has
from pipeline.storage.run_folder import RunFolder


def run_all(run: RunFolder, config: Config, supernet: RunFolder | None = None) -> None:
    """All stages of a run; resumes an earlier attempt.

    Args:
        run: Its folder.
        config: Its settings.
        supernet: Run whose finished super-network is used instead of training one.
    """
    with driving(run):
        open_run(run, config, supernet)
        _run_stages(list(STAGES.values()), run, config)
        run_report(run)


def run_stage(name: str, run: RunFolder, config: Config) -> None:
    """One stage of a run, by its name in STAGES, or its report."""
    if name == "report":
        run_report(run)
    else:
        with driving(run):
            _run_stages([STAGES[name]], run, config)


def open_run(
    run: RunFolder, config: Config, supernet: RunFolder | None = None, checkpoint: Path | None = None
) -> None:
    """Creates the run folder, or checks that it was made with these settings; opens the data once.

    What the settings and the data alone can make fail later fails here, before anything is written.

    Args:
        run: Its folder.
        config: Its settings.
        supernet: As in `run_all`.
        checkpoint: Super-network of the official code, which is used instead of training one.

    Raises:
        ValueError: The folder holds a run of other settings, a later stage cannot work with these settings
            and data, or `supernet` or `checkpoint` does not fit this run.
        FileNotFoundError: The data set, the super-network or the checkpoint is missing.
    """
    from pipeline.data import load_data
    from pipeline.environment import describe_environment
    from pipeline.search.check import check_search
    from pipeline.training.supernet import read_checkpoint, reuse_supernet, write_imported

    run.check(config)
    if not config.search.needs_supernet and (supernet or checkpoint):
        raise ValueError(
            f"search.scoring is '{config.search.scoring}', which uses no super-network: leave the one given "
            "away, or set --search.scoring supernet."
        )
    data = load_data(config)
    if not run.has_best():
        check_search(config, data, _expected_device(config))
    imported = None if checkpoint is None else read_checkpoint(data, checkpoint)
    environment = None if run.has_environment() else describe_environment(data)
    if supernet is not None and not run.has_supernet():
        reuse_supernet(run, data, supernet)
    if environment is not None:
        run.write_environment(environment)
    if config.data.is_events and not run.has_event_examples():
        run.write_event_examples(data.examples())
    run.write_config(config)
    if imported is not None:
        write_imported(run, data, imported)


def _expected_device(config: Config) -> str:
    """Device type of the search's workers; the more capable one where only the cluster can tell."""
    import torch

    gpus = config.ray.gpus_per_worker
    if gpus is None:
        gpus = torch.cuda.device_count() if config.ray.address is None else 0
    return "cuda" if gpus else "cpu"


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: Its command.
        called: What it is called in the ledger.
        needs: What one of its tasks needs on a node.
        run: Runs it on the resources of the cluster.
        workers_import: Module that the workers import which Ray starts here at once, one a CPU; empty if the
            stage uses fewer.
    """

    name: str
    called: str
    needs: Callable[[Config, Resources], Waiting]
    run: Callable[[RunFolder, Config, Resources], None]
    workers_import: Callable[[Config], str] = lambda _: ""

    @property
    def title(self) -> str:
        """Its line on the terminal."""
        return TITLES[self.name]


def _run_stages(stages: Sequence[Stage], run: RunFolder, config: Config) -> None:
    """Runs stages in order on one Ray, which is not started if all of them are finished."""
    for stage in stages:
        if reason := skipped(config).get(stage.name):
            say(f"{stage.title}: skipped, as {reason}")
    stages = [stage for stage in stages if stage.name not in skipped(config)]
    if all(is_finished(stage.name, run, config) for stage in stages):
        for stage in stages:
            say(f"{stage.title}: already finished")
        return
    recorded = nullcontext() if config.ray.address is None else recorded_cluster(run)
    joined = config.ray.address is not None
    unfinished = [stage for stage in stages if not is_finished(stage.name, run, config)]
    threading.Thread(target=_import_torch, name="import-torch").start()
    with (
        ray_session(config, workers_import=unfinished[0].workers_import(config)) as resources,
        recorded,
        ledger(run, config.budget, joined=joined) as costs,
    ):
        _warn_of_changes(run)
        if config.ray.address is not None:
            _check_nodes(config)
        if resources.grows:
            refuse_what_no_node_has(stage.needs(config, resources) for stage in unfinished)
        if not run.has_best():
            _check_search(config, resources)
        for stage in stages:
            finished = is_finished(stage.name, run, config)
            say(f"{stage.title}: already finished" if finished else stage.title)
            if not finished:
                costs.enter(stage.called)
                stage.run(run, config, resources)


def _import_torch() -> None:
    """What all stages need and takes long to import; done in a thread while Ray's processes start."""
    with suppress(ImportError):  # it comes again in the main thread
        importlib.import_module("torch")


def _check_nodes(config: Config) -> None:
    from pipeline.node_check import check_nodes

    check_nodes(config)


def _check_search(config: Config, resources: Resources) -> None:
    from pipeline.data import load_data
    from pipeline.search.check import check_search

    check_search(config, load_data(config), "cuda" if resources.gpus_per_worker else "cpu")


def _warn_of_changes(run: RunFolder) -> None:
    """Warns if a run goes on where results can differ in their last digits."""
    from pipeline.environment import list_changes

    if run.has_environment() and (changes := list_changes(run.read_environment())):
        logger.warning("this run began on another machine (%s): rounding can differ", "; ".join(changes))


def _train(run: RunFolder, config: Config, resources: Resources) -> None:
    from pipeline.training.supernet import train_supernet

    train_supernet(run, config, resources)


def _search(run: RunFolder, config: Config, resources: Resources) -> None:
    from pipeline.search.stage import search

    result = search(run, config, resources)
    gc.collect()  # Tune's objects refer to each other and to the table, which may take a gigabyte
    best, measured = result.best, result.best.evaluation
    assert measured is not None and best.fitness is not None
    say(
        f"  chosen of {result.num_evaluations:,}: {percent(measured.accuracy)} on D_val, "
        f"{measured.spikes:,.0f} spikes, fitness {best.fitness:.4f}\n    {best.architecture}"
    )
    if result.probability_best is not None:
        say(f"  it is the best of those scored with a probability of {percent(result.probability_best)}")
    for doubt in result.doubts:
        logger.warning("the scores cannot tell which architecture is best; of the chosen one: %s", doubt)


def _supernet_waiting(config: Config, resources: Resources) -> Waiting:
    from pipeline.training.group import Group

    return Group.of_supernet(config, resources).waiting()


def _search_waiting(config: Config, resources: Resources) -> Waiting:
    return Waiting("a trial actor", config.threads_per_worker, resources.gpus_per_worker)


def _search_import(config: Config) -> str:
    one_per_cpu = config.threads_per_worker == 1 and not (config.ray.gpus_per_worker or which("nvidia-smi"))
    return "pipeline.search.inherited_weights" if one_per_cpu else ""


def _retrain_waiting(config: Config, resources: Resources) -> Waiting:
    from pipeline.training.group import Group

    return Group.of_child(config, resources).waiting()


def _retrain(run: RunFolder, config: Config, resources: Resources) -> None:
    from pipeline.training.retrain import retrain

    results = retrain(run, config, resources)
    seconds = sum(result.cost.wall_seconds for result in results)
    say(f"  {len(results)} networks, {duration(seconds)} of training in all")


STAGES: dict[str, Stage] = {
    "train-supernet": Stage("train-supernet", "super-network", _supernet_waiting, _train),
    "search": Stage("search", "search", _search_waiting, _search, _search_import),
    "retrain": Stage("retrain", "retraining", _retrain_waiting, _retrain),
}


def run_transfer(source: RunFolder, text: str, run: RunFolder, config: Config) -> None:
    """Retrains an architecture that one run found on the data set of another config.

    Args:
        source: The run that searched.
        text: "best" for its choice, or the name or text of an architecture.
        run: Run folder of the retrained networks.
        config: Data set, backbone and training; its own list of architectures is replaced.
    """
    source.read_config()  # raises unless `source` is a run
    architecture = source.chosen_architecture() if text == "best" else text
    config.network.parse_architecture(architecture)
    config = replace(config, retrain=replace(config.retrain, architectures=(architecture,)))
    with driving(run):
        open_run(run, config)
        _run_stages([STAGES["retrain"]], run, config)
        run_report(run)


def run_report(run: RunFolder) -> None:
    """Joins what is finished into the report."""
    from pipeline.report.join import write_report

    write_report(run)
    say_report(run)


def run_import(run: RunFolder, config: Config, checkpoint: Path) -> None:
    """Starts a run from a super-network of the official code.

    Raises:
        ValueError: The run has a super-network already, or as for `open_run`.
    """
    if run.has_supernet():
        raise ValueError(
            f"Run folder '{run}' has a super-network already (source: {run.read_supernet().source}); "
            "choose another folder for the imported one."
        )
    with driving(run):
        open_run(run, config, checkpoint=checkpoint)
    result = run.read_supernet()
    say(
        f"imported {checkpoint.name}: {result.num_parameters:,} parameters, "
        f"spikes_reference {result.spikes_reference:,.0f} (measured on D_val)\n"
        f"continue with: python launch.py search {run}"
    )
