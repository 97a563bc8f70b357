"""Budgets: prices, what is added up, and a run that is stopped in every stage and goes on."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import TINY, without_times

import launch
from pipeline.config.budget import BudgetConfig
from pipeline.config.named import named_config
from pipeline.finished import ledger_lines
from pipeline.interruption import BudgetSpent
from pipeline.ray import energy
from pipeline.ray import ledger as ledgers
from pipeline.ray.energy import read_energy
from pipeline.ray.ledger import Ledger
from pipeline.storage.run_folder import RunFolder


@pytest.mark.parametrize(
    "prices", [("gpu",), ("=1",), ("gpu=-1",), ("gpu=1", "gpu=2"), ("gpu=nan",), ("a=b",)]
)
def test_wrong_prices_are_refused(prices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"budget\.prices must be entries NODE_TYPE=DOLLARS_PER_HOUR"):
        BudgetConfig(prices=prices)


def test_limit_in_dollars_needs_a_price() -> None:
    with pytest.raises(ValueError, match=r"budget\.max_dollars needs the price .*--budget\.prices node="):
        BudgetConfig(max_dollars=1, prices=("gpu=2",))
    budget = BudgetConfig(max_dollars=1, prices=("gpu=2", "node=0.5"))
    assert (budget.price("gpu"), budget.price("cpu"), BudgetConfig().price("cpu")) == (2.0, 0.5, None)


def test_budget_is_no_part_of_a_run_s_identity() -> None:
    config = named_config("demo")
    assert replace(config, budget=BudgetConfig(max_hours=1)).identity() == config.identity()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(ledgers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ledgers, "read_energy", lambda: 50 * now[0])
    nodes = [
        {"Alive": True, "Labels": {"ray.io/node-group": "gpu"}, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": True, "Labels": {}, "Resources": {"CPU": 4.0}},
        {"Alive": False, "Labels": {}, "Resources": {"CPU": 4.0}},
    ]
    monkeypatch.setattr(ledgers.ray, "nodes", lambda: nodes)
    return now


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.write_config(named_config("demo"))
    return run


def test_nodes_are_added_up_by_stage_over_several_attempts(run: RunFolder, clock: list[float]) -> None:
    budget = BudgetConfig(max_dollars=5, prices=("gpu=2", "node=0.5"))
    first = Ledger(run, budget, joined=True)
    first.enter("search")
    clock[0] = 3600
    first.enter("retraining")
    first._write()
    clock[0] += 1e6  # between attempts nothing is paid
    second = Ledger(RunFolder(run.path), budget, joined=True)
    second.enter("retraining")
    clock[0] += 1800
    second._look()
    [search, retraining] = second.stages.values()
    assert (search.wall_seconds, search.joules, retraining.wall_seconds) == (3600, 180_000, 1800)
    gpu, other = second.nodes["search", "gpu"], second.nodes["search", "node"]
    assert (gpu.node_seconds, gpu.cpu_seconds, gpu.gpu_seconds, gpu.dollars) == (3600, 28_800, 3600, 2.0)
    assert (other.node_seconds, other.cpu_seconds, other.gpu_seconds, other.dollars) == (3600, 14_400, 0, 0.5)
    lines = ledger_lines(list(second.stages.values()), list(second.nodes.values()))
    assert lines[0].replace("\u00a0", " ") == (
        "search: 1 h 0 min, 1.00 node hours of 'gpu', 1.00 node hours of 'node', 2.50 dollars, 0.050 kWh of "
        "this machine's processors and GPUs"
    )
    clock[0] += 3600 * 0.5
    with pytest.raises(BudgetSpent, match=r"budget\.max_dollars \(5\) is reached in retraining"):
        second.enter("retraining")


def test_hours_of_all_attempts_count(run: RunFolder, clock: list[float]) -> None:
    first = Ledger(run, BudgetConfig(max_hours=1), joined=False)
    first.enter("super-network")
    clock[0] = 3599
    first._look()
    assert not first.spent()
    first._write()
    second = Ledger(RunFolder(run.path), BudgetConfig(max_hours=1), joined=False)
    second.enter("super-network")
    clock[0] += 1
    second._look()
    assert second.spent() == "budget.max_hours (1) is reached in super-network"
    assert second.nodes["super-network", "gpu"].dollars is None


def test_energy_is_that_of_the_packages(tmp_path: Path) -> None:
    assert read_energy(tmp_path) is None
    for name, joules in {"intel-rapl:0": 5, "intel-rapl:1": 7, "intel-rapl:0:0": 100}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{joules * 10**6}\n")
    assert read_energy(tmp_path) == 12


def test_energy_of_gpus_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nvml:
        """Stands in for NVML with three GPUs, of which the last is too old to count."""

        class NVMLError(Exception):
            pass

        def nvmlInit(self) -> None:
            pass

        def nvmlDeviceGetCount(self) -> int:
            return 3

        def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
            return index

        def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
            if handle == 2:
                raise self.NVMLError("not supported")
            return 1000 * (handle + 1)

    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    monkeypatch.setattr(energy, "_nvml", energy._nvml.__wrapped__)
    assert read_energy(tmp_path) == 3.0


@pytest.mark.slow
def test_run_stopped_in_every_stage_goes_on_to_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    settings = ["--search.max-evaluations", "16", "--budget.prices", "node=1"]
    command = ["run", "demo", *TINY, *settings, "--run-dir"]
    assert launch.main([*command, whole.location]) == 0
    for stage in ("super-network", "search", "retraining"):
        looks: list[str] = []

        def spent(self: Ledger, stage: str = stage, looks: list[str] = looks) -> str:
            looks.extend([stage] if self.stage == stage else [])
            return f"budget.max_hours (1) is reached in {stage}" if len(looks) > 1 else ""

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "spent", spent)
            capsys.readouterr()
            assert launch.main([*command, stopped.location]) == 3
        said = capsys.readouterr().err
        assert (
            f"budget.max_hours (1) is reached in {stage}; finished work is kept. Resume with: python" in said
        )
    assert launch.main([*command, stopped.location]) == 0
    assert stopped.read_supernet().weights_sha256 == whole.read_supernet().weights_sha256
    assert without_times(stopped.read_evaluations()) == without_times(whole.read_evaluations())
    assert stopped.read_retrained(0).weights_sha256 == whole.read_retrained(0).weights_sha256
    assert [entry.stage for entry in stopped.read_ledger()[0]] == ["super-network", "search", "retraining"]
    assert re.search(
        r"super-network: .* node hours of 'this machine', 0\.\d\d dollars", capsys.readouterr().out
    )
