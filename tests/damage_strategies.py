"""Hypothesis strategies for bytes of others: valid files with damage, and how many examples are tried.

`AUTOSNN_EXAMPLES=5000 pytest tests/test_foreign_files.py` tries more, at random; otherwise every run tries
the same few.
"""

from __future__ import annotations

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_EXAMPLES = os.environ.get("AUTOSNN_EXAMPLES")
# Numbers of 1, 2, 4 and 8 bytes at the borders of what sizes, counts and offsets can hold.
_BORDERS = sorted(
    {
        value.to_bytes(size, "little", signed=value < 0)
        for size in (1, 2, 4, 8)
        for value in (0, 1, -1, -(1 << 8 * size - 1), (1 << 8 * size - 1) - 1)
    }
)


def examples(number: int) -> settings:
    """Settings of a test with this many examples; reading one may take 20 s before it counts as a hang."""
    return settings(
        max_examples=int(_EXAMPLES or number),
        derandomize=_EXAMPLES is None,
        database=None,
        deadline=timedelta(seconds=20),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` after one to four flipped bits, cuts, overwritten numbers, insertions or repetitions."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(0, 64))
        before, after = content[:place], content[place:]
        match draw(st.sampled_from(("flip", "truncate", "overwrite", "insert", "remove", "repeat"))):
            case "flip" if after:
                content = before + bytes([after[0] ^ 1 << draw(st.integers(0, 7))]) + after[1:]
            case "truncate":
                content = before
            case "overwrite":
                number = draw(st.sampled_from(_BORDERS) | st.binary(min_size=1, max_size=8))
                content = before + number + after[len(number) :]
            case "insert":
                content = before + draw(st.binary(max_size=64)) + after
            case "remove":
                content = before + after[length:]
            case "repeat":
                content = before + after[:length] + after
    return content
