"""The name of every file of a run folder."""

from __future__ import annotations

from snn.description import CARD, DESCRIPTION, WEIGHTS

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
CLUSTER = "cluster.json"
LEDGER = "ledger.json"
EVENT_EXAMPLES = "event_examples.npz"
SUPERNET = "supernet.json"
SUPERNET_WEIGHTS = "supernet.safetensors"
SUPERNET_CHECKPOINT = "supernet_checkpoint.pt"
FOLDED_WEIGHTS = "supernet_folded.safetensors"
EVALUATION_PARTS = "evaluations"
EVALUATIONS = "evaluations.parquet"
SHARDS = "shards"
BEST = "best.json"
FINALISTS = "finalists.json"
REPLAY = "replay.json"
FIDELITY = "fidelity.json"
RETRAINED = "retrained"
METRICS = "metrics.json"
CURVES = "tensorboard"
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
REPORT_SUMS = "report.sha256"

REPORTED = (
    CONFIG, ENVIRONMENT, SUPERNET, EVALUATIONS, BEST, FINALISTS, REPLAY, FIDELITY, EVENT_EXAMPLES, CLUSTER,
    LEDGER,
)  # fmt: skip
"""Files that a report's numbers come from, beside those of retrained networks."""
SAY_THEIR_SETTINGS = (
    ENVIRONMENT, SUPERNET, SUPERNET_CHECKPOINT, EVALUATIONS, BEST, FINALISTS, REPLAY, FIDELITY, CLUSTER,
    LEDGER,
)  # fmt: skip
"""Results that say what they were made with, beside those of trials and of retrained networks."""


def metrics_of(number: int) -> str:
    """The results of a retrained network."""
    return f"{RETRAINED}/{number}/{METRICS}"


def weights_of(number: int) -> str:
    """The weights of a retrained network."""
    return f"{RETRAINED}/{number}/{WEIGHTS}"


def description_of(number: int) -> str:
    """What makes the folder of a retrained network a bundle: how it is built and used (`snn.bundle`)."""
    return f"{RETRAINED}/{number}/{DESCRIPTION}"


def card_of(number: int) -> str:
    """The model card of a retrained network."""
    return f"{RETRAINED}/{number}/{CARD}"


def checkpoint_of(number: int | None) -> str:
    """A training's checkpoint: of a retrained network, or of the super-network (None)."""
    return SUPERNET_CHECKPOINT if number is None else f"{RETRAINED}/{number}/checkpoint.pt"


def curves_of(number: int | None) -> str:
    """The folder of a training's curves; `number` as in `checkpoint_of`."""
    return f"{CURVES}/{'supernet' if number is None else f'retrained-{number}'}"


FILES = (
    CONFIG,
    ENVIRONMENT,
    CLUSTER,
    LEDGER,
    EVENT_EXAMPLES,
    SUPERNET,
    SUPERNET_WEIGHTS,
    SUPERNET_CHECKPOINT,
    FOLDED_WEIGHTS,
    f"{EVALUATION_PARTS}/*.parquet",
    f"{SHARDS}/*.parquet",
    EVALUATIONS,
    BEST,
    FINALISTS,
    REPLAY,
    FIDELITY,
    f"{RETRAINED}/*/{METRICS}",
    f"{RETRAINED}/*/{WEIGHTS}",
    f"{RETRAINED}/*/{DESCRIPTION}",
    f"{RETRAINED}/*/{CARD}",
    f"{RETRAINED}/*/checkpoint.pt",
    f"{CURVES}/*/*",
    REPORT_JSON,
    REPORT_HTML,
    REPORT_SUMS,
)
"""Patterns of all files that a run may hold."""
