"""The simulated event camera sees what changes, when it changes, and always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn.data.camera.recordings import EVENT_DTYPE
from snn.data.camera.sensor import DURATION_US, simulate_saccades, simulated_digits
from snn.data.images import load_images

QUIET: dict[str, Any] = {"noise_hz": 0.0, "threshold_spread": 0.0}


def images(n: int = 3, side: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(n, side, side), dtype=np.uint8)


def bar() -> np.ndarray:
    """One white vertical bar in the middle."""
    image = np.zeros((1, 20, 20), np.uint8)
    image[:, :, 9:11] = 255
    return image


def test_events_are_sorted_and_lie_on_the_sensor_in_time() -> None:
    for events in simulate_saccades(images()):
        assert events.dtype == EVENT_DTYPE
        assert np.all(np.diff(events["t"]) >= 0)
        assert (events["t"].min() >= 0, events["t"].max() < DURATION_US) == (True, True)
        assert (int(events["x"].max()) < 34, int(events["y"].max()) < 34) == (True, True)
        assert set(events["p"]) == {0, 1}


def test_what_is_seen_depends_on_image_and_seed_alone() -> None:
    together = simulate_saccades(images(40))
    alone = simulate_saccades(images(40)[35:36])
    assert np.array_equal(together[35], alone[0])
    assert not np.array_equal(alone[0], simulate_saccades(images(40)[35:36], seed=1)[0])


def test_black_image_gives_noise_only() -> None:
    black = np.zeros((40, 20, 20), np.uint8)
    assert [len(events) for events in simulate_saccades(black, **QUIET)] == [0] * 40
    noisy = simulate_saccades(black, noise_hz=1.0)
    assert np.mean([len(events) for events in noisy]) == pytest.approx(34 * 34 * 0.3, rel=0.5)


def test_sensor_that_does_not_move_sees_nothing() -> None:
    assert len(simulate_saccades(images(1), amplitude=0, **QUIET)[0]) == 0


def test_vertical_bar_is_seen_at_its_sides_ahead_on_and_behind_off() -> None:
    events = simulate_saccades(bar(), **QUIET)[0]
    last = events[events["t"] >= 205_000]  # the third saccade is horizontal: the bar moves to the right
    ahead, behind = last[last["p"] == 1], last[last["p"] == 0]
    assert len(ahead) > 100 and len(behind) > 100
    for t in range(210_000, 300_000, 10_000):
        now = [part["x"][(part["t"] >= t) & (part["t"] < t + 10_000)].mean() for part in (ahead, behind)]
        assert now[0] > now[1]
    first = [part["x"][part["t"] < 220_000].mean() for part in (ahead, behind)]
    final = [part["x"][part["t"] > 285_000].mean() for part in (ahead, behind)]
    assert final[0] > first[0] + 3 and final[1] > first[1] + 3


def test_number_of_events_follows_the_change_of_log_intensity() -> None:
    """Over the closed triangle each pixel ends where it began: as many ON as OFF, but for one in the air."""
    events = simulate_saccades(bar(), **QUIET)[0]
    signed = np.zeros((34, 34), int)
    np.add.at(signed, (events["y"], events["x"]), 2 * events["p"].astype(int) - 1)
    assert np.abs(signed).max() <= 1
    lower = simulate_saccades(bar(), threshold=0.25, **QUIET)[0]
    assert 1.7 < len(lower) / len(events) < 2.5


def test_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="sensor_size must be at least 37, image and amplitude, got 34"):
        simulate_saccades(images(1, side=30))


def test_digits_have_about_as_many_events_as_those_of_nmnist(tmp_path: Path) -> None:
    digits = load_images("digits", "test", root=tmp_path).samples[:100]
    seen = simulated_digits(digits)
    counts = [len(events) for events in seen]
    assert min(counts) > 1000 and max(counts) < 6000
    assert len({events.tobytes() for events in seen}) == 100
