"""What a run leaves behind: its records, the folder that holds them, how files are written."""

from pipeline.storage.files import Files, LocalFiles
from pipeline.storage.records import EvaluationRow, RetrainResult, SearchResult, SupernetResult
from pipeline.storage.run_folder import RunFolder

__all__ = [
    "EvaluationRow",
    "Files",
    "LocalFiles",
    "RetrainResult",
    "RunFolder",
    "SearchResult",
    "SupernetResult",
]
