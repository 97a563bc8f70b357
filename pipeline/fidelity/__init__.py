"""Rank fidelity: does the score of a search order architectures as training from scratch does?"""

from pipeline.fidelity.study import fidelity_table, study

__all__ = ["fidelity_table", "study"]
