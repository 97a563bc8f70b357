"""Disturbed searches end with the table of an undisturbed one; all faults but one are real."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from processes import kill_family, without_times
from torch import nn

from pipeline.config.named import named_config
from pipeline.config.search import SearchConfig
from pipeline.config.tree import Config
from pipeline.data import load_data
from pipeline.networks import make_network
from pipeline.storage.names import CONFIG, EVALUATION_PARTS, FOLDED_WEIGHTS, SUPERNET, SUPERNET_WEIGHTS
from pipeline.storage.records import Cost, SupernetResult
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
NUM_EVALUATIONS = 24
LONGEST_RUN = 150.0

pytestmark = pytest.mark.slow

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
        note = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id(), "architectures": texts}
        number = write(note)
        wait_for_processes(FAULTS.get("together", 1))
        time.sleep(FAULTS.get("delay", 0))
        if FAULTS.get("failing") in texts:
            raise ArithmeticError("made to fail")
        if "once" in FAULTS and number > FAULTS.get("after", 0) and first_to("once"):
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
    while len({note["pid"] for note in read()}) < number:
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
    holders = [p for p in psutil.process_iter() if "WeightsHolder" in " ".join(p.cmdline())]
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

# Two nodes on this machine; a line on standard input takes the second away, its end both.
TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
second = cluster.add_node(**node)
print(cluster.address, second.node_id, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    sys.stdin.readline()
cluster.shutdown()
"""


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

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "launch.py", "search", str(self.run.path), *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(self.folder), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str] | None = None, *, status: int = 0) -> str:
        """Waits for the search to end and checks that it leaves no process and no temporary file."""
        process = process or self.start()
        try:
            output, errors = process.communicate(timeout=LONGEST_RUN)
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
        """Whether another process evaluated the last group that a process began."""
        lines = self.evaluated()
        last = max(i for i, line in enumerate(lines) if line["pid"] == pid)
        begun = lines[last]["architectures"]
        return any(line["pid"] != pid and line["architectures"] == begun for line in lines[last + 1 :])

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


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """The undisturbed search."""
    folder = tmp_path_factory.mktemp("whole")
    search = Search(RunFolder(folder / "run"), folder / "faults")
    write_supernet(search.run, tiny_config())
    search.finish()
    table = search.table()
    assert len(table) == NUM_EVALUATIONS and not any(row["error"] for row in table)
    assert len({row["spikes"] for row in table}) > NUM_EVALUATIONS // 2
    assert len({row["accuracy"] for row in table}) > 3
    return search


@pytest.fixture
def disturbed(whole: Search, tmp_path: Path) -> Iterator[Search]:
    """The same search before its start."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in (CONFIG, SUPERNET, SUPERNET_WEIGHTS):
        shutil.copy(whole.run.path / name, run.path)
    search = Search(run, tmp_path / "faults")
    yield search
    for process in search.processes():  # a test that failed half-way
        with contextlib.suppress(psutil.Error):
            process.kill()


def test_killed_evaluator_is_replaced(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    victim = disturbed.wait_for_evaluations(5)[-1]["pid"]
    os.kill(victim, signal.SIGKILL)
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(victim)


def test_killed_weights_holder_hands_out_the_weights_again(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    disturbed.wait_for_evaluations(3)
    [holder] = [p for p in disturbed.processes() if "WeightsHolder" in " ".join(p.cmdline())]
    holder.kill()
    victim = disturbed.wait_for_evaluations(6)[-1]["pid"]
    os.kill(victim, signal.SIGKILL)
    disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(victim)


@pytest.mark.parametrize("late", ["holder_dies", "object_is_lost"])
def test_evaluator_that_joins_late_gets_weights_that_were_lost(
    whole: Search, disturbed: Search, late: str
) -> None:
    disturbed.meets(once="die", after=4, late=late)
    disturbed.finish()
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(disturbed.first_to("once"))
    assert disturbed.first_to("late") != disturbed.first_to("once")


def test_killed_driver_goes_on_without_evaluating_twice(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    driver = disturbed.start()
    wait_until(lambda: len(disturbed.run.evaluation_parts()) >= 4)
    kill_family(driver)
    wait_until(lambda: not disturbed.processes())
    kept = {row.architecture for row in disturbed.run.read_evaluations()}
    num_before = len(disturbed.evaluated())
    assert 4 <= len(kept) < NUM_EVALUATIONS
    disturbed.meets()
    disturbed.finish()
    again = {text for line in disturbed.evaluated()[num_before:] for text in line["architectures"]}
    assert again and not again & kept
    assert disturbed.table() == whole.table()


@contextlib.contextmanager
def two_nodes(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A cluster of two nodes with a CPU each: its process, its address and the second node's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address, second = process.stdout.readline().split()
        yield process, address, second
        process.stdin.close()
        process.wait(60)
    finally:
        kill_family(process)


@contextlib.contextmanager
def small_cluster() -> Iterator[tuple[subprocess.Popen[str], str, str, dict[str, str]]]:
    """What two_nodes yields, and the environment of a driver; with a token and a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        token = Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        ours = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_TMPDIR": folder,
        }
        with two_nodes(os.environ | ours) as nodes:
            yield *nodes, ours


