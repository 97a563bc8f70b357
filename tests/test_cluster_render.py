"""Files for clusters: what is rendered is valid, runs what was asked for, and is closed to strangers."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import launch
from cluster.render import ClusterRun, Place, render
from pipeline.config.flags import flags_of
from pipeline.config.named import CONFIGS, named_config
from pipeline.config.tree import Config

PLACES: tuple[Place, ...] = get_args(Place)
CONFIG = CONFIGS["cifar10"]
CHANGES = {
    "seed": 7,
    "threads_per_worker": 2,
    "data": replace(CONFIG.data, flip=False, max_train_samples=500),
    "network": replace(CONFIG.network, channels=24, blocks=("skip_connect", "SRB_k5")),
    "search": replace(CONFIG.search, spike_exponent=-0.25, max_spikes=9e3, cache=False, max_workers=3),
    "retrain": replace(CONFIG.retrain, architectures=("best", "all-SRB_k5"), seeds=(0, 3)),
    "ray": replace(CONFIG.ray, evaluation_timeout=30.0),
}


def read_command(arguments: list[str]) -> Any:
    command: Any = launch.read(arguments)
    while hasattr(command, "command"):
        command = command.command
    return command


def read_run(arguments: list[str]) -> Config:
    return read_command(arguments).settings


@pytest.mark.parametrize("seed", range(6))
def test_settings_survive_the_way_through_a_command_line(seed: int) -> None:
    rng = random.Random(seed)
    changed = rng.sample(sorted(CHANGES), rng.randint(1, len(CHANGES)))
    config = replace(CONFIG, **{name: CHANGES[name] for name in changed})
    assert read_run(["run", "cifar10", *flags_of(config, CONFIG)]) == config
    assert flags_of(CONFIG, CONFIG) == []


@pytest.mark.parametrize("gpus", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("place", PLACES)
def test_rendered_file_runs_what_was_asked_for(place: Place, gpus: float) -> None:
    config = replace(named_config("cifar10_small"), seed=7, threads_per_worker=2)
    text = render(place, ClusterRun(config, workers=6, gpus_per_worker=gpus))
    arguments = driver_arguments(text)
    settings = read_run(arguments)
    assert (settings.name, settings.seed, settings.threads_per_worker) == ("cifar10_small", 7, 2)
    assert 6 in (settings.search.max_workers, settings.ray.num_workers)
    assert (settings.ray.gpus_per_worker or 0) == gpus
    assert ("GPU: 1" in text or "gpu" in text) == bool(gpus) or place == "sky"


@pytest.mark.parametrize("place", PLACES)
def test_rendered_run_is_kept_where_it_shall_be(place: Place) -> None:
    for storage in (None, "s3://bucket/runs"):
        text = render(place, ClusterRun(CONFIG, workers=4, storage=storage))
        assert read_command(driver_arguments(text)).storage == storage
        if place == "kuberay":
            kinds = [(it["kind"], it["metadata"]["name"]) for it in yaml.safe_load_all(text)]
            claims = {name for kind, name in kinds if kind == "PersistentVolumeClaim"}
            assert claims == {"autosnn-cifar10-data"} | (
                {"autosnn-cifar10-runs"} if storage is None else set()
            )
            assert ("secretRef" in text) == (storage is not None)
    with pytest.raises(ValueError, match="--storage is '/nfs/runs', but takes the URI"):
        ClusterRun(CONFIG, workers=4, storage="/nfs/runs")


def driver_arguments(text: str) -> list[str]:
    """What follows `launch.py` in a file; in a shell script the run is an array."""
    if "run=(" in text:
        return shlex.split(text.split("run=(")[1].split(")\n")[0])
    line = next(line for line in text.splitlines() if "launch.py run" in line)
    return shlex.split(line.split("launch.py ")[1].rstrip("'"))


@pytest.mark.parametrize("place", PLACES)
def test_rendered_file_is_closed_to_strangers(place: Place) -> None:
    text = render(place, ClusterRun(CONFIG, workers=4))
    assert "mode: token" in text if place == "kuberay" else "RAY_AUTH_MODE=token" in text
    if place != "kuberay":
        assert "--include-dashboard=false" in text and "RAY_enable_metrics_collection=0" in text
    assert "{{" not in text and "{%" not in text


@pytest.mark.parametrize("gpus", [0.0, 1.0])
@pytest.mark.parametrize("place", ["aws", "gcp"])
def test_launcher_files_grow_from_nothing_on_spot_machines_first(place: Place, gpus: float) -> None:
    values = yaml.safe_load(render(place, ClusterRun(CONFIG, workers=40, gpus_per_worker=gpus)))
    types = dict(values["available_node_types"])
    assert types.pop("head")["resources"] == {"CPU": 0}
    assert {name.split("-")[0] for name in types} == ({"cpu", "gpu"} if gpus else {"cpu"})
    for kind in {name.split("-")[0] for name in types}:
        spot, fallback = types[f"{kind}-spot"], types[f"{kind}-on-demand"]
        assert spot["resources"] == fallback["resources"] and spot["priority"] > fallback["priority"]
        assert "spot" in json.dumps(spot["node_config"]).lower()
        assert "spot" not in json.dumps(fallback["node_config"]).lower()
        assert spot["min_workers"] == fallback["min_workers"] == 0


def test_slurm_script_is_a_script(tmp_path) -> None:
    script = render("slurm", ClusterRun(CONFIG, workers=4, gpus_per_worker=1))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "ray stop" not in script and "symmetric-run" not in script


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"workers": 2, "cpus_per_node": 1}, "--cpus-per-node is 1, but .* needs 2 CPUs"),
        ({"workers": 2, "cpus_per_node": 999}, "the largest machine .* has 32 CPUs and 0 GPUs"),
    ],
)
def test_what_no_node_can_hold_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render("aws", ClusterRun(CONFIG, **settings))


@pytest.mark.parametrize("place", ["aws", "gcp", "kuberay", "sky"])
def test_examples_are_what_is_rendered(place: Place) -> None:
    """Each was written by: python launch.py cluster render PLACE cifar10 --workers 8 --gpus-per-worker 1."""
    example = Path(__file__).resolve().parents[1] / "cluster" / f"{place}.yaml"
    assert example.read_text() == render(place, ClusterRun(CONFIG, workers=8, gpus_per_worker=1))
