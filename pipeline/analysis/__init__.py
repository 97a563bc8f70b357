"""Analyses of a finished table of evaluations; nothing is evaluated again."""

from pipeline.analysis.exact import best_within, exact_front, exact_optima, lambda_intervals
from pipeline.analysis.replay import replay, replay_run, replay_table

__all__ = [
    "best_within",
    "exact_front",
    "exact_optima",
    "lambda_intervals",
    "replay",
    "replay_run",
    "replay_table",
]
