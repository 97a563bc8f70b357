"""The rules of the house: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "snn").glob("*.py")) + sorted((ROOT / "pipeline").glob("*.py"))
KNOW_RAY = {
    "searcher", "weights", "evaluator", "search", "ray_session", "training_stage", "borrowed",
    "bench_cluster", "bench_weights", "trials",
}  # fmt: skip
LIGHT = (
    "snn.search_space",
    "snn.fitness",
    "pipeline.config",
    "pipeline.search_config",
    "pipeline.named_configs",
    "pipeline.ask_tell",
    "pipeline.evolution",
    "pipeline.algorithms",
    "launch",
)


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Names of the modules a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def packages(path: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in imported(path, **options)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_module_stays_in_its_room(path: Path) -> None:
    if path.parent.name == "snn":
        assert not packages(path) & {"pipeline", "ray", "launch"}
    elif path.stem not in KNOW_RAY:
        assert "ray" not in packages(path)
    assert not packages(path, top_level_only=True) & {"tonic", "torchvision"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("module", LIGHT)
def test_light_module_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'ray'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_no_eval_and_no_global_random_numbers(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "pickle.load", "pickle.loads"}
            module, _, function = called.rpartition(".")
            if module in {"random", "np.random"}:
                assert function in {"Random", "Generator", "PCG64", "SeedSequence", "default_rng"}
