"""Stages 1 and 3: trainings from scratch, as Ray tasks."""

from pipeline.training.plan import TrainingPlan
from pipeline.training.retrain import retrain
from pipeline.training.supernet import import_checkpoint, reuse_supernet, train_supernet

__all__ = ["TrainingPlan", "import_checkpoint", "retrain", "reuse_supernet", "train_supernet"]
