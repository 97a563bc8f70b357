"""The kernels' tests on kernels whose every access to memory and every calculation is checked.

AddressSanitizer and UndefinedBehaviorSanitizer end the process at the first error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import require_kernels

from snn.kernels.library import FLAGS_VARIABLE

require_kernels()

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
TESTS = (
    "test_kernel_safety.py", "test_kernel_calls.py", "test_event_driven.py", "test_event_conv.py",
    "test_normed_spikes.py", "test_winograd.py",
)  # fmt: skip
# Errors put into a copy of the kernels: the file, the tests that meet them, and what is reported.
ERRORS = {
    "padding fires": (
        "event_driven.c",
        "c + LANES < layer->padded ? all : last",
        "all",
        ("test_kernel_safety.py", "test_threshold_that_is_zero_as_float32_lets_no_padding_channel_fire"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "row too far": (
        "event_driven.c",
        "min32(in->kernel_h - 1, top)",
        "min32(in->kernel_h - 1, top + 1)",
        ("test_kernel_safety.py", "test_training_kernels"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "signed overflow": (
        "event_driven.c",
        "int32_t count = 0;\n    float *at",
        "int32_t count = layer->height + 2147483647;\n    float *at",
        ("test_kernel_safety.py", "test_first_layer"),
        "runtime error: signed integer overflow",
    ),
    "window outside": (
        "planes.c",
        "y < height / 2",
        "y < (height + 1) / 2",
        ("test_normed_spikes.py", "max_pool"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "tile outside": (
        "winograd.c",
        "min32(TILE, it->height - tile.y)",
        "TILE",
        ("test_winograd.py", "test_output_is_the_convolution"),
        "AddressSanitizer: heap-buffer-overflow",
    ),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process with checked kernels; skips where the compiler cannot make them."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next(path for name in names if name and (path := shutil.which(name)))
    runtimes = [library_of(compiler, name) for name in ("libasan.so", "libstdc++.so")]
    if not all(runtimes):
        pytest.skip(f"{compiler} has no libasan.so or libstdc++.so")
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "empty.c").touch()
    command = [compiler, *FLAGS.split(), "-shared", "-fPIC", "empty.c", "-o", "empty.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{compiler} has no sanitizers: {done.stderr.strip()}")
    return os.environ | {
        FLAGS_VARIABLE: FLAGS,
        "LD_PRELOAD": " ".join(map(str, runtimes)),  # before Python, which is compiled without them
        "ASAN_OPTIONS": "detect_leaks=0",  # Python frees little when it ends
        "XDG_CACHE_HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }


def library_of(compiler: str, name: str) -> Path | None:
    """Path of a library that comes with the compiler; it answers with the bare name if there is none."""
    command = [compiler, f"-print-file-name={name}"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return path if path.is_absolute() else None


def run_tests(folder: Path, environment: dict[str, str], *chosen: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *chosen]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )


def test_tests_of_the_kernels_pass_under_sanitizers(environment: dict[str, str]) -> None:
    done = run_tests(ROOT, environment, *(f"tests/{name}" for name in TESTS))
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
    assert list(Path(environment["XDG_CACHE_HOME"]).glob("autosnn/kernels/kernels-*.so"))


@pytest.mark.parametrize("error", ERRORS)
def test_sanitizers_report_broken_kernels(error: str, environment: dict[str, str], tmp_path: Path) -> None:
    name, right, wrong, (file, test), report = ERRORS[error]
    for package in ("snn", "pipeline", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = tmp_path / "snn" / "kernels" / name
    text = source.read_text(encoding="utf-8")
    assert right in text
    source.write_text(text.replace(right, wrong), encoding="utf-8")
    done = run_tests(tmp_path, environment, f"tests/{file}", "-k", test)
    assert done.returncode != 0 and report in done.stdout, done.stdout[-5000:]
    assert name in done.stdout
