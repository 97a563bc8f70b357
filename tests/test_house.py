"""The rules of the house: who may import whom, in every package however deep."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("snn", "pipeline", "cluster")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
KNOW_RAY = {
    "pipeline.search.searcher",
    "pipeline.search.weights",
    "pipeline.search.evaluator",
    "pipeline.search.stage",
    "pipeline.ray.session",
    "pipeline.ray.local",
    "pipeline.ray.joined",
    "pipeline.ray.waiting",
    "pipeline.ray.autoscaler",
    "pipeline.ray.course",
    "pipeline.ray.nodes",
    "pipeline.ray.ledger",
    "pipeline.staging",
    "pipeline.node_check",
    "cluster.preemption",
    "cluster.doctor",
    "pipeline.search.guard",
    "pipeline.training.tasks",
    "pipeline.training.group",
    "pipeline.bench.cluster",
    "pipeline.bench.control_plane",
    "pipeline.bench.weights",
    "pipeline.search.trials",
    "pipeline.fidelity.scores",
}
# Who may import whom: each room and the rooms it may know, in the order in which they build on each other.
# A room is a package or a module beside the packages; `pipeline.report` includes its sections.
MAY_IMPORT: dict[str, set[str]] = {
    "snn.options": set(),
    "snn.json_values": set(),
    "snn.object_files": set(),
    "snn.templates": set(),
    "snn.description": {"snn.options", "snn.search_space"},
    "snn.datasets": set(),
    "snn.user_cache": set(),
    "snn.search_space": set(),
    "snn.part_values": set(),
    "snn.fitness": {"snn.options", "snn.part_values"},
    "snn.energy": set(),
    "snn.kernels": {"snn.user_cache"},
    "snn.model": {"snn.options", "snn.search_space", "snn.fitness", "snn.energy", "snn.kernels"},
    "snn.data": {"snn.options", "snn.datasets", "snn.user_cache"},
    "snn.data.camera": {"snn.options", "snn.datasets", "snn.user_cache", "snn.data"},
    "snn.engines": {
        "snn.options",
        "snn.search_space",
        "snn.fitness",
        "snn.energy",
        "snn.kernels",
        "snn.model",
    },
    "snn.training": {"snn.options", "snn.search_space", "snn.data", "snn.model"},
    "snn.bundle": {
        "snn.options",
        "snn.json_values",
        "snn.object_files",
        "snn.description",
        "snn.search_space",
        "snn.model",
        "snn.engines",
        "snn.data",
        "snn.data.camera",
    },
    "snn.export": {
        "snn.templates",
        "snn.bundle",
        "snn.engines",
        "snn.kernels",
        "snn.model",
        "snn.search_space",
    },
    "pipeline.formats": set(),
    "pipeline.identity": set(),
    "pipeline.algorithms": {"pipeline.identity"},
    "pipeline.config": {"pipeline.identity", "pipeline.algorithms"},
    "pipeline.storage": {"pipeline.config"},
    "pipeline.analysis": {"pipeline.config", "pipeline.algorithms", "pipeline.storage"},
    "pipeline.interruption": set(),
    "pipeline.console": {
        "pipeline.formats",
        "pipeline.interruption",
        "pipeline.algorithms",
        "pipeline.storage",
    },
    "pipeline.staging": set(),
    "pipeline.data": {"pipeline.config", "pipeline.storage", "pipeline.staging"},
    "pipeline.ray": {
        "pipeline.config",
        "pipeline.formats",
        "pipeline.interruption",
        "pipeline.storage",
        "pipeline.console",
        "pipeline.data",
        "pipeline.staging",
    },
    "pipeline.environment": {"pipeline.storage", "pipeline.data"},
    "pipeline.networks": {"pipeline.config", "pipeline.storage", "pipeline.data"},
    "pipeline.evaluate": {"pipeline.config"},
}
MAY_IMPORT["pipeline.worker"] = {"pipeline.config", "pipeline.console"}
MAY_IMPORT["pipeline.node_facts"] = {"pipeline.config", "pipeline.data", "pipeline.environment"}
MAY_IMPORT["pipeline.node_check"] = {"pipeline.config", "pipeline.node_facts"}
_STAGE = {
    "pipeline.formats", "pipeline.interruption", "pipeline.config", "pipeline.storage", "pipeline.console",
    "pipeline.ray", "pipeline.data", "pipeline.networks", "pipeline.node_facts",
}  # fmt: skip
MAY_IMPORT |= {
    "pipeline.fidelity": _STAGE
    | {"pipeline.analysis", "pipeline.node_check", "pipeline.training", "pipeline.search"},
    "pipeline.training": _STAGE | {"pipeline.evaluate", "pipeline.finished"},
    "pipeline.search": _STAGE | {"pipeline.identity", "pipeline.algorithms", "pipeline.analysis"},
    "pipeline.report": {
        "pipeline.formats", "pipeline.algorithms", "pipeline.config", "pipeline.storage",
        "pipeline.analysis",
    },
    "pipeline.bench": _STAGE | {"pipeline.algorithms", "pipeline.environment", "pipeline.search"},
    "pipeline.use": {
        "pipeline.config", "pipeline.console", "pipeline.formats", "pipeline.storage", "pipeline.data",
        "pipeline.networks", "pipeline.evaluate",
    },
    "pipeline.driving": {"pipeline.interruption", "pipeline.storage"},
    "pipeline.finished": {"pipeline.config", "pipeline.formats", "pipeline.storage", "pipeline.console"},
    "pipeline.run": _STAGE
    | {"pipeline.environment", "pipeline.evaluate", "pipeline.node_check", "pipeline.driving"}
    | {"pipeline.finished"}
    | {"pipeline.training", "pipeline.search", "pipeline.report"},
    "pipeline.dry_run": {
        "pipeline.formats", "pipeline.config", "pipeline.storage", "pipeline.console", "pipeline.data",
        "pipeline.networks", "pipeline.search", "pipeline.training", "pipeline.algorithms",
        "pipeline.finished",
    },
    "cluster": {
        "pipeline.config", "pipeline.storage", "pipeline.console", "pipeline.ray", "pipeline.node_facts",
        "pipeline.node_check", "snn.datasets", "snn.templates", "cluster.check",
    },
    "cluster.check": set(),
}  # fmt: skip
# Rooms of `snn` that need no torch; every room of `pipeline` may import them.
LIGHT_SNN = {
    "snn.options", "snn.json_values", "snn.object_files", "snn.templates", "snn.description",
    "snn.datasets", "snn.search_space", "snn.fitness", "snn.energy", "snn.part_values",
}  # fmt: skip
# Rooms of `pipeline` that work on tensors and so on the rest of `snn` too.
ON_TENSORS = {
    "pipeline.data", "pipeline.environment", "pipeline.networks", "pipeline.evaluate", "pipeline.training",
    "pipeline.search", "pipeline.bench", "pipeline.run", "pipeline.node_facts", "pipeline.node_check",
    "pipeline.fidelity", "pipeline.staging", "pipeline.dry_run", "pipeline.use",
}  # fmt: skip
LIGHT = (
    "snn.datasets",
    "snn.search_space",
    "snn.fitness",
    "pipeline.config.tree",
    "pipeline.config.search",
    "pipeline.config.named",
    "pipeline.algorithms.settings",
    "pipeline.algorithms.choose",
    "pipeline.algorithms.run_in_process",
    "pipeline.finished",
    "pipeline.console",
    "pipeline.bench.settings",
    "launch",
)


# Ray processes that only answer trials or hand out weights start in a second less without torch. The driver
# imports it while Ray starts.
NO_TORCH = (
    "pipeline.run",
    "pipeline.search.searcher",
    "pipeline.search.trials",
    "pipeline.search.weights",
    "pipeline.bench.cluster",
)
# What only the report or single data sets and searches need takes seconds to import.
NOT_AT_THE_START = {"plotly", "scipy", "sklearn", "jinja2", "optuna", "tensorboard", "torchvision"}
# Texts that look like a module and are none: a key in files that users have; what a README patch adds.
NO_MODULES = {"snn.samples", "pipeline.algorithms.climbing"}


@functools.cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules a file imports; `from package import module` names the module."""
    tree = syntax_tree(path)
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inside & FILES.keys()) or {node.module or ""}
    return names


