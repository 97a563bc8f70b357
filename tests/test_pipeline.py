"""Whole pipelines on real Ray: reproducible, resumable, clear when something is wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from processes import TINY, kill_family, without_times

import snn
from pipeline.config.named import named_config
from pipeline.data import load_data
from pipeline.run import run_import
from pipeline.storage.names import REPORT_HTML, SUPERNET_CHECKPOINT
from pipeline.storage.run_folder import RunFolder
from snn.model.network import SpikingNetwork
from snn.model.spikes import record_spikes
from snn.search_space import AUTOSNN_BLOCKS, Architecture, make_backbone

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def command(*arguments: object) -> list[str]:
    return [sys.executable, "launch.py", *map(str, arguments)]


def launch(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=400)


def run_tiny(run_dir: Path, *arguments: object) -> str:
    done = launch("run", "demo", "--run-dir", run_dir, *TINY, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(run_dir: Path) -> list[dict]:
    return without_times(RunFolder(run_dir).read_evaluations())


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    output = run_tiny(run_dir, "--ray.num-workers", 2)
    assert f"report: {run_dir / 'report.html'}" in output
    return run_dir


def test_run_folder_holds_every_stage(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    assert len(run.read_evaluations()) == 32
    assert run.read_supernet().spikes_reference > 0
    assert run.retrained_numbers() == [0]
    assert run.read_retrained(0).architecture == run.read_best().best.architecture
    assert list((run.path / "tensorboard" / "supernet").glob("events.out.tfevents*"))
    assert not (run.path / SUPERNET_CHECKPOINT).exists()
    html = (run.path / REPORT_HTML).read_text()
    assert len(html) < 6_000_000 and "http://" not in html.replace("http://www.w3.org", "")[:2000]
    assert not list(whole_run.rglob("*.tmp"))


def test_bundle_predicts_exactly_what_the_run_reports(whole_run: Path) -> None:
    run = RunFolder(whole_run)
    data, reported = load_data(run.read_config()), run.read_retrained(0).test
    measured = data.test_set().indices
    pictures = list(data.test.samples[measured].transpose(0, 2, 3, 1))
    predicted = snn.load(whole_run / "retrained" / "0").predict(pictures)
    assert (predicted.classes == data.test.labels[measured]).mean() == reported.accuracy
    assert predicted.spikes.mean() == pytest.approx(reported.spikes, rel=1e-12)
    assert (predicted.synops.mean(), predicted.macs.mean()) == (reported.synops, reported.macs)
    for part, spikes in predicted.spikes_per_layer.items():
        assert spikes.mean() == pytest.approx(reported.spikes_per_layer[part], rel=1e-12)


def test_same_seed_gives_the_same_run_with_another_number_of_workers(whole_run: Path, tmp_path: Path) -> None:
    run_tiny(tmp_path / "again", "--ray.num-workers", 1)
    first, second = RunFolder(whole_run), RunFolder(tmp_path / "again")
    assert table(tmp_path / "again") == table(whole_run)
    assert second.read_supernet().weights_sha256 == first.read_supernet().weights_sha256
    assert second.read_retrained(0).test == first.read_retrained(0).test


def test_event_data_goes_through_all_stages_and_images_architecture_transfers(
    whole_run: Path, tmp_path: Path
) -> None:
    done = launch("run", "demo_events", "--run-dir", tmp_path / "events", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    run = RunFolder(tmp_path / "events")
    course = run.read_retrained(0).time_course
    assert course is not None and len(course.accuracy) == 4
    html = (run.path / REPORT_HTML).read_text()
    assert "data:image/png" in html and "simulated" in html.lower()
    settings = [*TINY[:-2], "--run-dir", tmp_path / "moved"]
    done = launch("retrain", whole_run, "--on", "demo_events", "--architecture", "best", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    moved = RunFolder(tmp_path / "moved").read_retrained(0)
    assert moved.architecture == RunFolder(whole_run).read_best().best.architecture
    assert moved.test.num_samples == 60


def test_finished_stages_are_not_done_again_and_another_config_is_refused(whole_run: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in whole_run.rglob("*") if "report" not in file.name}
    assert "1/3 super-network: already finished" in run_tiny(whole_run)
    after = {file: file.stat().st_mtime_ns for file in whole_run.rglob("*") if "report" not in file.name}
    assert after == before
    refused = launch("run", "demo", "--run-dir", whole_run, *TINY, "--seed", 5)
    assert refused.returncode == 2
    assert "seed: 0 there, 5 asked for" in refused.stderr


def start_and_wait_for(run_dir: Path, pattern: str, number: int, *arguments: object) -> subprocess.Popen:
    """Starts the tiny run and returns once it has written this many files that match a pattern."""
    process = subprocess.Popen(
        command("run", "demo", "--run-dir", run_dir, *TINY, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while len(list(run_dir.glob(pattern))) < number:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    return process


def test_interrupted_and_killed_run_ends_with_the_same_table(whole_run: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "stopped"
    kill_family(start_and_wait_for(run_dir, "supernet_checkpoint.pt", 1))
    interrupted = start_and_wait_for(run_dir, "evaluations/*.parquet", 3)
    interrupted.send_signal(signal.SIGINT)
    _, errors = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130
    assert f"python launch.py run demo --run-dir {run_dir}" in errors
    assert not RunFolder(run_dir).has_best()
    kept = len(RunFolder(run_dir).read_evaluations())
    assert 0 < kept < 32
    kill_family(start_and_wait_for(run_dir, "evaluations/*.parquet", 5))
    run_tiny(run_dir)
    assert table(run_dir) == table(whole_run)


def test_killed_elimination_goes_on_and_keeps_what_all_samples_say(tmp_path: Path) -> None:
    space = ["--data.max-train-samples", 1200, "--network.blocks", "skip_connect", "SCB_k3", "SRB_k3"]
    space += ["--search.algorithm", "exhaustive", "--supernet.epochs", 2, "--search.cost", "energy"]
    raced = [*space, "--search.elimination-risk", 0.3, "--ray.num-workers", 2]
    kill_family(start_and_wait_for(tmp_path / "killed", "shards/01-*.parquet", 1, *raced))
    kept = len(list(RunFolder(tmp_path / "killed").read_shards()))
    assert kept > 243
    run_tiny(tmp_path / "killed", *raced)
    run_tiny(tmp_path / "raced", *raced, "--reuse-supernet", tmp_path / "killed")
    assert table(tmp_path / "killed") == table(tmp_path / "raced")
    run_tiny(tmp_path / "all", *space, "--reuse-supernet", tmp_path / "killed")
    exact = {row["architecture"]: row for row in table(tmp_path / "all")}
    complete = [row for row in table(tmp_path / "raced") if row["num_samples"] == 240]
    assert 0 < len(complete) < len(exact) == 243
    assert complete == [exact[row["architecture"]] for row in complete]
    assert RunFolder(tmp_path / "raced").read_best().block_runs_saved > 0.1


@pytest.mark.long
def test_killed_training_process_goes_on_from_its_checkpoint(whole_run: Path, tmp_path: Path) -> None:
    driver = start_and_wait_for(tmp_path / "lost", "supernet_checkpoint.pt", 1)
    family = psutil.Process(driver.pid).children(recursive=True)
    trainings = [p for p in family if "run_training" in " ".join(p.cmdline())]
    assert len(trainings) == 1
    trainings[0].kill()
    output, errors = driver.communicate(timeout=240)
    assert driver.returncode == 0, output + errors
    assert "warning: a training process was lost" in errors
    lost, whole = RunFolder(tmp_path / "lost"), RunFolder(whole_run)
    assert lost.read_supernet().weights_sha256 == whole.read_supernet().weights_sha256


def test_single_stages_and_evaluate_work_on_a_run_folder(whole_run: Path) -> None:
    done = launch("evaluate", whole_run, "--architecture", "all-SCB_k3")
    assert done.returncode == 0, done.stderr
    assert "SCB_k3-SCB_k3-SCB_k3-SCB_k3-SCB_k3" in done.stdout and "spikes" in done.stdout
    best = RunFolder(whole_run).read_best().best
    done = launch("evaluate", whole_run, "--architecture", best.architecture)
    assert best.evaluation is not None
    assert f"{best.evaluation.spikes:,.0f} per sample" in done.stdout
    assert launch("report", whole_run).returncode == 0
    typo = launch("evaluate", whole_run, "--architecture", "SCB_k9")
    assert typo.returncode == 2 and "Unknown block 'SCB_k9'" in typo.stderr


def test_diverging_training_stops_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    done = launch("run", "demo", "--run-dir", tmp_path / "nan", *TINY, "--supernet.learning-rate", "1e38")
    assert done.returncode == 2
    assert "lower the learning rate" in done.stderr
    assert not RunFolder(tmp_path / "nan").has_supernet()


def test_missing_data_names_folder_forms_and_flag(tmp_path: Path) -> None:
    done = launch("run", "cifar10", "--run-dir", tmp_path / "run", "--data.root", tmp_path / "nothing")
    assert done.returncode == 2
    for word in ("nothing", "parquet", "--data.download"):
        assert word in done.stderr
    assert not (tmp_path / "run").exists()


def test_imported_checkpoint_gives_the_official_spikes(shared: Path, tmp_path: Path) -> None:
    config = named_config("cifar10")
    data = dataclasses.replace(config.data, root=shared / "data", max_train_samples=100)
    config = dataclasses.replace(config, data=data)
    run = RunFolder(tmp_path / "imported")
    run_import(run, config, shared / "reference/official_supernet.pth.tar")
    assert 1e4 < run.read_supernet().spikes_reference < 1e5
    network = SpikingNetwork(
        make_backbone("AutoSNN", channels=16), [AUTOSNN_BLOCKS] * 5,
        input_shape=(3, 32, 32), num_classes=10, time_steps=8,
    )  # fmt: skip
    network.load_state_dict(run.read_supernet_weights())
    expected = np.load(shared / "reference/official_supernet_expected.npz")
    for names, spikes in zip(expected["architectures"], expected["spikes_per_image"], strict=True):
        with torch.inference_mode(), record_spikes(network.eval()) as record:
            network(torch.from_numpy(expected["images"]), Architecture(tuple(map(str, names))))
        assert record.per_sample().mean().item() == pytest.approx(spikes, rel=1e-3)
    done = launch("evaluate", run.path, "--architecture", "autosnn")
    assert done.returncode == 0 and "spikes" in done.stdout, done.stderr


def test_no_ray_process_is_left_behind(whole_run: Path) -> None:
    del whole_run
    left = [p for p in psutil.process_iter(["ppid", "name"]) if p.info["ppid"] == os.getpid()]
    assert not [p for p in left if "ray" in p.info["name"]]
