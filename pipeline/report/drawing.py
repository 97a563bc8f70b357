"""The chosen architecture drawn from input to output, as SVG whose text keeps its size at any width."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from pipeline import formats as fmt

_TOP = 34  # pixels above the first part
_ROW = 58  # pixels from one part to the next
_BOX = 44  # height of a part in pixels
_BOX_WIDTH = 42  # of the drawing, in percent
_BAR_LEFT = 47  # of the drawing, in percent


def network_drawing(parts: Sequence[dict[str, Any]], network_input: str) -> str:
    """Boxes from input to output, coloured by spikes, beside bars of the spikes of each.

    Args:
        parts: Of each part its name, block, channels, spikes per sample and firing rate.
        network_input: What goes in at the top, in words.
    """
    most = max((part["spikes"] or 0.0 for part in parts), default=0.0) or 1.0
    total = sum(part["spikes"] or 0.0 for part in parts) or 1.0
    height = _TOP + len(parts) * _ROW + 22
    middle = _BOX_WIDTH / 2
    rows = "".join(_row(part, _TOP + i * _ROW, most, total) for i, part in enumerate(parts))
    return (
        f'<svg class="network" width="100%" height="{height}" role="img" '
        'aria-label="The chosen architecture from input to output with spikes of each part">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
        f'<text x="{middle}%" y="14" class="end">{html.escape(network_input)}</text>'
        f"{_arrow(18, _TOP - 2)}{rows}"
        f'<text x="{middle}%" y="{height - 5}" class="end">class with most votes</text></svg>'
    )


def _row(part: dict[str, Any], top: int, most: float, total: float) -> str:
    spikes = part["spikes"] or 0.0
    silent = " silent" if spikes == 0 else ""
    width = (100 - _BAR_LEFT) * spikes / most
    channels = f"{part['channels']} ch" if part["channels"] else ""
    share = f" \u00b7 {fmt.percent(spikes / total)} of all" if spikes else ""
    return (
        f'<rect x="1" y="{top}" width="{_BOX_WIDTH}%" height="{_BOX}" rx="7" class="box{silent}"/>'
        f'<rect x="1" y="{top}" width="{_BOX_WIDTH}%" height="{_BOX}" rx="7" class="heat" '
        f'fill-opacity="{0.6 * spikes / most:.3f}"/>'
        f'<text x="3%" y="{top + 17}" class="part">{html.escape(part["part"].replace("_", " "))}</text>'
        f'<text x="{_BOX_WIDTH - 1.5}%" y="{top + 17}" class="channels">{channels}</text>'
        f'<text x="3%" y="{top + 35}" class="block">{html.escape(part["block"])}</text>'
        f'<text x="{_BAR_LEFT}%" y="{top + 17}" class="value">{_value(part)}'
        f'<tspan class="share">{share}</tspan></text>'
        f'<rect x="{_BAR_LEFT}%" y="{top + 26}" width="{100 - _BAR_LEFT}%" height="8" rx="4" class="track"/>'
        f'<rect x="{_BAR_LEFT}%" y="{top + 26}" width="{width:.2f}%" height="8" rx="4" class="bar"/>'
        f"{_arrow(top + _BOX, top + _ROW - 2)}"
    )


def _value(part: dict[str, Any]) -> str:
    if not part["spikes"]:
        return "0 spikes"
    rate = part["firing_rate"]
    return f"{fmt.count(part['spikes'])}" + (f" \u00b7 rate {fmt.percent(rate)}" if rate is not None else "")


def _arrow(start: int, end: int) -> str:
    middle = f"{_BOX_WIDTH / 2}%"
    return (
        f'<line x1="{middle}" x2="{middle}" y1="{start}" y2="{end}" class="arrow" marker-end="url(#arrow)"/>'
    )
