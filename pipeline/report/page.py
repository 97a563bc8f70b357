"""The report's page: style sheet, plotly.js once, nothing fetched from elsewhere; its sections and tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from pipeline.report.figures import ACCENT, INK, MUTED


def page(title: str, body: str) -> str:
    """A self-contained HTML page; `body` is HTML, `title` is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>{_PRINT}</script>\n</body>\n</html>\n"
    )


def escape(value: Any) -> str:
    """Any value as text that is safe in HTML."""
    return html.escape(str(value))


def section(title: str, intro: str, body: str) -> str:
    """A section with a heading and, unless empty, an introduction; both are text, `body` is HTML."""
    lines = f"<p>{escape(intro)}</p>" if intro else ""
    return f"<section><h2>{escape(title)}</h2>{lines}{body}</section>"


def note(text: str) -> str:
    """A muted paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def callout(title: str, text: str) -> str:
    """A paragraph that stands out."""
    return f'<p class="callout"><b>{escape(title)}</b> {escape(text)}</p>'


def unit(report: dict[str, Any]) -> str:
    """What is counted per: "image", or "sample" where the data are events."""
    return "sample" if report["events"] else "image"


def missing(report: dict[str, Any], stage: str) -> str:
    """What a stage has not made yet and which command makes it; empty if it is finished."""
    text = report["stages"][stage]["missing"]
    return f'<p class="missing">{escape(text)}</p>' if text else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, num_text: int = 1) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: Names of the columns, as text.
        rows: Cells, as HTML.
        num_text: Number of leading columns that are text; the others are numbers and set to the right.
    """
    classes = ["" if i < num_text else ' class="number"' for i in range(len(head))]
    names = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(head, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    """Names and values, as text, below each other."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def columns(items: Sequence[str]) -> str:
    """Pieces of HTML beside each other, below each other on a narrow screen.

    Their number is fixed ahead, so that charts drawn while the page still loads find their final width.
    """
    return f'<div class="columns" style="--number: {len(items)}">{"".join(items)}</div>'


def folded(summary: str, body: str) -> str:
    """`body`, which is HTML, behind a line of text to click on."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


# Charts do not follow the width of paper by themselves, and closed details are not printed.
_PRINT = """
const charts = () => document.querySelectorAll(".js-plotly-plot");
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  charts().forEach(c => Plotly.relayout(c, {width: 660}));
});
addEventListener("afterprint", () => {
  charts().forEach(c => Plotly.relayout(c, {width: null, autosize: true}));
});
"""

_STYLE = f"""
:root {{ --accent: {ACCENT}; --ink: {INK}; --muted: {MUTED}; --line: #e2e8f0; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f6f7f9; color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }}
h1 {{ font-size: 2.1rem; line-height: 1.15; margin: 0 0 12px; letter-spacing: -0.02em;
  overflow-wrap: anywhere; }}
h2 {{ font-size: 1.25rem; margin: 0 0 4px; letter-spacing: -0.01em; }}
h3 {{ font-size: 1rem; margin: 24px 0 4px; }}
p {{ margin: 0 0 12px; }}
section, .card {{ background: #fff; border: 1px solid var(--line); border-radius: 12px; }}
section {{ padding: 24px; margin-top: 20px; }}
section > p, .note {{ color: var(--muted); font-size: 0.92rem; max-width: 76ch; }}
.eyebrow {{ color: var(--accent); font-weight: 600; font-size: 0.85rem; margin: 0 0 6px; }}
.lead {{ font-size: 1.13rem; max-width: 74ch; overflow-wrap: anywhere; }}
.stages {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 20px; padding: 0; list-style: none;
  font-size: 0.85rem; }}
.stages li {{ border: 1px solid var(--line); border-radius: 99px; padding: 2px 12px; background: #fff; }}
.stages .open {{ color: var(--muted); border-style: dashed; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; }}
.card {{ padding: 14px 16px; }}
.card b {{ display: block; font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.02em; }}
.card.main b {{ color: var(--accent); }}
.card span {{ color: var(--muted); font-size: 0.85rem; line-height: 1.35; display: block; }}
.missing, .callout {{ border-left: 3px solid var(--accent); padding: 6px 12px; background: #fff7f2;
  overflow-wrap: anywhere; color: var(--ink); }}
header .callout {{ max-width: 74ch; border-radius: 0 8px 8px 0; }}
.beside {{ display: flex; flex-wrap: wrap; gap: 0 40px; }}
.beside > * {{ min-width: 0; max-width: 100%; }}
.beside > :last-child {{ flex: 1 1 400px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.85rem; color: var(--muted);
  margin-bottom: 8px; }}
.legend i {{ display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
.frames {{ display: grid; grid-template-columns: fit-content(9.5rem) var(--width); gap: 0 10px;
  align-items: center; font-size: 0.85rem; width: max-content; }}
.frames b {{ font-weight: 600; overflow-wrap: anywhere; line-height: 1.25; }}
.frames img {{ display: block; width: 100%; height: auto; image-rendering: pixelated; }}
.steps {{ display: flex; color: var(--muted); font-size: 0.78rem; }}
.steps span {{ flex: 1 1 0; text-align: center; }}
.columns {{ display: grid; grid-template-columns: repeat(var(--number), minmax(0, 1fr)); gap: 16px; }}
.columns > *, .chart {{ min-width: 0; }}
.chart {{ overflow: hidden; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }}
th {{ color: var(--muted); font-weight: 600; font-size: 0.82rem; }}
th.number, td.number {{ text-align: right; white-space: nowrap; }}
td small {{ display: block; color: var(--muted); }}
td small code {{ white-space: nowrap; font-size: 0.95em; }}
.scroll + .note {{ margin-top: 12px; }}
dl {{ margin: 0; font-size: 0.9rem; }}
dt {{ color: var(--muted); font-size: 0.82rem; }}
dd {{ margin: 0 0 10px; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }}
code, pre {{ font: 0.85em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }}
code {{ overflow-wrap: anywhere; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; max-height: 420px; overflow-y: auto; }}
details {{ margin-top: 12px; border-top: 1px solid var(--line); padding-top: 10px; }}
summary {{ cursor: pointer; font-weight: 600; }}
.split {{ display: grid;
  grid-template-columns: minmax(0, 1.7fr) minmax(0, 1fr); gap: 32px; margin-top: 8px; }}
svg.network text {{ font-size: 13px; fill: var(--ink); }}
svg.network .box {{ fill: #fff; stroke: #cbd5e1; }}
svg.network .silent {{ stroke-dasharray: 4 3; }}
svg.network .heat, svg.network .bar {{ fill: var(--accent); }}
svg.network .track {{ fill: #eef1f5; }}
svg.network .block {{ font-weight: 600; }}
svg.network text.part, svg.network text.channels {{ font-size: 11.5px; fill: #475569; }}
svg.network text.channels {{ text-anchor: end; }}
svg.network text.end {{ text-anchor: middle; font-size: 12px; fill: var(--muted); }}
svg.network .share {{ fill: var(--muted); }}
svg.network .arrow {{ stroke: #94a3b8; }}
svg.network .head {{ fill: #94a3b8; }}
@media (max-width: 900px) {{ .columns {{ grid-template-columns: minmax(0, 1fr); }} }}
@media (max-width: 720px) {{
  main {{ padding: 24px 12px 40px; }}
  h1 {{ font-size: 1.6rem; }}
  section {{ padding: 18px 14px; }}
  .split {{ grid-template-columns: minmax(0, 1fr); gap: 16px; }}
  .cards {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }}
  .card b {{ font-size: 1.25rem; }}
  svg.network .share {{ display: none; }}
}}
@media print {{
  html {{ font-size: 11.5px; }}
  body {{ background: #fff; font-size: 1rem; }}
  th, td {{ padding: 5px 8px 5px 0; }}
  main {{ max-width: none; padding: 0; }}
  section {{ border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 14px 0; }}
  .cards, .chart, tr, svg {{ break-inside: avoid; }}
  h2, h3 {{ break-after: avoid; }}
  pre {{ max-height: none; }}
  .scroll {{ overflow: visible; }}
  .frames {{ width: auto; grid-template-columns: fit-content(7rem) minmax(0, var(--width)); }}
}}
"""
