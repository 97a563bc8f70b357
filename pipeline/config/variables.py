"""Environment variables by which a driver tells its workers something."""

STAGED_DATA = "AUTOSNN_STAGED_DATA"
"""The name of the actor that hands out the driver's samples (`pipeline.staging`)."""
