"""Small data sets in their published forms, written to disk."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pyarrow import parquet

from snn.data.camera.load import load_events
from snn.data.camera.recordings import Events, make_events
from snn.data.samples import LabelledSamples
from snn.options import FrameSettings


def make_recording(seed: int, n: int = 100, *, duration: int = 10_000, side: int = 30) -> Events:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, side, (2, n))
    return make_events(x, y, np.sort(rng.integers(0, duration, n)), rng.integers(0, 2, n))


def write_recording(path: Path, recording: Events) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, t, p = (recording[name].astype(np.int64) for name in "xytp")
    if path.suffix == ".bin":
        rows = np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1)
        path.write_bytes(rows.astype(np.uint8).tobytes())
    else:
        np.save(path, recording)


def write_recordings(root: Path, *, train: int = 6, test: int = 2, **options: Any) -> None:
    """Recordings of the classes "left" and "right" in the plain layout."""
    for split, number in (("train", train), ("test", test)):
        for label, name in enumerate(("left", "right")):
            for i in range(number):
                write_recording(
                    root / split / name / f"{i}.npy", make_recording(100 * label + i + len(split), **options)
                )


def load_recordings(
    root: Path, split: Any = "train", dataset: str = "recordings", **settings: Any
) -> LabelledSamples:
    chosen = FrameSettings(**{"time_steps": 4, "bin_by": "count", **settings})
    return load_events(dataset, split, root=root, settings=chosen)


PIXELS = np.random.default_rng(0).integers(0, 256, size=(10, 32, 32, 3), dtype=np.uint8)


LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 0, 8]


BATCH = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())


def encode(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, lossless=True)
    return stream.getvalue()


def write_parquet(path: Path, rows: Sequence[int], *, image: str = "img", label: str = "label") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "WEBP" if image == "img" else "PNG"
    images = [{"bytes": encode(PIXELS[i], kind), "path": f"{i}.png"} for i in rows]
    parquet.write_table(pa.table({image: images, label: [LABELS[i] for i in rows]}), path)


def write_pickle(path: Path, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
