"""A simulated event camera that views still images during three saccades."""

# N images of a chunk, H side of the square sensor

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from snn.data.camera.recordings import Events, make_events

DURATION_US = 300_000
"""Three saccades of 100 ms."""

_CORNERS = np.array([(0.0, 0.0), (0.5, 1.0), (1.0, 0.0), (0.0, 0.0)])  # x, y; in units of the amplitude
_DARK = 0.1  # intensity of a black pixel, added to intensities in [0, 1] before the logarithm
_STEP_US = 5_000
_CHUNK = 32  # images per chunk, so that intermediate results fit into the CPU cache


def simulate_saccades(
    images: NDArray[np.uint8],
    *,
    sensor_size: int = 34,
    amplitude: float = 7.0,
    threshold: float = 0.5,
    threshold_spread: float = 0.03,
    noise_hz: float = 0.1,
    seed: int = 0,
) -> list[Events]:
    """The events of a simulated camera for each image: SIMULATED data, not recordings.

    The image is centred on a black sensor and moves along a triangle in three saccades of 100 ms at constant
    speed, as the sensor of N-MNIST does (Orchard et al. 2015, "Converting static image datasets to spiking
    neuromorphic datasets using saccades"). Each pixel stores the log intensity L_ref of its last event and
    emits
        ON  where log(I + 0.1) - L_ref >= theta,     OFF where log(I + 0.1) - L_ref <= -theta,
    with I in [0, 1] and theta the threshold of the pixel, and moves L_ref by theta towards the intensity,
    repeatedly if necessary. Between steps of 5 ms, log intensity is interpolated linearly in time, which
    yields the microsecond of each event. There is no refractory time.

    Args:
        images: [n, h, w] grey values.
        sensor_size: Side of the square sensor in pixels; h and w plus `amplitude` must fit into it.
        amplitude: Height and width of the triangle in pixels.
        threshold: Mean of theta over pixels.
        threshold_spread: Standard deviation of theta relative to its mean; theta is the same for every image.
        noise_hz: Rate of random events per pixel.
        seed: Of theta and the noise. The noise of an image depends only on the seed and the image.

    Returns:
        The events of each image, sorted by time in [0, 300,000) us.

    Raises:
        ValueError: The images do not fit on the sensor.
    """
    if max(images.shape[1:]) + amplitude > sensor_size:
        raise ValueError(
            f"sensor_size must be at least {max(images.shape[1:]) + amplitude:g}, image and amplitude, "
            f"got {sensor_size}."
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    spread = np.clip(rng.standard_normal((sensor_size, sensor_size)), -3, 3) * threshold_spread
    theta_HH = threshold * (1 + spread)
    events = []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        events += _with_noise(chunk, _see(chunk, theta_HH, amplitude), sensor_size, noise_hz, seed)
    return events


def simulated_digits(digits: NDArray[np.uint8], side: int = 24) -> list[Events]:
    """Events of the digits of `snn.data.images`, reduced to 24 x 24 pixels on a sensor of 34 x 34.

    Args:
        digits: [n, 1, 32, 32] of load_images("digits", ...).
        side: Side of a digit on the sensor, in pixels.

    Returns:
        As `simulate_saccades`: about 3,700 events per digit.
    """
    return simulate_saccades(_resized(digits[:, 0], side))


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bilinear resizing in integer arithmetic, so that the pixels are the same on every machine."""
    length, unit = images.shape[1], 2 * side
    low, part = divmod(np.clip((2 * np.arange(side) + 1) * length - side, 0, unit * (length - 1)), unit)
    high = np.minimum(low + 1, length - 1)
    rows = (unit - part)[:, None] * images[:, low] + part[:, None] * images[:, high]
    pixels = (unit - part) * rows[:, :, low] + part * rows[:, :, high]
    return ((pixels + unit**2 // 2) // unit**2).astype(np.uint8)


def _see(
    images: NDArray[np.uint8], theta_HH: NDArray[np.float64], amplitude: float
) -> list[NDArray[np.int64]]:
    """Unsorted events of each image: [number of events, 4] with the columns t, x, y, p."""
    N, H = len(images), len(theta_HH)
    scene = _scene(images, H, amplitude)
    before = _log_intensity(scene, 0, H, amplitude)
    reference = before.copy()
    parts = []
    for start in range(0, DURATION_US, _STEP_US):
        after = _log_intensity(scene, start + _STEP_US, H, amplitude)
        crossings = np.fix((after - reference) / theta_HH)  # number of events, its sign their polarity
        pixel = np.flatnonzero(crossings)  # in [0, N * H * H)
        signed = crossings.ravel()[pixel]
        num = np.abs(signed).astype(np.int64)
        event = np.repeat(np.arange(len(pixel)), num)
        nth = np.arange(len(event)) - np.repeat(np.cumsum(num) - num, num) + 1  # 1, 2, ... at each pixel
        sign, theta = np.sign(signed), theta_HH.ravel()[pixel % theta_HH.size]
        low, high = before.ravel()[pixel][event], after.ravel()[pixel][event]
        level = reference.ravel()[pixel][event] + (sign * theta)[event] * nth
        rise = high - low  # 0 if rounding delayed an event to this step, which it then opens
        share = np.divide(level - low, rise, out=np.zeros_like(level), where=rise != 0)
        t = start + np.clip(share * _STEP_US, 0, _STEP_US - 1).astype(np.int64)
        parts.append(np.stack([pixel[event], t, sign[event] > 0]).astype(np.int64))
        reference.ravel()[pixel] += signed * theta
        before = after
    pixel, t, p = np.concatenate(parts, axis=1)
    n, y, x = np.unravel_index(pixel, (N, H, H))
    order = np.argsort(n, kind="stable")
    events = np.stack([t, x, y, p], 1)[order]
    return np.split(events, np.searchsorted(n[order], np.arange(1, N)))


def _scene(images: NDArray[np.uint8], size: int, amplitude: float) -> NDArray[np.float64]:
    """Intensities in [0, 1] of images centred in a black scene that is larger than the sensor."""
    margin = int(np.ceil(amplitude)) + 1
    _, h, w = images.shape
    scene = np.zeros((len(images), size + 2 * margin, size + 2 * margin))
    top, left = margin + (size - h) // 2, margin + (size - w) // 2
    scene[:, top : top + h, left : left + w] = images / 255
    return scene


def _log_intensity(scene: NDArray[np.float64], t_us: int, size: int, amplitude: float) -> NDArray[np.float64]:
    """[N, H, H] log(I + 0.1) on the sensor at time `t_us`, interpolated bilinearly."""
    margin = (scene.shape[1] - size) // 2
    times = np.linspace(0, DURATION_US, len(_CORNERS))
    moved = [amplitude * (np.interp(t_us, times, _CORNERS[:, axis]) - 0.5) for axis in (0, 1)]
    (left, part_x), (top, part_y) = (divmod(margin + shift, 1) for shift in moved)
    rows, columns = slice(int(top), int(top) + size + 1), slice(int(left), int(left) + size + 1)
    seen = scene[:, rows, columns]
    seen = (1 - part_y) * seen[:, :-1] + part_y * seen[:, 1:]
    seen = (1 - part_x) * seen[:, :, :-1] + part_x * seen[:, :, 1:]
    return np.log(seen + _DARK)


def _with_noise(
    images: NDArray[np.uint8], seen: list[NDArray[np.int64]], size: int, noise_hz: float, seed: int
) -> list[Events]:
    """Adds random events to those of each image and sorts all by time."""
    noisy = []
    for image, events in zip(images, seen, strict=True):
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(image.tobytes())]))
        num_noise = rng.poisson(noise_hz * size * size * DURATION_US / 1e6)
        noise = rng.integers(0, [DURATION_US, size, size, 2], size=(num_noise, 4))
        t, x, y, p = np.concatenate([events, noise]).T
        order = np.argsort(t, kind="stable")
        noisy.append(make_events(x[order], y[order], t[order], p[order]))
    return noisy
