"""The patches of the README that add a part do so: applied to a copy of the project, each works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import require_kernels

require_kernels()
ROOT = Path(__file__).resolve().parents[1]
PATCHES = re.findall(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

# Tries every part; printed names are those that work.
TRY = """
import io, random, sys
from pathlib import Path
import numpy as np, pyarrow as pa, torch
from PIL import Image
from pyarrow import parquet
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.settings import SearchSettings
from pipeline.config.tree import Config, DataConfig, NetworkConfig
from snn.data.images import load_images
from snn.engines.dense import DenseNetwork
from snn.engines.event_driven import EventDrivenNetwork
from snn.engines.trie import evaluate_architectures
from snn.fitness import Evaluation
from snn.model.network import SpikingNetwork
from snn.search_space import Architecture, SearchSpace, make_backbone

def agree(backbone, block, **options):
    torch.manual_seed(0)
    structure = make_backbone(backbone, channels=4)
    number = len(structure.layers)
    network = SpikingNetwork(
        structure, [(block,)] * number, input_shape=(3, 16, 16), num_classes=3, time_steps=3, **options
    )
    path, images = Architecture((block,) * number), torch.randn(8, 3, 16, 16)
    network(images, path).sum().backward()  # it trains
    batch = [(images, torch.zeros(8, dtype=torch.int64))]
    ours, dense = (evaluate_architectures(e(network.eval()), [path], batch)[0]
                   for e in (EventDrivenNetwork, DenseNetwork))
    assert 0 < ours.spikes and abs(ours.spikes - dense.spikes) <= 0.01 * dense.spikes, (ours, dense)

agree("AutoSNN", "conv_k3")
agree("Small", "SCB_k3")
agree("AutoSNN", "SRB_k3", neuron="Leaky")
NetworkConfig(backbone="Small", neuron="Leaky", blocks=("skip_connect", "conv_k3"))

root = Path(sys.argv[1])
(root / "mnist").mkdir()
for split in ("train", "test"):
    buffer = io.BytesIO()
    Image.fromarray(np.full((28, 28), 200, np.uint8)).save(buffer, "PNG")
    table = pa.table({"image": [{"bytes": buffer.getvalue(), "path": ""}] * 3, "label": [0, 7, 9]})
    parquet.write_table(table, root / "mnist" / f"{split}-00000-of-00001.parquet")
samples = load_images("mnist", "train", root=root)
assert samples.samples.shape == (3, 3, 28, 28) and samples.labels.tolist() == [0, 7, 9]
DataConfig(dataset="mnist")

space, settings = SearchSpace(5), SearchSettings(algorithm="climbing", max_evaluations=200)
weights = np.random.default_rng(0).random((5, 5))
def worth(architecture):
    return sum(weights[i, space.blocks.index(b)] for i, b in enumerate(architecture.blocks)) / 5
search = build_search(space, settings, seed=0, spikes_reference=1.0)
asked = []
while not search.finished:
    candidate = search.ask()
    asked.append(worth(candidate.architecture))
    search.tell(candidate.id, Evaluation(asked[-1], 1.0, 0.1, 100))
assert max(asked) == max(map(worth, space)), "it climbs to the top of a hill"
print("all parts work")
"""


def apply(patch: str, project: Path) -> None:
    """Each hunk's context and removed lines stand once in its file; the added ones replace them."""
    for name, hunks in re.findall(r"^\+\+\+ (\S+)\n(.*?)(?=^\+\+\+ |\Z)", patch, re.DOTALL | re.MULTILINE):
        file = project / name
        for hunk in re.split(r"^@@\n", hunks, flags=re.MULTILINE)[1:]:
            old = "".join(line[1:] for line in hunk.splitlines(keepends=True) if not line.startswith("+"))
            new = "".join(line[1:] for line in hunk.splitlines(keepends=True) if not line.startswith("-"))
            text = file.read_text() if file.exists() else ""
            assert text.count(old) == 1 or not file.exists(), f"{name} has changed: {old}"
            file.write_text(text.replace(old, new) if text else new)


def test_parts_of_the_readme_work(tmp_path: Path) -> None:
    assert len(PATCHES) == 5
    project = tmp_path / "project"
    for package in ("snn", "pipeline"):
        shutil.copytree(ROOT / package, project / package, ignore=shutil.ignore_patterns("__pycache__"))
    for patch in PATCHES:
        apply(patch, project)
    command = [sys.executable, "-c", TRY, str(tmp_path)]
    tried = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert tried.returncode == 0 and "all parts work" in tried.stdout, tried.stderr


def test_patch_that_does_not_fit_any_more_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "snn").mkdir()
    for name in ("search_space.py", "options.py"):
        (tmp_path / "snn" / name).write_text("nothing of what the patch expects\n")
    with pytest.raises(AssertionError, match=r"snn/.*\.py has changed"):
        apply(next(patch for patch in PATCHES if "Small" in patch), tmp_path)
