"""JSON schemas against documents: every error with its line, what was expected and what came."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from cluster.check.document import Document
from cluster.check.finding import Finding


def schema_findings(document: Document, schema: dict[str, Any], where: str) -> Iterator[Finding]:
    """The places where a document does not follow a schema.

    Args:
        document: What is checked.
        schema: Its JSON schema.
        where: Where people read what is allowed; a sentence.
    """
    from jsonschema import Draft7Validator

    for error in Draft7Validator(schema).iter_errors(document.values):
        path = list(error.absolute_path)
        if error.validator == "additionalProperties":
            if not error.schema.get("patternProperties"):
                yield from unknown_keys(document, path, list(error.schema.get("properties", {})), where)
        elif error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            yield document.finding(
                [*path, missing], expected="a value", got="none", cure=f"Add the key. {where}"
            )
        else:
            yield document.finding(
                path, expected=_expected(error), got=f"{error.instance!r:.60}", cure=f"Change it. {where}"
            )


def unknown_keys(
    document: Document, path: Sequence[str | int], known: Collection[str], where: str
) -> Iterator[Finding]:
    """The keys of the object at a path that are not among the known ones."""
    for name in document.get(*path) or {}:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            yield document.finding(
                [*path, name],
                expected=close[0] if close else f"one of {', '.join(sorted(known))[:200]}",
                got=str(name),
                cure=f"Correct the key. {where}",
            )


def _expected(error: Any) -> str:
    words = {
        "type": "a value of type {}",
        "enum": "one of {}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "pattern": "a text like {}",
    }
    return words.get(error.validator, "{}").format(error.validator_value)
