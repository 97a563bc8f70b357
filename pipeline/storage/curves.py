"""Training curves as TensorBoard event files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.storage.files import Files
from pipeline.storage.records import EpochRecord


def write_curves(files: Files, folder: str, record: EpochRecord) -> None:
    """Adds one epoch to the curves in `folder`; every measured field becomes a scalar of its name."""
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory(prefix="curves-") as temporary:
        with SummaryWriter(temporary, filename_suffix=f".{record.epoch:04d}") as writer:
            for name, value in vars(record).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, record.epoch)
        for file in Path(temporary).iterdir():
            files.put(f"{folder}/{file.name}", file.read_bytes())
