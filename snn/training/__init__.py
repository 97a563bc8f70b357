"""Training of a super-network or a child, one epoch at a time."""

from snn.training.trainer import Trainer, TrainingDiverged

__all__ = ["Trainer", "TrainingDiverged"]
