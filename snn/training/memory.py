"""How a training process holds its memory."""

from __future__ import annotations

import contextlib
import ctypes

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Makes this process keep large blocks that it frees, for the next ones.

    The planes of a training step are tens of MiB each. glibc hands such blocks back to the system at once,
    and every new one costs a page fault per 4 KiB: about a quarter of a step's time. On other systems
    nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
