"""Numbers are written for people."""

from __future__ import annotations

import pytest

from pipeline import formats


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.count(45300.4), "45,300"),
        (formats.percent(0.612), "61.2 %"),
        (formats.percent(None), formats.NOT_MEASURED),
        (formats.duration(92.0), "1 min 32 s"),
        (formats.duration(3.21), "3.2 s"),
        (formats.duration(0.0), "0 s"),
        (formats.duration(3600.0), "1 h 0 min"),
        (formats.energy(1.237e-6), "1.24 \u00b5J"),
        (formats.energy(4.5e-10), "0.45 nJ"),
        (formats.large(12_345_678.0), "12.3 M"),
        (formats.large(0.0), "0"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected
