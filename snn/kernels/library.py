"""Compiles event_driven.c once per machine with the system's C compiler and loads it.

The shared library lies in the user's cache, keyed by source, compiler and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from snn.user_cache import user_cache

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("event_driven.c")
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")


class KernelsUnavailable(RuntimeError):
    """There is no C compiler on this machine, or it failed."""


def check_available() -> None:
    """Compiles and loads the kernels if they are not loaded yet.

    Raises:
        KernelsUnavailable: There is no C compiler, or it failed.
    """
    library()


@cache
def is_available() -> bool:
    """Whether the kernels can be used on this machine."""
    try:
        check_available()
    except KernelsUnavailable:
        return False
    return True


@cache
def library() -> Any:
    """The kernels as ctypes functions.

    Raises:
        KernelsUnavailable: There is no C compiler, or it failed.
    """
    kernels = ctypes.CDLL(str(_compiled()))
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    kernels.fire.argtypes = [integer, pointer, integer, pointer, *4 * [pointer]]
    kernels.fire.restype = long
    kernels.encode.argtypes = [integer, *3 * [pointer], *4 * [integer], *4 * [pointer]]
    kernels.max_pool.argtypes = [long, pointer, pointer, *3 * [integer], *3 * [pointer]]
    kernels.count_votes.argtypes = [integer, integer, pointer, pointer, integer, integer, pointer]
    kernels.moments.argtypes = [long, *4 * [pointer]]
    kernels.list_spikes.argtypes = [long, pointer, *3 * [integer], long, pointer, pointer]
    kernels.list_spikes.restype = long
    kernels.convolve.argtypes = [long, *3 * [pointer]]
    kernels.collect.argtypes = [long, *4 * [pointer]]
    for name in ("encode", "max_pool", "count_votes", "moments", "convolve", "collect"):
        getattr(kernels, name).restype = None
    return kernels


def _compiled() -> Path:
    """Path of the shared library for this source, compiler and processor; compiles it if it is not cached."""
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        raise KernelsUnavailable("there is no C compiler on this machine (looked for $CC, cc, gcc, clang)")
    facts = (_SOURCE.read_text(encoding="utf-8"), compiler, _FLAGS, platform.machine(), _processor())
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    folder = user_cache() / "kernels"
    library = folder / f"event_driven-{key}.so"
    if not library.exists():
        start = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            built = Path(temporary) / library.name
            done = subprocess.run(
                [compiler, *_FLAGS, str(_SOURCE), "-o", str(built)], capture_output=True, text=True
            )
            if done.returncode:
                raise KernelsUnavailable(f"{compiler} failed on {_SOURCE.name}: {done.stderr.strip()[:500]}")
            built.replace(library)
        logger.info("compiled %s with %s in %.1f s", _SOURCE.name, compiler, time.perf_counter() - start)
    logger.debug("kernels: %s", library)
    return library


def _processor() -> str:
    """The processor's features, which -march=native depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
