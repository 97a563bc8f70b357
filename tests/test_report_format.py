"""Numbers are written for people."""

from __future__ import annotations

import pytest

from pipeline import report_format


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report_format.count(45300.4), "45,300"),
        (report_format.percent(0.612), "61.2 %"),
        (report_format.percent(None), report_format.NOT_MEASURED),
        (report_format.duration(92.0), "1 min 32 s"),
        (report_format.duration(3.21), "3.2 s"),
        (report_format.duration(0.0), "0 s"),
        (report_format.duration(3600.0), "1 h 0 min"),
        (report_format.energy(1.237e-6), "1.24 \u00b5J"),
        (report_format.energy(4.5e-10), "0.45 nJ"),
        (report_format.large(12_345_678.0), "12.3 M"),
        (report_format.large(0.0), "0"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text.replace("\u00a0", " ") == expected
