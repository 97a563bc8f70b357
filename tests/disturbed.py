"""Searches that are disturbed on purpose: what their processes meet, and what is left of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from processes import kill_family, wait_until, without_times
from torch import nn

from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.networks import make_network
from pipeline.storage.names import FOLDED_WEIGHTS
from pipeline.storage.records import Cost, SupernetResult
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
NUM_EVALUATIONS = 24
LONGEST_RUN = 150.0

# Loaded by every Python process of a disturbed search, as PYTHONPATH leads to it. Where candidates are
# evaluated it writes a line to log.jsonl before each evaluation and does what faults.json says.
SITECUSTOMIZE = '''
import ctypes, gc, importlib.util, json, os, signal, sys, time
from pathlib import Path

HERE = Path(__file__).parent
FAULTS = json.loads((HERE / "faults.json").read_text())


class Hook:
    """Wraps the modules that `WRAPPED` names as soon as they are loaded."""

    def find_spec(self, name, path, target=None):
        wrap = WRAPPED.pop(name, None)
        if wrap is None:
            return None
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), wrap(module))
        return spec


def wrap_trie(module):
    evaluate = module.evaluate_architectures

    def disturbed(network, architectures, *arguments, **settings):
        import ray

        texts = [str(architecture) for architecture in architectures]
        here = ray.get_runtime_context().get_node_id()
        number = write({"pid": os.getpid(), "node": here, "architectures": texts})
        wait_for_processes(FAULTS.get("together", 1))
        if "late" in FAULTS and (HERE / "once").exists():
            wait_for_late()
        time.sleep(FAULTS.get("delay", 0))
        if FAULTS.get("failing") in texts:
            raise ArithmeticError("made to fail")
        due = "once" in FAULTS and number > FAULTS.get("after", 0) and FAULTS.get("on", here) == here
        if due and first_to("once"):
            globals()[FAULTS["once"]]()
        return evaluate(network, architectures, *arguments, **settings)

    module.evaluate_architectures = disturbed


def wrap_weights(module):
    if "late" in FAULTS:
        module.ray = RayThatLosesWeights(module)


class RayThatLosesWeights:
    """Stands in for ray: after the fault `once` the weights are lost to the next worker that gets them.

    Either their holder dies between reference and weights; or the store has them no more, which is
    pretended: it takes a spilled copy whose file is gone.
    """

    def __init__(self, module):
        self.ray = module.ray
        self.handle = module.WeightsHandle
        self.lost = None

    def __getattr__(self, name):
        return getattr(self.ray, name)

    def get(self, ref):
        if ref == self.lost:
            raise self.ray.exceptions.ObjectLostError(ref.hex(), ref.owner_address(), ref.call_site())
        value = self.ray.get(ref)
        if isinstance(value, self.handle) and (HERE / "once").exists() and first_to("late"):
            if FAULTS["late"] == "holder_dies":
                kill_holder()
            else:
                self.lost = value.ref
        return value


def write(note):
    with open(HERE / "log.jsonl", "a") as log:
        log.write(json.dumps(note) + "\\n")
    return len(read())


def read():
    return [json.loads(line) for line in (HERE / "log.jsonl").read_text().splitlines()]


def wait_for_processes(number):
    """Waits until this many evaluate; otherwise one may finish everything before another starts."""
    while len({(note["node"], note["pid"]) for note in read()}) < number:
        time.sleep(0.05)


def wait_for_late():
    """Lets the worker that replaces another have its weights before all is evaluated without it."""
    end = time.monotonic() + 30
    while not (HERE / "late").exists() and time.monotonic() < end:
        time.sleep(0.05)


def first_to(name):
    try:
        with open(HERE / name, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(3600)


def kill_holder():
    import psutil

    here = str(HERE)
    living = [p for p in psutil.process_iter() if p.status() != psutil.STATUS_ZOMBIE]
    holders = [p for p in living if "WeightsHolder" in " ".join(p.cmdline())]
    [holder] = [p for p in holders if here in p.environ().get("PYTHONPATH", "")]
    holder.kill()
    while holder.is_running() and holder.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def write_into_shared_memory():
    [weights] = [it for it in gc.get_objects() if type(it).__name__ == "SharedWeights"]
    array = max(weights.arrays.values(), key=lambda array: array.nbytes)
    try:
        array[...] = 0
    except ValueError as error:
        (HERE / "refused").write_text(str(error))
    ctypes.memset(array.ctypes.data, 0, array.nbytes)


WRAPPED = {"snn.engines.trie": wrap_trie, "pipeline.search.weights": wrap_weights}
sys.meta_path.insert(0, Hook())
'''


@dataclasses.dataclass
class Search:
    """A run folder and the faults that its searches meet.

    Attributes:
        run: A copy of the run whose search is undisturbed.
        folder: Where the processes find their faults and write what they evaluate.
    """

    run: RunFolder
    folder: Path

    def meets(self, **faults: Any) -> None:
        """Sets the faults of the searches started from now on."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        (self.folder / "faults.json").write_text(json.dumps(faults))

    def start(
        self, *arguments: object, enter: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Starts the search; `enter` is a command that runs another one elsewhere."""
        command = [
            sys.executable,
            str(ROOT / "launch.py"),
            "search",
            str(self.run.path),
            *map(str, arguments),
        ]
        return subprocess.Popen(
            [*enter, *command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(self.folder), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(
        self, process: subprocess.Popen[str] | None = None, *, status: int = 0, seconds: float = LONGEST_RUN
    ) -> str:
        """Waits for the search to end and checks that it leaves no process and no temporary file."""
        process = process or self.start()
        try:
            output, errors = process.communicate(timeout=seconds)
        finally:
            kill_family(process)
        assert process.returncode == status, output + errors
        assert "Traceback" not in errors
        assert not list(self.run.path.rglob("*.tmp")) and not self.run.files.exists(FOLDED_WEIGHTS)
        wait_until(lambda: not self.processes())
        return errors

    def evaluated(self) -> list[dict[str, Any]]:
        """Process, node and architectures of each group whose evaluation has begun."""
        log = self.folder / "log.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for_evaluations(self, number: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.evaluated()) >= number)
        return self.evaluated()

    def first_to(self, name: str) -> int:
        """The process that met a fault of this kind."""
        return int((self.folder / name).read_text())

    def took_over_from(self, pid: int) -> bool:
        """Whether other processes evaluated what is in the last group that a process began.

        Where that group was a guess at the next generation (`pipeline.search.speculation`) nobody need do so:
        faults are for the first generation's groups, of which there are five.
        """
        lines = self.evaluated()
        last = max(i for i, line in enumerate(lines) if line["pid"] == pid)
        later = [line["architectures"] for line in lines[last + 1 :] if line["pid"] != pid]
        return {*lines[last]["architectures"]} <= {*itertools.chain.from_iterable(later)}

    def processes(self) -> list[psutil.Process]:
        """Running processes that searches of this folder started."""
        return [p for p in psutil.process_iter() if str(self.folder) in python_path(p)]

    def table(self) -> list[dict[str, Any]]:
        return without_times(self.run.read_evaluations())


def python_path(process: psutil.Process) -> str:
    try:
        return process.environ().get("PYTHONPATH", "")
    except psutil.Error:
        return ""


def tiny_config() -> Config:
    config = named_config("demo")
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, max_train_samples=200, max_test_samples=60),
        network=dataclasses.replace(config.network, channels=4),
        search=SearchConfig(
            population_size=6, num_parents=3, num_mutants=3, max_evaluations=NUM_EVALUATIONS, cache=False
        ),
        ray=dataclasses.replace(config.ray, num_workers=2),
    )


def write_supernet(run: RunFolder, config: Config) -> None:
    """A super-network of random weights, scaled so that its children fire and differ."""
    run.write_config(config)
    data = load_data(config)
    network = make_network(config.network, data)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2.0)
            nn.init.constant_(module.bias, 1.0)
    with torch.no_grad():
        network.head.weight *= 3
    result = SupernetResult(
        source="random",
        weights_sha256=run.write_supernet_weights(network.state_dict()),
        spikes_reference=1000.0,
        num_train=len(data.supernet_train()),
        num_val=len(data.val()),
        num_parameters=0,
        cost=Cost(),
    )
    run.write_supernet(result)
