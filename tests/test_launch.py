"""The command line: what it reads, what it says about mistakes, its exit status."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import launch
import pipeline.bench.run
import pipeline.run
import pipeline.use.evaluate
from pipeline.config.named import CONFIGS
from pipeline.storage.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    *("demo", "run", "configs", "train-supernet", "search", "retrain", "report"),
    *("evaluate", "replay", "import-checkpoint", "bench", "cluster"),
]


def read(*arguments: str) -> Any:
    """The command that is read, without the choices around it."""
    command = launch.read(list(arguments))
    while hasattr(command, "command"):
        command = command.command
    return command


@pytest.fixture
def status(capsys):
    """Runs a command line; its exit status and what it printed."""

    def run(*arguments: str) -> SimpleNamespace:
        try:
            code = launch.main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def called(monkeypatch) -> list[tuple]:
    """Replaces all that a command could start; the arguments of each call."""
    calls: list[tuple] = []

    def stub(name: str):
        return lambda *arguments: calls.append((name, *arguments))

    for name in ("run_all", "run_stage", "run_transfer", "run_import"):
        monkeypatch.setattr(pipeline.run, name, stub(name))
    monkeypatch.setattr(pipeline.use.evaluate, "evaluate", stub("evaluate"))
    monkeypatch.setattr(pipeline.bench.run, "bench", stub("bench"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    return calls


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.write_config(CONFIGS["demo"])
    return folder


def commands_of(document: str) -> list[str]:
    """The command lines of a Markdown file's code blocks, without the explanations beside them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.S | re.M)
    lines = re.sub(r" \\\n\s*", " ", "\n".join(blocks)).splitlines()
    found = [line.partition("python launch.py ")[2] for line in lines if "python launch.py " in line]
    return [re.split(r"\s{2,}|\s#", line)[0] for line in found]


DOCUMENTED = [command for file in ("README.md", "cluster/README.md") for command in commands_of(file)]


def test_documentation_shows_commands() -> None:
    assert len(DOCUMENTED) > 15
    assert {shlex.split(command)[0] for command in DOCUMENTED} >= {"demo", "run", "retrain", "replay"}


@pytest.mark.parametrize("command", DOCUMENTED)
def test_documented_command_is_read(command: str) -> None:
    words = [word for word in shlex.split(command) if word != "--help"]
    assert callable(read(*words).run)