def top_packages(path: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imported(path, **options)}


def room_of(module: str) -> str:
    """The package of a module, or the module itself where it lies beside the packages."""
    is_package = FILES[module].name == "__init__.py"
    room = module if is_package or module.count(".") == 1 else module.rpartition(".")[0]
    if room.startswith("cluster.") and not room.startswith("cluster.check"):
        return "cluster"
    return "pipeline.report" if room.startswith("pipeline.report") else room


@pytest.mark.parametrize("module", sorted(FILES.keys() - PACKAGES))
def test_room_imports_only_rooms_it_builds_on(module: str) -> None:
    room = room_of(module)
    allowed = MAY_IMPORT[room] | {room}
    if room.startswith("pipeline"):
        allowed |= LIGHT_SNN | {"snn.user_cache"}
        allowed |= {name for name in MAY_IMPORT if name.startswith("snn")} if room in ON_TENSORS else set()
    known = {room_of(name) for name in imported(FILES[module]) & FILES.keys()}
    assert known <= allowed, f"{room} must not import {sorted(known - allowed)}"


def test_order_of_the_rooms_has_no_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()
    assert set(MAY_IMPORT) == {room_of(module) for module in FILES.keys() - PACKAGES}


NAMED_MODULE = re.compile(r"(?<![\w./:-])(?:snn|pipeline)(?:\.\w+)+")
TEXTS = [
    path
    for pattern in ("*.py", "*.toml", "*.md", "tests/*.py", "cluster/*", "snn/**/*.py", "pipeline/**/*.py")
    for path in sorted(ROOT.glob(pattern))
    if path.is_file()
]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_text_names_exists(path: Path) -> None:
    """Also where only a string names it: hooks and patches of tests, docstrings, settings, guides."""
    for name in set(NAMED_MODULE.findall(path.read_text(encoding="utf-8"))) - NO_MODULES:
        module, attributes = name, []
        while module not in FILES and "." in module:
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
        assert module in FILES, f"{name} does not exist"
        if attributes and attributes not in (["py"], ["c"]):
            value = importlib.import_module(module)
            assert hasattr(value, attributes[0]), f"{name}: {module} has no {attributes[0]}"


