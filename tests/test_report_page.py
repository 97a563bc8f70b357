"""Text from elsewhere never becomes HTML, and each section of the page has a template of its own."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from markupsafe import escape
from report_runs import CONFIG, HOSTILE, edit_record, event_run, finished_run, moving_bars, store_examples

from pipeline.report.join import write_report
from pipeline.report.page import render_page, sections
from pipeline.storage.names import ENVIRONMENT, REPORT_HTML, SUPERNET, metrics_of
from pipeline.storage.run_folder import RunFolder

SOURCES = (
    "class",
    "note",
    "split",
    "commit",
    "version",
    "gpu",
    "config",
    "supernet",
    "label",
    "architecture",
    "error",
    "worker",
)


@pytest.mark.parametrize("source", SOURCES)
def test_hostile_text_is_shown_letter_by_letter(tmp_path: Path, source: str) -> None:
    text = f"{source}: {HOSTILE}"
    run = finished_run(tmp_path / "run", config=replace(CONFIG, name=text if source == "config" else "a"))
    put_text(run, source, text)
    page = page_of(run)
    assert escape(f"{source}: {HOSTILE}") in page
    assert HOSTILE not in page


@pytest.mark.parametrize("make_run", [finished_run, event_run])
def test_hostile_text_adds_neither_element_nor_attribute(
    tmp_path: Path, make_run: Callable[[Path], RunFolder]
) -> None:
    pages = []
    for folder, text in (("harmless", "a text"), ("hostile", HOSTILE)):
        run = make_run(tmp_path / folder / "run")
        for source in SOURCES:
            put_text(run, source, f"{source}: {text}")
        pages.append(elements(page_of(run)))
    assert pages[0] == pages[1]


def test_hostile_name_of_a_recorded_class_stays_text(tmp_path: Path) -> None:
    run = event_run(tmp_path / "run")
    before = elements(page_of(run))
    store_examples(run, moving_bars(), [f"{HOSTILE} {label}" for label in range(10)])
    page = page_of(run)
    assert elements(page) == before
    assert escape(f"Event frames of class {HOSTILE} 9") in page


def test_each_section_has_a_template_of_its_own(tmp_path: Path) -> None:
    names = [section.template for section in sections(write_report(event_run(tmp_path / "run")))]
    folder = importlib.resources.files("pipeline.report") / "templates"
    assert len(set(names)) == len(names) == 11
    assert all((folder / name).is_file() for name in names)


def test_what_a_template_needs_and_lacks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write_report(finished_run(tmp_path / "run"))
    head, *_ = sections(report)
    monkeypatch.setattr(type(head), "template", "cost.html.j2")
    with pytest.raises(UndefinedError, match="rows"):
        render_page(report)


def put_text(run: RunFolder, source: str, text: str) -> None:
    """Puts a text into the run folder, where one of the stages or a data set could have put it."""
    if source in ("error", "worker"):
        rows = run.read_evaluations()
        failed = next(row for row in rows if row.error)
        rows[rows.index(failed)] = replace(failed, **{source: text})
        run.close_evaluations(rows)
    elif source in ("label", "architecture"):
        edit_record(run.path / metrics_of(0), lambda values: values.update({source: text}))
    elif source == "supernet":
        edit_record(run.path / SUPERNET, lambda values: values.update(source=text))
    elif source != "config":
        edit_record(run.path / ENVIRONMENT, lambda values: put_fact(values, source, text))


def put_fact(environment: dict[str, Any], source: str, text: str) -> None:
    split = environment["data"]["test"]
    if source == "class":
        split["samples_per_class"] = {text: 3}
    elif source == "note":
        split["notes"] = [text]
    elif source == "split":
        environment["data"][text] = split
    elif source == "version":
        environment["versions"]["torch"] = text
    elif source == "gpu":
        environment["gpus"] = [text]
    else:
        environment[source] = text


def page_of(run: RunFolder) -> str:
    write_report(run)
    return (run.path / REPORT_HTML).read_text(encoding="utf-8")


def elements(page: str) -> list[tuple[str, ...]]:
    """Each element of a page with the names of its attributes."""
    found: list[tuple[str, ...]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, *(name for name, _ in attrs)))

    Parser().feed(page)
    return found