def test_help_of_every_command_loads_nothing_heavy() -> None:
    code = f"""
import sys, launch
for words in {[[], ["run", "demo"], *([name] for name in COMMANDS)]}:
    try:
        launch.main([*words, "--help"])
    except SystemExit as stop:
        assert not stop.code, words
print(sorted({{"torch", "ray", "numpy", "pyarrow"}} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for text in (
        *COMMANDS,
        *CONFIGS,
        "--search.population-size",
        "RUN_DIR",
        "--ray.num-workers",
        "AUTOSNN_LOG",
    ):
        assert text in done.stdout


def test_no_command_shows_the_help(status) -> None:
    done = status()
    assert done.code == 0 and "import-checkpoint" in done.out


def test_run_takes_every_setting_over_the_named_config() -> None:
    command = read(
        *("run", "cifar10_small", "--run-dir", "B", "--reuse-supernet", "A", "--seed", "7"),
        *("--data.root", "D", "--search.no-cache", "--search.more-exponents", "-0.16", "-0.24"),
        *("--retrain.architectures", "best", "all-SCB_k3", "--ray.num-workers=3"),
    )
    named = CONFIGS["cifar10_small"]
    assert command.settings == replace(
        named,
        seed=7,
        data=replace(named.data, root=Path("D")),
        search=replace(named.search, cache=False, more_exponents=(-0.16, -0.24)),
        retrain=replace(named.retrain, architectures=("best", "all-SCB_k3")),
        ray=replace(named.ray, num_workers=3),
    )
    assert (command.run_dir, command.reuse_supernet) == ("B", "A")


@pytest.mark.parametrize("name", CONFIGS)
def test_defaults_of_a_run_are_those_of_its_config(name: str) -> None:
    command = read("run", name)
    assert command.settings == CONFIGS[name]
    assert command.run_dir == f"runs/{name}"


def test_demo_is_the_run_of_its_config() -> None:
    assert read("demo", "--seed", "3") == read("run", "demo", "--seed", "3")


@pytest.mark.parametrize("on", [("--on", "demo_events"), ("--on=demo_events",)])
@pytest.mark.parametrize("behind", [False, True])
def test_retraining_on_another_data_set_takes_its_settings(on: tuple[str, ...], behind: bool) -> None:
    others = ("--retrain.epochs", "2", "--architecture", "autosnn")
    command = read("retrain", "R", *(others + on if behind else on + others))
    named = CONFIGS["demo_events"]
    assert command.settings == replace(named, retrain=replace(named.retrain, epochs=2))
    assert (command.source, command.on, command.architecture) == ("R", "demo_events", "autosnn")


def test_retraining_on_another_data_set_has_a_folder_of_its_own(
    status, called, run_folder: RunFolder
) -> None:
    assert status("retrain", str(run_folder.path), "--on=demo_events").code == 0
    assert status("retrain", str(run_folder.path), "--on=demo", "--run-dir", "elsewhere").code == 0
    folders = [call[3].location for call in called]
    assert folders == [f"{run_folder}/transfer/demo_events-best", "elsewhere"]
    assert all(call[1].path == run_folder.path for call in called)


@pytest.mark.parametrize("name", ["train-supernet", "search", "retrain", "report"])
@pytest.mark.parametrize("dot", [".", "-"])
def test_stage_takes_its_flags_with_dots_and_with_dashes(
    name: str, dot: str, status, called, run_folder
) -> None:
    flags = (f"--data{dot}root", "elsewhere", f"--ray{dot}address", "auto", f"--ray{dot}num-workers=5")
    assert status(name, str(run_folder.path), *flags).code == 0
    ((_, stage, folder, config),) = called
    assert stage == name and folder.path == run_folder.path
    kept = CONFIGS["demo"]
    assert config == replace(
        kept,
        data=replace(kept.data, root=Path("elsewhere").resolve()),
        ray=replace(kept.ray, address="auto", num_workers=5),
    )


def test_stage_keeps_the_settings_of_the_folder(status, called, run_folder: RunFolder) -> None:
    assert status("search", str(run_folder.path)).code == 0
    assert called[0][3].identity() == CONFIGS["demo"].identity()
    assert called[0][3].ray == CONFIGS["demo"].ray


def test_data_folder_of_a_run_is_absolute(status, called) -> None:
    assert status("run", "demo", "--data.root", "somewhere").code == 0
    assert called[0][2].data.root == Path("somewhere").resolve()


def test_import_takes_the_settings_of_a_config() -> None:
    for arguments in (["F", "R", "--config", "demo", "--seed", "3"], ["--seed=3", "--config=demo", "F", "R"]):
        command = read("import-checkpoint", *arguments)
        assert command.settings == replace(CONFIGS["demo"], seed=3)
        assert (command.file, command.run_dir) == (Path("F"), "R")
    assert read("import-checkpoint", "F", "R").settings == CONFIGS["cifar10"]


def test_bench_takes_sections_and_prices(status, called) -> None:
    flags = (
        "--quick",
        "--sections",
        "training",
        "candidate",
        "--price-per-worker-hour",
        "0.5",
        "--data-root=D",
    )
    assert status("bench", *flags).code == 0
    ((_, settings),) = called
    assert settings.quick and settings.sections == ("training", "candidate")
    assert (settings.price_per_worker_hour, settings.data_root) == (0.5, Path("D"))


def test_configs_lists_all(status) -> None:
    lines = status("configs").out.splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list(CONFIGS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], ["rnu", "run, configs"]),
        (["run"], ["demo, cifar10"]),
        (["run", "cifra10"], ["cifra10", "demo, cifar10"]),
        (["search"], ["RUN_DIR", "search --help"]),
        (["search", "A", "B"], ["Unrecognized options: B"]),
        (["search", "A", "--dat.root", "D"], ["--dat.root", "--data.root"]),
        (["run", "demo", "--search.populaton-size", "3"], ["--search.population-size", "run demo --help"]),
        (["run", "demo", "--search.population-size", "3"], ["num_parents must not exceed"]),
        (
            ["run", "demo", "--threads-per-worker", "0"],
            ["threads_per_worker must be at least 1, got 0"],
        ),
        (["run", "demo", "--seed", "-1"], ["seed must be at least 0, got -1"]),
        (
            ["demo", "--seed", str(2**63)],
            ["seed must be at most 9,223,372,036,854,775,807, got 9223372036854775808"],
        ),
        (["run", "demo", "--retrain.seeds", "0", "-1"], ["retrain.seeds must be at least 0, got -1"]),
        (["run", "demo", "--retrain.seeds", "0", "0"], ["retrain.seeds must be different from each other"]),
        (
            ["run", "demo", "--search.more-exponents", "nan"],
            ["search.more_exponents must be a finite number"],
        ),
        (["run", "demo", "--search.max-spikes", "-5"], ["search.max_spikes must be above 0, got -5.0"]),
        (
            ["run", "demo", "--network.v-threshold", "1e-50"],
            ["network.v_threshold must be at least 1.17549e-38"],
        ),
        (["run", "demo", "--search.engine", "fast"], ["'fast'", "event_driven"]),
        (["run", "demo", "--seed", "one"], ["--seed INT", "'one'"]),
        (["retrain", "A", "--on"], ["Missing value", "--on"]),
        (["retrain", "A", "--on", "nmnits"], ["Unknown config 'nmnits'; choose from: demo"]),
        (["evaluate", "A"], ["--architecture STR"]),
        (["import-checkpoint", "F"], ["RUN_DIR"]),
        (
            ["evaluate", "RUN", "--architecture", "all-SCB_k7"],
            ["SCB_k7' is not in the search space", "SRB_k5"],
        ),
        (["search", "RUN", "--ray.num-workers", "0"], ["ray.num_workers must be at least 1, got 0"]),
        (["search", "RUN", "--ray.address", ""], ["ray.address must be a printable text"]),
        (["bench", "--price-per-worker-hour", "nan"], ["price_per_worker_hour must be a finite number"]),
        (["bench", "--sections", "speed"], ["'speed'", "candidate"]),
        (
            ["retrain", "no/such/run", "--on=demo", "--architecture=autosnn"],
            ["error: ", "config.json' is missing"],
        ),
        (["search", "no/such/run"], ["error: ", "start a run with: python launch.py run NAME"]),
    ],
)
def test_mistake_is_named_with_what_would_be_right(
    arguments: list[str], words: list[str], status, run_folder: RunFolder
) -> None:
    done = status(*(str(run_folder.path) if argument == "RUN" else argument for argument in arguments))
    assert done.code == 2 and not done.out
    assert "Traceback" not in done.err
    message = " ".join(done.err.replace("│", " ").split())
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), RuntimeError("no"), BrokenPipeError("no")]
)
def test_error_is_one_line_unless_its_traceback_is_asked_for(error: Exception, status, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline.run, "run_all", fail)
    done = status("demo")
    assert (done.code, done.out, done.err) == (2, "", "error: no\n")
    monkeypatch.setenv("AUTOSNN_TRACEBACK", "1")
    with pytest.raises(type(error), match="no"):
        status("demo")


def test_interrupted_run_says_how_it_resumes(status, monkeypatch, run_folder: RunFolder) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for module, name in ((pipeline.run, "run_all"), (pipeline.use.evaluate, "evaluate")):
        monkeypatch.setattr(module, name, interrupt)
    done = status("run", "demo", "--run-dir", "my runs/1", "--seed", "3")
    assert done.code == 130
    assert "python launch.py run demo --run-dir 'my runs/1' --seed 3" in done.err
    done = status("evaluate", str(run_folder.path), "--architecture", "autosnn")
    assert (done.code, done.err) == (130, "")


@pytest.mark.parametrize("command", ["run demo --help", "--help", "configs"])
def test_reader_that_leaves_ends_the_command_quietly(command: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "launch.py", *command.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()
