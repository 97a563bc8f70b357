"""The rules of the house: who may import whom, in every package however deep."""

from __future__ import annotations

import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("snn", "pipeline")
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
    "pipeline.ray_session",
    "pipeline.training.tasks",
    "pipeline.bench.cluster",
    "pipeline.bench.weights",
    "pipeline.search.trials",
}
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
    "pipeline.console",
    "pipeline.bench.settings",
    "launch",
)


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


def test_named_modules_exist() -> None:
    for module in (*KNOW_RAY, *LIGHT):
        assert importlib.util.find_spec(module), f"the rules name {module}, which does not exist"


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
