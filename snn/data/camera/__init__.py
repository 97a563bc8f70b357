"""Event cameras: recordings, events as frames, data sets of recordings, a simulated sensor."""

from snn.data.camera.load import load_events
from snn.data.camera.recordings import read_recording
from snn.data.camera.sensor import simulate_saccades

__all__ = ["FrameSettings", "load_events", "read_recording", "simulate_saccades"]
