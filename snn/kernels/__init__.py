"""The compiled kernels of event-driven evaluation and of training, and their data structures."""

from snn.kernels.layout import Layer, SpikeLists, Workspace
from snn.kernels.library import KernelsUnavailable, is_available

__all__ = ["KernelsUnavailable", "Layer", "SpikeLists", "Workspace", "is_available"]
