"""Compiles the kernels, C files of this folder, once per machine with the system's compiler and loads them.

The shared library lies in the user's cache, keyed by source, compiler, flags and processor. Its name ends
with its own SHA-256, so that a damaged file is known and built again. Where the cache cannot be used, each
process compiles its own.

`AUTOSNN_KERNEL_FLAGS` adds flags to the compiler's, separated as in a shell:
`-fsanitize=address,undefined -g` builds kernels that check every access to memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from snn.user_cache import user_cache

logger = logging.getLogger(__name__)

FLAGS_VARIABLE = "AUTOSNN_KERNEL_FLAGS"

SOURCE = Path(__file__).with_name("event_driven.c")
_SOURCES = (SOURCE, *(Path(__file__).with_name(name) for name in ("planes.c", "winograd.c")))
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
_WITHOUT_RESULT = (
    "encode", "max_pool", "count_votes", "moments", "convolve", "collect",
    "neurons_forward", "neurons_backward", "plane_moments", "norm_backward", "pool_forward", "pool_backward",
    "winograd", "winograd_weights",
)  # fmt: skip


class KernelsUnavailable(RuntimeError):
    """There is no C compiler on this machine, or what it built cannot be loaded."""


@dataclass(frozen=True)
class _Recipe:
    """How to compile the kernels, and the beginning of the file's name."""

    compiler: str
    flags: tuple[str, ...]
    stem: str


def check_available() -> None:
    """Compiles and loads the kernels if they are not loaded yet.

    Raises:
        KernelsUnavailable: There is no C compiler, or what it built cannot be loaded.
    """
    library()


@cache
def is_available() -> bool:
    """Whether the kernels can be used on this machine; a warning says why not, once."""
    try:
        check_available()
    except KernelsUnavailable as reason:
        logger.warning("no event-driven kernels, dense ones are used instead: %s", reason)
        return False
    return True


@cache
def library() -> Any:
    """The kernels as ctypes functions.

    Raises:
        KernelsUnavailable: There is no C compiler, or what it built cannot be loaded.
    """
    recipe = _recipe()
    try:
        kernels = _load_cached(recipe) or _compile_and_load(recipe)
    except OSError as error:
        raise KernelsUnavailable(
            f"the kernels cannot be compiled with {recipe.compiler} and loaded: {error}"
        ) from error
    return _declared(kernels)


def _recipe() -> _Recipe:
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        raise KernelsUnavailable("there is no C compiler on this machine (looked for $CC, cc, gcc, clang)")
    try:
        flags = (*_FLAGS, *shlex.split(os.environ.get(FLAGS_VARIABLE, "")))
    except ValueError as error:
        raise KernelsUnavailable(f"{FLAGS_VARIABLE} cannot be split as in a shell: {error}") from error
    sources = [source.read_text(encoding="utf-8") for source in _SOURCES]
    facts = (sources, compiler, flags, platform.machine(), _processor())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return _Recipe(compiler, flags, f"kernels-{key}")


def _load_cached(recipe: _Recipe) -> ctypes.CDLL | None:
    """The library from the user's cache, or None. What is damaged or open to others is deleted."""
    try:
        folder = _folder()
        for path in sorted(folder.glob(f"{recipe.stem}-*.so")):
            if _is_sound(path):
                logger.debug("kernels: %s", path)
                return ctypes.CDLL(str(path))
            logger.info("%s is damaged or open to others; it is built again", path)
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("no kernels from the cache: %s", error)  # the attempt to keep them there will warn
    return None


def _compile_and_load(recipe: _Recipe) -> ctypes.CDLL:
    """Compiles the library, in a folder that only this process uses, and keeps a copy in the user's cache."""
    with tempfile.TemporaryDirectory(prefix="autosnn-") as private:
        built = Path(private) / f"{recipe.stem}.so"
        _compile(recipe, built)
        try:
            return ctypes.CDLL(str(_keep(built)))
        except OSError as error:
            logger.warning(
                "compiled kernels cannot be kept: %s. Each process compiles its own, which takes seconds; "
                "set XDG_CACHE_HOME to a folder that you can write to",
                error,
            )
            return ctypes.CDLL(str(built))


def _compile(recipe: _Recipe, built: Path) -> None:
    start = time.perf_counter()
    command = [recipe.compiler, *recipe.flags, *map(str, _SOURCES), "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode or not built.exists():
        raise KernelsUnavailable(f"{recipe.compiler} failed on the kernels: {done.stderr.strip()[:500]}")
    duration = time.perf_counter() - start
    logger.info("compiled the kernels with %s in %.1f s", recipe.compiler, duration)


def _keep(built: Path) -> Path:
    """A copy of the library in the user's cache, complete on the disk before it has its name."""
    content = built.read_bytes()
    path = _folder() / f"{built.stem}-{hashlib.sha256(content).hexdigest()}.so"
    descriptor, partial = tempfile.mkstemp(".partial", f"{built.stem}-", path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        Path(partial).unlink()
        raise
    return path


def _folder() -> Path:
    """The folder of compiled libraries in the user's cache.

    Raises:
        OSError: It cannot be created, or belongs to another user.
    """
    folder = user_cache() / "kernels"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid not in (os.getuid(), _ROOT):
        raise PermissionError(f"{folder} belongs to another user (id {facts.st_uid})")
    if facts.st_mode & _OTHERS_WRITE:
        folder.chmod(0o755)
        for path in folder.glob("*.so"):  # anyone may have put them there
            path.unlink()
    return folder


def _is_sound(path: Path) -> bool:
    """Whether a library has the content that its name says and only its owner, we or root, can change it."""
    facts = path.lstat()
    trusted = facts.st_uid in (os.getuid(), _ROOT) and not facts.st_mode & _OTHERS_WRITE
    if not trusted or not stat.S_ISREG(facts.st_mode):
        return False
    return path.stem.endswith(f"-{hashlib.sha256(path.read_bytes()).hexdigest()}")


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions' arguments and results."""
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    kernels.fire.argtypes = [integer, pointer, integer, pointer, *5 * [pointer]]
    kernels.encode.argtypes = [integer, *3 * [pointer], *4 * [integer], *4 * [pointer]]
    kernels.max_pool.argtypes = [long, pointer, pointer, *3 * [integer], *3 * [pointer]]
    kernels.count_votes.argtypes = [integer, integer, pointer, pointer, integer, integer, pointer]
    kernels.moments.argtypes = [long, *4 * [pointer]]
    kernels.list_spikes.argtypes = [long, pointer, *3 * [integer], long, pointer, pointer]
    kernels.list_spikes.restype = long
    kernels.convolve.argtypes = [long, *3 * [pointer]]
    kernels.collect.argtypes = [long, *4 * [pointer]]
    kernels.neurons_forward.argtypes = 6 * [pointer]
    kernels.neurons_backward.argtypes = 9 * [pointer]
    kernels.plane_moments.argtypes = [long, long, integer, integer, *4 * [pointer]]
    kernels.norm_backward.argtypes = [long, long, integer, *6 * [pointer]]
    kernels.pool_forward.argtypes = [long, *3 * [integer], *3 * [pointer]]
    kernels.pool_backward.argtypes = [long, *3 * [integer], *3 * [pointer]]
    kernels.winograd.argtypes = [pointer, long, *4 * [pointer]]
    kernels.winograd_weights.argtypes = 3 * [pointer]
    for name in _WITHOUT_RESULT:
        getattr(kernels, name).restype = None
    return kernels


def _processor() -> str:
    """The processor's features, which -march=native depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
