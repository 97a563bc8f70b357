"""Event frames: counts per time bin, polarity and pixel; their augmentation and network input."""

# N samples, T time steps, C = 2 polarities (0 OFF, 1 ON), H height, W width

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn.data.camera.recordings import Events
from snn.data.images import augment_images
from snn.options import EventValues, FrameSettings


def frame_shape(sensor_size: tuple[int, int], settings: FrameSettings) -> tuple[int, int, int, int]:
    """(T, 2, h, w) of a sample; h and w are rounded up if `downsample` does not divide the sides.

    Args:
        sensor_size: (W, H) in pixels.
        settings: How recordings become samples.

    Raises:
        ValueError: The crop does not fit into the sensor.
    """
    if settings.crop > min(sensor_size):
        raise ValueError(
            f"data.crop must fit into the sensor of {sensor_size[0]} x {sensor_size[1]} pixels, got "
            f"{settings.crop}. Use {min(sensor_size)} or less, or 0 to keep the whole sensor."
        )
    W, H = (settings.crop,) * 2 if settings.crop else sensor_size
    return settings.time_steps, 2, -(-H // settings.downsample), -(-W // settings.downsample)


def clean_events(events: Events, *, sensor_size: tuple[int, int], settings: FrameSettings) -> Events:
    """Sorts events by time (stably), then drops noise and the events outside the crop.

    Args:
        events: [n] with the fields x, y, t and p, in any order.
        sensor_size: (W, H) in pixels.
        settings: `denoise_us` and `crop` are used.
    """
    events = _sorted(events)
    if settings.denoise_us and len(events):
        events = events[_has_company(events, sensor_size[0], settings.denoise_us)]
    return _cropped(events, sensor_size, settings.crop)


def cut_windows(events: Events, window_ms: float) -> list[Events]:
    """Cuts a recording into windows [t_0 + k w, t_0 + (k + 1) w), t_0 the time of its first event.

    The incomplete last window and windows without events are dropped.

    Args:
        events: Sorted by time.
        window_ms: w in milliseconds; 0 keeps the recording whole.

    Returns:
        The events of each window; an empty list for a recording shorter than one window.
    """
    if len(events) == 0:
        return []
    if window_ms == 0:
        return [events]
    window_us = round(1000 * window_ms)
    since_start = events["t"] - events["t"][0]
    complete = (int(since_start[-1]) + 1) // window_us  # the last event lasts one microsecond
    window_of = since_start // window_us
    starts = np.flatnonzero(np.diff(window_of, prepend=-1))
    ends = np.append(starts[1:], len(events))
    return [events[start:end] for start, end in zip(starts, ends, strict=True) if window_of[start] < complete]


def windows_of(events: Events, *, sensor_size: tuple[int, int], settings: FrameSettings) -> list[Events]:
    """The events of each sample that a recording yields: sorted, denoised, cropped and cut."""
    cleaned = clean_events(events, sensor_size=sensor_size, settings=settings)
    return cut_windows(cleaned, settings.window_ms)


def bin_edges(t: NDArray[np.int64], settings: FrameSettings) -> NDArray[np.int64]:
    """Boundaries of the frames: frame i holds the events edges[i] to edges[i + 1] - 1.

    For N events at the times t_0 <= ... <= t_(N-1), as spikingjelly's fixed number of frames:
        count: N // T events per frame; the last frame also takes the remainder.
        time:  dt = (t_(N-1) - t_0) // T (in whole us); frame i holds t_0 + i dt <= t < t_0 + (i + 1) dt; the
               last frame has no upper bound.
    With fewer than T events (count) or fewer than T us (time), all events fall into the last frame.
    Differs from spikingjelly: a frame without events is empty, where spikingjelly fails.

    Args:
        t: [N] sorted times in microseconds, N at least 0.
        settings: `time_steps` and `bin_by` are used.

    Returns:
        [T + 1] non-decreasing indices from 0 to N.
    """
    T, N = settings.time_steps, len(t)
    steps = np.arange(1, T)
    if N == 0 or settings.bin_by == "count":
        inner = steps * (N // T)
    else:
        inner = np.searchsorted(t, t[0] + steps * ((t[-1] - t[0]) // T))
    return np.concatenate([[0], inner, [N]]).astype(np.int64)


def frames_from_events(
    events: Events, *, sensor_size: tuple[int, int], settings: FrameSettings
) -> NDArray[np.uint8]:
    """Counts the events of one sample.

    Does not denoise or cut into windows; see `clean_events` and `cut_windows`. Without a crop, and if no
    count exceeds `max_count`, the frames sum to the number of events.

    Args:
        events: [n] with the fields x, y, t and p; sorted here if necessary.
        sensor_size: (W, H) in pixels; all events lie on it.
        settings: How events become frames.

    Returns:
        [T, 2, h, w] counts, channel 0 OFF and 1 ON, clipped to `max_count` after down-sampling.
    """
    shape = T, C, h, w = frame_shape(sensor_size, settings)
    events = _cropped(_sorted(events), sensor_size, settings.crop)
    left, top = _crop_corner(sensor_size, settings.crop)
    assert events["x"].max(initial=0) < sensor_size[0] and events["y"].max(initial=0) < sensor_size[1]
    frame_of = np.repeat(np.arange(T), np.diff(bin_edges(events["t"], settings)))
    row = (events["y"].astype(np.int64) - top) // settings.downsample
    column = (events["x"].astype(np.int64) - left) // settings.downsample
    index = ((frame_of * C + events["p"]) * h + row) * w + column
    counts = np.bincount(index, minlength=math.prod(shape))
    return np.minimum(counts, settings.max_count).astype(np.uint8).reshape(shape)


def augment_frames(
    frames_NTCHW: Tensor, *, flip: bool, shift: int, cutout: int, drop: float, generator: torch.Generator
) -> Tensor:
    """Augments each sample independently, at random, with all its time steps alike.

    Args:
        frames_NTCHW: uint8 counts on any device.
        flip: Mirror left to right with probability 1/2; see `flips_allowed` in `snn.datasets`.
        shift: Largest displacement in pixels, in x and in y; vacated pixels are empty. 0 is off.
        cutout: Side in pixels of an emptied square whose centre lies anywhere in the frame; 0 is off.
        drop: In [0, 1). Each sample draws a probability from [0, drop) with which each of its events is
            dropped: a count n becomes a binomial draw of n. Clipped counts are treated as true counts.
        generator: On the CPU, so that the draws do not depend on the device.

    Returns:
        New frames of the same shape, type and device.
    """
    moved = augment_images(
        frames_NTCHW.flatten(1, 2), flip=flip, crop_padding=shift, cutout=cutout, generator=generator
    ).view_as(frames_NTCHW)
    return _drop_events(moved, drop, generator) if drop else moved


def to_network_input(frames_NTCHW: Tensor, values: EventValues) -> Tensor:
    """Converts counts into the network's input: float32 [T, N, 2, H, W].

    Args:
        frames_NTCHW: uint8 counts.
        values: "count" keeps the counts. "normalised" divides each sample by the mean of its non-zero
            counts, so these average 1 regardless of the recording's length and brightness. A sample
            without events stays 0.
    """
    input_TNCHW = frames_NTCHW.transpose(0, 1).contiguous().to(torch.float32)
    if values == "count":
        return input_TNCHW
    total_N = input_TNCHW.sum((0, 2, 3, 4))
    nonzero_N = input_TNCHW.clamp(max=1).sum((0, 2, 3, 4))
    mean_N = (total_N / nonzero_N.clamp(min=1)).clamp(min=1)  # counts are at least 1, so their mean is too
    return input_TNCHW.div_(mean_N[:, None, None, None])


def _sorted(events: Events) -> Events:
    if len(events) and np.any(np.diff(events["t"]) < 0):
        return events[np.argsort(events["t"], kind="stable")]
    return events


def _has_company(events: Events, width: int, denoise_us: int) -> NDArray[np.bool_]:
    """[n] whether one of the 8 neighbours had an event in the preceding `denoise_us`; events sorted by time.

    Events are sorted by (pixel, index in time); bisection finds the latest one of a neighbour. An event's own
    pixel does not count, so a hot pixel is noise.
    """
    n, stride = len(events), width + 2  # the margin keeps the right border from neighbouring the left one
    time, index = events["t"], np.arange(n)
    pixel = (events["y"].astype(np.int64) + 1) * stride + events["x"] + 1
    by_pixel = np.sort(pixel * n + index)
    has_company = np.zeros(n, np.bool_)
    for neighbour in (-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1):
        latest = by_pixel[np.searchsorted(by_pixel, (pixel + neighbour) * n + index) - 1]
        earlier = time[latest % n]
        has_company |= (latest // n == pixel + neighbour) & (time - earlier <= denoise_us)
    return has_company


def _crop_corner(sensor_size: tuple[int, int], crop: int) -> tuple[int, int]:
    left, top = ((side - crop) // 2 if crop else 0 for side in sensor_size)
    return left, top


def _cropped(events: Events, sensor_size: tuple[int, int], crop: int) -> Events:
    if crop == 0:
        return events
    left, top = _crop_corner(sensor_size, crop)
    x, y = events["x"], events["y"]
    return events[(x >= left) & (x < left + crop) & (y >= top) & (y < top + crop)]


def _drop_events(frames_NTCHW: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    """Binomial thinning of the non-zero counts, which are few."""
    flat = frames_NTCHW.flatten(1)
    keep_N = 1 - drop * torch.rand(len(flat), generator=generator)
    sample, index = flat.nonzero(as_tuple=True)
    counts = flat[sample, index].float().cpu()
    thinned = torch.binomial(counts, keep_N[sample.cpu()], generator=generator)
    result = flat.clone()
    result[sample, index] = thinned.to(result)
    return result.view_as(frames_NTCHW)
