"""Stages 1 and 3: trainings from scratch, as Ray tasks."""

from pipeline.training.plan import TrainingPlan
from pipeline.training.retrain import retrain
from pipeline.training.supernet import read_checkpoint, reuse_supernet, train_supernet, write_imported

__all__ = [
    "TrainingPlan",
    "read_checkpoint",
    "retrain",
    "reuse_supernet",
    "train_supernet",
    "write_imported",
]
