"""Training curves as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

from pipeline.storage.records import EpochRecord


def write_curves(folder: Path, record: EpochRecord) -> None:
    """Adds one epoch; every measured field becomes a scalar of its name."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), filename_suffix=f".{record.epoch:04d}") as writer:
        for name, value in vars(record).items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, record.epoch)
