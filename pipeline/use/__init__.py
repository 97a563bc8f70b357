"""What people do with a network that a run found: predict with it, export it."""

from pipeline.use.export import export
from pipeline.use.predict import predict_files

__all__ = ["export", "predict_files"]
