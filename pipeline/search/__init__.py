"""Stage 2: the search as a Tune run on warm trial actors that share the weights.

`pipeline.search.stage.search` is the stage; it is not listed here, as it needs torch and a process that only
answers trials does not.
"""

from pipeline.search.answers import Answer
from pipeline.search.results import Results
from pipeline.search.searcher import AskTellSearcher
from pipeline.search.trials import run_trials

__all__ = ["Answer", "AskTellSearcher", "Results", "run_trials"]
