"""Turns pictures and event recordings into a network's input, as its bundle says."""

# N samples, T time steps, C channels, H height, W width

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn.data.camera.frames import frames_from_events, to_network_input, windows_of
from snn.data.camera.recordings import EVENT_DTYPE, Events, read_recording
from snn.data.image_decoding import fitted
from snn.data.images import normalise_images
from snn.description import Description, EventInput

if TYPE_CHECKING:
    from PIL.Image import Image


def prepare(description: Description, samples: Any) -> Tensor:
    """The network's input: images [N, C, H, W] or event frames [T, N, C, H, W].

    Args:
        description: Of the network.
        samples: One picture or recording, or several. A recording yields a sample for each of its windows.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file that cannot be read, or something of another form.
    """
    return to_inputs(description, read_samples(description, samples))


def read_samples(description: Description, samples: Any) -> NDArray[np.uint8]:
    """Images [N, C, H, W] of the network's size, or counts of events [N, T, C, H, W]; as `prepare`."""
    if description.images is not None:
        size = description.structure.input_shape
        return np.stack([_pixels(picture, size) for picture in _several(samples, _is_picture)])
    assert description.events is not None
    recordings = _several(samples, _is_recording)
    return np.concatenate([_frames(description.events, recording) for recording in recordings])


def to_inputs(description: Description, samples: NDArray[np.uint8]) -> Tensor:
    """What the network takes, from what `read_samples` returns."""
    if description.images is not None:
        return normalise_images(torch.from_numpy(samples), description.images.mean, description.images.std)
    assert description.events is not None
    return to_network_input(torch.from_numpy(samples), description.events.values)


def _several(samples: Any, is_one: Any) -> Iterable[Any]:
    chosen: Sequence[Any] = [samples] if is_one(samples) else samples
    if not isinstance(chosen, Sequence | np.ndarray) or len(chosen) == 0:
        raise ValueError(f"Expected at least one picture or recording, got {samples!r:.100}.")
    return chosen


def _is_picture(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | PathLike) or hasattr(value, "convert")


def _is_recording(value: Any) -> bool:
    return isinstance(value, str | PathLike | np.ndarray)


def _pixels(picture: Any, input_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A picture as uint8 [C, H, W] of the network's size."""
    from PIL import Image

    channels, height, width = input_shape
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim < 2 or picture.shape[2:] not in ((), (1,), (3,)):
            raise ValueError(
                "A picture must be uint8 [H, W] or [H, W, 3] with red, green and blue, got "
                f"{picture.dtype} {list(picture.shape)}."
            )
        image: Image.Image = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    elif isinstance(picture, str | PathLike):
        image = _open(Path(picture))
    else:
        image = picture
    pixels = np.asarray(fitted(image.convert("L" if channels == 1 else "RGB"), width, height))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _open(path: Path) -> Image:
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"There is no picture '{path}'.")
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow raises errors of any kind for broken images
        raise ValueError(f"The picture '{path}' cannot be read ({error}).") from error


def _frames(settings: EventInput, recording: Any) -> NDArray[np.uint8]:
    """A recording as counts, uint8 [windows, T, C, H, W]."""
    if isinstance(recording, str | PathLike):
        path = Path(recording)
        name = f"The recording '{path}'"
        if not path.is_file():
            raise FileNotFoundError(f"There is no recording '{path}'.")
        events = read_recording(path, settings.form)
    else:
        name, events = "A recording", _as_events(recording)
    width, height = settings.sensor_size
    if len(events) == 0 or events["x"].max() >= width or events["y"].max() >= height:
        found = "no events" if len(events) == 0 else "events beyond it"
        raise ValueError(f"{name} must hold events of a sensor of {width} x {height} pixels, got {found}.")
    windows = windows_of(events, sensor_size=settings.sensor_size, settings=settings.frames)
    if not windows:
        raise ValueError(
            f"{name} yields no sample: it is shorter than {settings.frames.window_ms:g} ms, or all its "
            "events are noise or outside the crop."
        )
    return np.stack(
        [frames_from_events(it, sensor_size=settings.sensor_size, settings=settings.frames) for it in windows]
    )


def _as_events(recording: Any) -> Events:
    names = getattr(getattr(recording, "dtype", None), "names", None) or ()
    if not {"x", "y", "t", "p"} <= {*names}:
        raise ValueError(
            f"A recording must be an array with the fields x, y, t (in us) and p, got {recording!r:.100}."
        )
    events = np.empty(len(recording), EVENT_DTYPE)
    for name in ("x", "y", "t", "p"):
        events[name] = recording[name] > 0 if name == "p" else recording[name]
    return cast(Events, events)
