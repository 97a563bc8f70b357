"""Search algorithms behind one ask/tell object; neither Ray nor torch is imported here."""

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.choose import build_search
from pipeline.algorithms.history import Candidate, History
from pipeline.algorithms.proposer import Proposer
from pipeline.algorithms.run_in_process import run_in_process
from pipeline.algorithms.settings import SearchSettings

__all__ = [
    "ArchitectureSearch",
    "Candidate",
    "History",
    "Proposer",
    "SearchSettings",
    "build_search",
    "run_in_process",
]
