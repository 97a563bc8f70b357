"""Examples of event frames as a compressed file of numpy arrays."""

from __future__ import annotations

import io

import numpy as np

from pipeline.storage.records import EventExamples


def examples_to_npz(examples: EventExamples) -> bytes:
    """The examples as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, samples=examples.samples, class_names=np.array(examples.class_names))
    return buffer.getvalue()


def examples_from_npz(data: bytes) -> EventExamples:
    """The inverse of `examples_to_npz`.

    Raises:
        ValueError: The file is damaged or of another form; the message does not name it.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            samples, names = arrays["samples"], arrays["class_names"].tolist()
    except Exception as error:  # damaged files raise errors of any kind
        raise ValueError(str(error)) from error
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if samples.dtype != np.uint8 or samples.ndim != 5 or samples.shape[2] != 2 or not texts:
        raise ValueError(
            f"it must hold uint8 samples [K, T, 2, H, W] and class names, got {samples.dtype} "
            f"{list(samples.shape)}"
        )
    if len(samples) != len(names) or not samples.size:
        raise ValueError(f"it holds {len(samples)} samples and {len(names)} class names")
    return EventExamples(samples, tuple(names))
