"""Templates of plain text: files for clusters, model cards, C. Pages of HTML escape and have their own."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def text_templates(package: str, folder: str = "templates") -> Environment:
    """The templates in a folder of a package; an undefined name is an error, nothing is escaped."""
    return Environment(
        loader=PackageLoader(package, folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
