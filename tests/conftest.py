"""Small networks and the reference data that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """Folder of real data and reference files beside the project; tests skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data: the folder '{SHARED.name}' beside the project is absent")
    return SHARED
