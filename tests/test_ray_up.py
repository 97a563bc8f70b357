"""A rendered launcher file, brought up by `ray up` on machines that a cloud of ours makes and ends."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from hosts import network
from processes import wait_until, without_times
from ssh_hosts import SshHost, make_key, why_no_ssh_hosts
from toy_cloud import ToyCloud

from cluster.render import ClusterRun, render
from pipeline.config.flags import flags_of
from pipeline.config.named import named_config
from pipeline.config.tree import Config
from pipeline.storage.names import REPORT_HTML
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_no_ssh_hosts()), reason=why_no_ssh_hosts()),
]


def _tiny() -> Config:
    demo = named_config("demo")
    return replace(
        demo,
        training_threads=1,
        data=replace(demo.data, max_train_samples=200, max_test_samples=60),
        network=replace(demo.network, channels=4),
        supernet=replace(demo.supernet, epochs=2),
        search=replace(
            demo.search, population_size=8, num_parents=4, num_mutants=4, max_evaluations=64, cache=False
        ),
        retrain=replace(demo.retrain, epochs=1, architectures=("best",)),
    )


CONFIG = _tiny()
RUN = ClusterRun(CONFIG, workers=4, cpus_per_node=2)


@dataclass(frozen=True)
class Launcher:
    """`ray` commands on a cluster file."""

    file: Path
    environment: dict[str, str]

    def ray(self, command: str, *arguments: str) -> str:
        done = self.start(command, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", command, str(self.file), *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=400,
        )


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[tuple[ToyCloud, Launcher]]:
    """The cloud, and a launcher whose file is the rendered one but for provider, login and small machines."""
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").touch(mode=0o600)
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    key = make_key(tmp_path)
    with network() as lab:
        machines = ToyCloud(lambda name: SshHost(lab, name, key))
        with machines.served(lab.address) as url:
            values = yaml.safe_load(render("aws", RUN))
            values["provider"] = {"type": "external", "module": "toy_cloud.ToyCloudProvider", "url": url}
            values["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
            values |= {"worker_setup_commands": [], "initialization_commands": [], "cluster_synced_files": []}
            values["idle_timeout_minutes"] = 0.1
            values["head_start_ray_commands"][-1] = (
                f"PYTHONPATH={ROOT}/tests AUTOSCALER_UPDATE_INTERVAL_S=1 "
                + values["head_start_ray_commands"][-1]
            )
            for name, kind in values["available_node_types"].items():
                kind["resources"]["CPU"] = int(name != "head")
            file = tmp_path / "cluster.yaml"
            file.write_text(yaml.safe_dump(values))
            yield machines, Launcher(file, {**os.environ, "HOME": str(home), "PYTHONPATH": f"{ROOT}/tests"})


def test_cluster_grows_from_nothing_and_shrinks_to_nothing(
    cloud: tuple[ToyCloud, Launcher], tmp_path: Path
) -> None:
    machines, launcher = cloud
    launcher.ray("up", "--yes", "--no-config-cache")
    assert machines.history == [1]
    output = launcher.ray("exec", driver_command())
    assert "3/3 retraining" in output
    assert max(machines.history) == 3, "the head and both workers"
    large = driver_command().replace("~/runs/demo", "~/runs/large --threads-per-worker 8")
    refused = launcher.start("exec", large)
    assert refused.returncode and "a trial actor needs 8 CPUs on one node, but no node" in refused.stdout
    assert "1/3" not in refused.stdout, "it is refused before the super-network"
    wait_until(lambda: len(machines.list()) == 1, 60, "the workers to be ended")
    collected = tmp_path / "run"
    launcher.ray("rsync-down", "~/runs/demo/", f"{collected}/")
    launcher.ray("down", "--yes")
    assert machines.list() == {}

    run, alone = RunFolder(collected), RunFolder(tmp_path / "alone")
    command = [sys.executable, "launch.py", "run", "demo", *flags_of(CONFIG, named_config("demo"))]
    subprocess.run([*command, "--run-dir", alone.path], cwd=ROOT, check=True, capture_output=True)
    assert without_times(run.read_evaluations()) == without_times(alone.read_evaluations())
    assert run.read_retrained(0).test == alone.read_retrained(0).test
    assert run.read_best().num_workers <= 2, "not the four that the search could have used"
    course = run.read_cluster()
    assert course[0].nodes == 0 and max(sample.nodes for sample in course) == 2
    assert course[-1].evaluations == 64 and "chart-cluster" in (collected / REPORT_HTML).read_text()


def driver_command() -> str:
    """The command that the rendered file tells to give to `ray exec`, but for the terminal."""
    line = next(line for line in render("aws", RUN).splitlines() if "--tmux" in line)
    return line.split("--tmux ")[1].strip("'")
