"""Events become frames as in spikingjelly, none is lost; augmentation and network input of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from snn.data.camera.frames import (
    augment_frames,
    bin_edges,
    clean_events,
    cut_windows,
    frame_shape,
    frames_from_events,
    to_network_input,
)
from snn.data.camera.recordings import Events, make_events
from snn.options import FrameSettings

SENSOR = (20, 12)  # not square


def random_events(seed: int = 0, n: int = 1000, duration: int = 100_000) -> Events:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, SENSOR[0], n), rng.integers(0, SENSOR[1], n)
    return make_events(x, y, np.sort(rng.integers(0, duration, n)) + 7, rng.integers(0, 2, n))


def events_at(*xyt: tuple[int, int, int]) -> Events:
    x, y, t = np.array(xyt).T
    return make_events(x, y, t, np.ones(len(xyt)))


def frames_of(events: Events, **settings: Any) -> np.ndarray:
    chosen = FrameSettings(**{"time_steps": 8, "bin_by": "count", **settings})
    return frames_from_events(events, sensor_size=SENSOR, settings=chosen)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_frames(n: int = 6, seed: int = 0) -> torch.Tensor:
    counts = np.random.default_rng(seed).poisson(0.7, size=(n, 5, 2, 12, 12))
    return torch.from_numpy(counts.astype(np.uint8))


@pytest.mark.parametrize("bin_by", ["time", "count"])
@pytest.mark.parametrize("downsample", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("time_steps", [1, 3, 8])
def test_frames_conserve_events(bin_by: str, downsample: int, time_steps: int) -> None:
    events = random_events(n=200)
    frames = frames_of(events, bin_by=bin_by, downsample=downsample, time_steps=time_steps)
    assert frames.dtype == np.uint8
    assert frames.sum() == len(events)
    on = int((events["p"] == 1).sum())
    assert (frames[:, 0].sum(), frames[:, 1].sum()) == (len(events) - on, on)


@pytest.mark.parametrize("bin_by", ["time", "count"])
@pytest.mark.parametrize("n", [0, 1, 3, 8, 100, 1003])
@pytest.mark.parametrize("duration", [1, 5, 1000])
def test_bins_are_ordered_and_exhaustive(bin_by: Any, n: int, duration: int) -> None:
    t = random_events(n=n, duration=duration)["t"]
    edges = bin_edges(t, FrameSettings(time_steps=8, bin_by=bin_by))
    assert (len(edges), edges[0], edges[-1]) == (9, 0, n)
    assert np.all(np.diff(edges) >= 0)


def test_bins_by_count_are_equal_and_the_last_takes_the_remainder() -> None:
    edges = bin_edges(random_events(n=1003)["t"], FrameSettings(time_steps=8, bin_by="count"))
    assert np.diff(edges).tolist() == [125] * 7 + [128]


def test_bins_by_time_are_equally_long_and_the_last_takes_the_remainder() -> None:
    t = np.array([10, 11, 19, 20, 29, 30, 49, 50, 52])
    edges = bin_edges(t, FrameSettings(time_steps=4, bin_by="time"))
    assert edges.tolist() == [0, 3, 5, 6, 9]  # dt = 42 // 4 = 10


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("bin_by", "split_by"), [("time", "time"), ("count", "number")])
def test_frames_are_those_of_spikingjelly(bin_by: str, split_by: str, seed: int) -> None:
    from spikingjelly.datasets.utils import integrate_events_by_fixed_frames_number

    rng = np.random.default_rng(seed)
    time_steps = int(rng.integers(1, 12))
    events = random_events(seed, n=int(rng.integers(300, 3000)), duration=int(rng.integers(50, 10**6)))
    columns = {name: events[name] for name in "txyp"}
    theirs = integrate_events_by_fixed_frames_number(columns, split_by, time_steps, SENSOR[1], SENSOR[0])
    assert np.array_equal(frames_of(events, bin_by=bin_by, time_steps=time_steps), theirs)


@pytest.mark.parametrize("bin_by", ["time", "count"])
def test_too_few_events_or_microseconds_fall_into_the_last_frame(bin_by: str) -> None:
    few = frames_of(events_at((0, 0, 5), (1, 1, 6), (2, 2, 9)), bin_by=bin_by)
    assert few.sum((1, 2, 3)).tolist() == [0] * 7 + [3]
    at_once = frames_of(events_at(*[(x, 0, 5) for x in range(16)]), bin_by=bin_by).sum((1, 2, 3))
    assert at_once.tolist() == ([0] * 7 + [16] if bin_by == "time" else [2] * 8)


def test_no_events_give_empty_frames() -> None:
    for bin_by in ("time", "count"):
        assert frames_of(random_events(n=0), bin_by=bin_by).tolist() == np.zeros((8, 2, 12, 20)).tolist()


def test_event_lands_in_its_channel_row_and_column() -> None:
    frames = frames_of(make_events([19, 3], [11, 2], [0, 1], [1, 0]), time_steps=1)
    assert np.argwhere(frames).tolist() == [[0, 0, 2, 3], [0, 1, 11, 19]]


def test_times_that_go_backwards_are_sorted_first() -> None:
    events = random_events()
    shuffled = events[np.random.default_rng(1).permutation(len(events))]
    for bin_by in ("time", "count"):
        assert frames_of(events, bin_by=bin_by).sum((1, 2, 3)).tolist() == (
            frames_of(shuffled, bin_by=bin_by).sum((1, 2, 3)).tolist()
        )
    assert np.array_equal(frames_of(events, bin_by="time"), frames_of(shuffled, bin_by="time"))


def test_events_of_one_time_keep_their_order() -> None:
    events = events_at((1, 0, 5), (2, 0, 5), (3, 0, 5), (0, 0, 1))
    cleaned = clean_events(events, sensor_size=SENSOR, settings=FrameSettings(time_steps=1, bin_by="count"))
    assert cleaned["x"].tolist() == [0, 1, 2, 3]


def test_counts_are_clipped_after_blocks_are_added() -> None:
    events = events_at(*[(0, 0, t) for t in range(300)], *[(1, 0, t) for t in range(300)])
    assert frames_of(events, time_steps=1).max() == 255
    assert frames_of(events, time_steps=1, downsample=2, max_count=1).sum() == 1
    assert frames_of(events[:3], time_steps=1, max_count=2).sum() == 2


def test_downsampled_pixel_is_the_sum_of_its_block() -> None:
    fine, coarse = frames_of(random_events()), frames_of(random_events(), downsample=4)
    assert coarse.shape == (8, 2, 3, 5)
    assert np.array_equal(coarse, fine.reshape(8, 2, 3, 4, 5, 4).sum((3, 5)))


def test_crop_keeps_the_centre() -> None:
    cropped = frames_of(random_events(), crop=6, time_steps=1)
    assert np.array_equal(cropped, frames_of(random_events(), time_steps=1)[:, :, 3:9, 7:13])
    settings = FrameSettings(time_steps=1, bin_by="count", crop=6)
    cleaned = clean_events(random_events(), sensor_size=SENSOR, settings=settings)
    assert len(cleaned) == cropped.sum()


def test_shape_is_known_without_events() -> None:
    for options in ({}, {"crop": 7, "downsample": 2}, {"downsample": 3}):
        settings = FrameSettings(time_steps=4, bin_by="time", **options)
        frames = frames_from_events(random_events(), sensor_size=SENSOR, settings=settings)
        assert frames.shape == frame_shape(SENSOR, settings)


def lonely(events: Events, denoise_us: int) -> list[bool]:
    """Whether each event is noise, the plain way."""
    return [
        not any(
            max(abs(int(a["x"]) - int(b["x"])), abs(int(a["y"]) - int(b["y"]))) == 1
            and b["t"] - a["t"] <= denoise_us
            for a in events[:i]
        )
        for i, b in enumerate(events)
    ]


@pytest.mark.parametrize("denoise_us", [1, 500, 5000])
def test_denoising_keeps_events_shortly_after_one_of_a_neighbour(denoise_us: int) -> None:
    events = random_events(n=300)
    settings = FrameSettings(time_steps=1, bin_by="count", denoise_us=denoise_us)
    kept = clean_events(events, sensor_size=SENSOR, settings=settings)
    assert np.array_equal(kept, events[~np.array(lonely(events, denoise_us))])


def test_denoising_does_not_join_the_borders_and_drops_a_hot_pixel() -> None:
    events = events_at((19, 3, 0), (0, 4, 1), (5, 5, 2), (5, 5, 3), (6, 6, 4))
    settings = FrameSettings(time_steps=1, bin_by="count", denoise_us=100)
    kept = clean_events(events, sensor_size=SENSOR, settings=settings)
    assert kept["x"].tolist() == [6]


def test_windows_have_their_length_and_the_incomplete_last_one_is_dropped() -> None:
    events = events_at(*[(0, 0, t) for t in range(500, 10_500, 100)])  # 9.9 ms and a microsecond
    windows = cut_windows(events, 2)
    assert [len(window) for window in windows] == [20] * 4
    assert all(np.ptp(window["t"]) < 2000 for window in windows)
    assert np.array_equal(np.concatenate(windows), events[:80])
    assert cut_windows(events, 0)[0] is events


def test_windows_without_events_and_short_recordings_give_nothing() -> None:
    gap = events_at((0, 0, 0), (0, 0, 10_000_000_000_000), (0, 0, 10_000_000_002_000))
    assert [len(window) for window in cut_windows(gap, 1)] == [1, 1]
    assert cut_windows(events_at((0, 0, 0), (0, 0, 500)), 1) == []
    assert cut_windows(random_events(n=0), 1) == cut_windows(random_events(n=0), 0) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_steps", 0),
        ("bin_by", "number"),
        ("downsample", 0),
        ("crop", -1),
        ("denoise_us", -1),
        ("window_ms", -5.0),
        ("window_ms", float("nan")),
        ("max_count", 256),
        ("max_count", 0),
    ],
)
def test_setting_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.{name} must .* got '?{value}"):
        FrameSettings(**{"time_steps": 4, "bin_by": "time", name: value})


def test_crop_beyond_the_sensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.crop must fit into the sensor of 20 x 12 pixels, got 13"):
        frames_of(random_events(), crop=13)


def test_disabled_augmentation_changes_nothing() -> None:
    frames = some_frames()
    assert torch.equal(
        augment_frames(frames, flip=False, shift=0, cutout=0, drop=0.0, generator=seeded()), frames
    )


def test_augmentation_depends_only_on_its_generator_and_preserves_its_input() -> None:
    frames, options = some_frames(), {"flip": True, "shift": 2, "cutout": 4, "drop": 0.3}
    before = frames.clone()
    one = augment_frames(frames, generator=seeded(1), **options)
    torch.manual_seed(5)
    assert torch.equal(one, augment_frames(frames, generator=seeded(1), **options))
    assert not torch.equal(one, augment_frames(frames, generator=seeded(2), **options))
    assert torch.equal(frames, before)
    assert (one.shape, one.dtype) == (frames.shape, torch.uint8)


def test_all_time_steps_and_polarities_move_alike_and_samples_differ() -> None:
    one = some_frames(1)[:, :1, :1].expand(50, 5, 2, 12, 12)
    moved = augment_frames(one, flip=True, shift=3, cutout=4, drop=0.0, generator=seeded())
    assert torch.equal(moved, moved[:, :1, :1].expand_as(moved))
    assert len({sample.numpy().tobytes() for sample in moved}) > 20


def test_each_sample_draws_its_own_drop_probability() -> None:
    frames = torch.full((200, 2, 2, 10, 10), 20, dtype=torch.uint8)
    thinned = augment_frames(frames, flip=False, shift=0, cutout=0, drop=0.5, generator=seeded())
    assert bool((thinned <= frames).all())
    kept = thinned.flatten(1).sum(1, dtype=torch.float64) / 8000
    assert 0.5 - 0.03 < float(kept.min()) < 0.55
    assert 0.95 < float(kept.max()) <= 1
    assert float(kept.mean()) == pytest.approx(0.75, abs=0.03)


def test_dropping_creates_no_events() -> None:
    frames = some_frames()
    thinned = augment_frames(frames, flip=False, shift=0, cutout=0, drop=0.9, generator=seeded())
    assert bool((thinned <= frames).all())
    assert 0 < int(thinned.sum()) < int(frames.sum())


def test_network_input_has_time_first_and_the_counts() -> None:
    frames = some_frames()
    counts = to_network_input(frames, "count")
    assert (counts.dtype, tuple(counts.shape)) == (torch.float32, (5, 6, 2, 12, 12))
    assert counts.is_contiguous()
    assert torch.equal(counts.transpose(0, 1), frames.float())


def test_normalised_input_is_one_on_average_where_there_are_events() -> None:
    frames = some_frames()
    frames[2] = 0
    frames[3] *= 9
    values = to_network_input(frames, "normalised").transpose(0, 1)
    for sample, before in zip(values, frames, strict=True):
        assert torch.equal(sample > 0, before > 0)
        if before.any():
            assert float(sample[before > 0].mean()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(values[3], to_network_input(frames[3:4] // 9, "normalised")[:, 0])