def test_lost_node_costs_its_trial_only(whole: Search, disturbed: Search) -> None:
    disturbed.meets(delay=0.5, together=2)
    with small_cluster() as (cluster, address, second, ours):
        driver = disturbed.start("--ray.address", address, **ours)
        wait_until(lambda: [line["node"] for line in disturbed.evaluated()].count(second) >= 2)
        victim = [line["pid"] for line in disturbed.evaluated() if line["node"] == second][-1]
        cluster.stdin.write("remove\n")
        cluster.stdin.flush()
        disturbed.finish(driver)
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(victim)


def test_what_a_cluster_cannot_start_is_said(tmp_path: Path) -> None:
    with small_cluster() as (_cluster, address, _second, ours):
        command = [sys.executable, "launch.py", "run", "demo", "--run-dir", str(tmp_path / "run")]
        command += ["--threads-per-worker", "2", "--ray.address", address]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ours,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as driver:
            try:
                assert driver.stderr is not None
                assert driver.stderr.readline() == (
                    "warning: a trial actor waits for 2 CPUs on one node; "
                    "2 of 2 CPUs of the cluster's 2 nodes are free, a node has at most 1 CPU\n"
                )
            finally:
                kill_family(driver)


def test_candidate_that_raises_fails_alone(whole: Search, disturbed: Search) -> None:
    rows = whole.table()
    failing = min((row for row in rows if row["generation"] == 0), key=lambda row: row["fitness"])
    disturbed.meets(failing=failing["architecture"])
    disturbed.finish()
    table = {row["architecture"]: row for row in disturbed.table()}
    assert table.pop(failing["architecture"])["error"] == "ArithmeticError: made to fail"
    assert table == {row["architecture"]: row for row in rows if row is not failing}


def test_evaluator_that_hangs_is_replaced(whole: Search, disturbed: Search) -> None:
    config = disturbed.run.read_config()
    ray = dataclasses.replace(config.ray, evaluation_timeout=3.0)
    (disturbed.run.path / CONFIG).unlink()
    disturbed.run.write_config(dataclasses.replace(config, ray=ray))
    disturbed.meets(once="hang", after=3)
    disturbed.finish()
    assert disturbed.table() == whole.table()
    assert disturbed.took_over_from(disturbed.first_to("once"))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of 40 KiB."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_full_disk_ends_the_search_and_harms_no_result(whole: Search, disturbed: Search) -> None:
    parts = disturbed.run.path / EVALUATION_PARTS
    with small_disk(parts):
        disturbed.meets()
        errors = disturbed.finish(status=2)
        assert "No space left on device" in errors and str(parts) in errors
        kept = {row["candidate_id"]: row for row in disturbed.table()}
        assert 0 < len(kept) < NUM_EVALUATIONS
        assert all(whole.table()[i] == row for i, row in kept.items())
        subprocess.run(["mount", "-o", "remount,size=10m", parts], check=True)
        disturbed.finish()
    assert disturbed.table() == whole.table()


def test_damaged_weights_are_refused(disturbed: Search) -> None:
    file = disturbed.run.path / SUPERNET_WEIGHTS
    damaged = bytearray(file.read_bytes())
    damaged[-100] ^= 1
    file.write_bytes(damaged)
    disturbed.meets()
    errors = disturbed.finish(status=2)
    for expected in (
        str(file),
        hashlib.sha256(damaged).hexdigest(),
        disturbed.run.read_supernet().weights_sha256,
    ):
        assert expected in errors
    assert not disturbed.evaluated() and not disturbed.run.has_best()


def test_write_into_shared_weights_ends_the_search(whole: Search, disturbed: Search) -> None:
    disturbed.meets(once="write_into_shared_memory", after=6)
    errors = disturbed.finish(status=2)
    assert (disturbed.folder / "refused").read_text() == "assignment destination is read-only"
    assert "weights in shared memory were overwritten" in errors
    kept = disturbed.table()
    assert 0 < len(kept) < NUM_EVALUATIONS and not disturbed.run.has_best()
    assert kept == [row for row in whole.table() if row["candidate_id"] in {r["candidate_id"] for r in kept}]
