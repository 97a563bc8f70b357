"""JSON schemas against documents: every error with its line, what was expected and what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
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
            yield from _unknown_keys(document, path, error, where)
        elif error.validator == "required":
            missing = next(name for name in error.validator_value if name not in error.instance)
            yield document.finding(
                [*path, missing], expected="a value", got="none", cure=f"Add the key. {where}"
            )
        else:
            yield document.finding(
                path, expected=_expected(error), got=f"{error.instance!r:.60}", cure=f"Change it. {where}"
            )


def _unknown_keys(document: Document, path: list[Any], error: Any, where: str) -> Iterator[Finding]:
    known = list(error.schema.get("properties", {}))
    for name in error.instance:
        if name not in known and not error.schema.get("patternProperties"):
            close = difflib.get_close_matches(str(name), known, 1)
            yield document.finding(
                [*path, name],
                expected=close[0] if close else f"one of {', '.join(known)[:200]}",
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
