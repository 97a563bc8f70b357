"""Environment variables by which a driver tells its workers something."""

STAGED_DATA = "AUTOSNN_STAGED_DATA"
"""The name of the actor that hands out the driver's samples (`pipeline.staging`)."""

WORKER_IMPORTS = "AUTOSNN_WORKER_IMPORTS"
"""The module that a worker imports when it starts (`pipeline.worker`); none if it is not set or empty."""
