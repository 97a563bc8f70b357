"""Evaluations ahead of the search, in slots that would otherwise wait for a generation's last results.

Their processes stay warm, and their results are known when the search asks for them. What the search asks
for does not depend on them.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.algorithms.ask_tell import ArchitectureSearch
from pipeline.algorithms.history import Candidate


class Speculation:
    """Chooses architectures that a search is likely to ask for next, one a trial.

    Args:
        search: The search; it is not changed.

    Attributes:
        num_started: Trials started ahead of the search.
    """

    def __init__(self, search: ArchitectureSearch) -> None:
        self.search = search
        self.num_started = 0
        self._under_way: set[str] = set()
        self._awaited: dict[str, Candidate] = {}

    def start(self, known: Collection[str], running: Collection[str]) -> Candidate | None:
        """A candidate with an id below 0; None if no architecture is left.

        Args:
            known: Architectures whose evaluation is known.
            running: Architectures that trials of the search evaluate.
        """
        for architecture in self.search.likely_next():
            text = str(architecture)
            if text not in known and text not in running and text not in self._under_way:
                self.num_started += 1
                self._under_way.add(text)
                return Candidate(-self.num_started, self.search.generation, architecture)
        return None

    def awaits(self, candidate: Candidate) -> bool:
        """Whether a candidate of the search is under way already; its result is awaited from now on."""
        text = str(candidate.architecture)
        if text in self._under_way:
            self._awaited[text] = candidate
            return True
        return False

    def finish(self, architecture: str) -> Candidate | None:
        """Ends the trial of an architecture; the candidate of the search that awaited it, if one did."""
        self._under_way.discard(architecture)
        return self._awaited.pop(architecture, None)