def test_every_package_is_walked() -> None:
    folders = {
        path.parent
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for folder in folders:
        code = any(file.suffix == ".py" for file in folder.iterdir())
        assert not code or (folder / "__init__.py").exists(), f"{folder} holds modules but is no package"


@pytest.mark.parametrize("module", FILES)
def test_module_stays_in_its_room(module: str) -> None:
    path = FILES[module]
    if module.startswith("snn"):
        assert not top_packages(path) & {"pipeline", "ray", "launch"}
    elif module not in KNOW_RAY:
        assert "ray" not in top_packages(path)
    assert not top_packages(path, top_level_only=True) & {"tonic", "torchvision"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_test_imports_a_test() -> None:
    for path in sorted((ROOT / "tests").glob("*.py")):
        assert not [name for name in imported(path) if name.startswith("test_")], path.name


def test_named_modules_exist() -> None:
    for module in (*KNOW_RAY, *LIGHT, *NO_TORCH):
        assert importlib.util.find_spec(module), f"the rules name {module}, which does not exist"


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_loads_neither_torch_nor_ray(module: str) -> None:
    assert not {"torch", "ray"} & loaded_by(module)


@pytest.mark.parametrize("module", NO_TORCH)
def test_module_of_a_process_without_torch_loads_none(module: str) -> None:
    assert "torch" not in loaded_by(module)


def test_search_starts_without_what_only_the_report_needs() -> None:
    assert not NOT_AT_THE_START & loaded_by("pipeline.run, pipeline.search.stage")


def test_readme_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "README.md").read_text()))
    assert len(named) > 5 and named <= {path.stem for path in (ROOT / "tests").glob("test_*.py")}


def loaded_by(module: str) -> set[str]:
    """Top-level names of all modules in a fresh process that imports this one."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("path", [ROOT / "launch.py", *FILES.values()], ids=str)
def test_only_the_console_prints(path: Path) -> None:
    calls = [node for node in ast.walk(syntax_tree(path)) if isinstance(node, ast.Call)]
    printing = {"print", "sys.stdout.write", "sys.stderr.write", "tqdm.write"}
    assert path == FILES["pipeline.console"] or not printing & {ast.unparse(call.func) for call in calls}


@pytest.mark.parametrize("module", FILES)
def test_no_eval_and_no_global_random_numbers(module: str) -> None:
    for node in ast.walk(syntax_tree(FILES[module])):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "pickle.load", "pickle.loads"}
            owner, _, function = called.rpartition(".")
            if owner in {"random", "np.random"}:
                assert function in {"Random", "Generator", "PCG64", "SeedSequence", "default_rng"}
