"""Stages 1 and 3: trainings from scratch, as Ray tasks."""
