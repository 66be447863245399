"""Numbers as pictures for a page: SVG without scripts, fonts or links.

In:   values with intervals.
Out:  one `<svg>` element as text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from omni2sound.bench.stats.estimate import Estimate

_ROW_PX, _LABEL_PX, _PLOT_PX, _TOP_PX, _BOTTOM_PX = 20, 152, 200, 8, 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One system's value."""

    label: str
    estimate: Estimate
    strong: bool
    """Drawn in colour: a model, not a baseline."""


def interval_plot(bars: Sequence[Bar], *, title: str) -> str:
    """A dot with its 95 % interval for each system, on one axis.

    An end that is not finite, or far beyond all values, is drawn up to the edge.
    """
    values = [b.estimate.value for b in bars if math.isfinite(b.estimate.value)]
    low, high = min([*values, 0.0]), max([*values, 0.0])
    ends = [e for b in bars for e in (b.estimate.low, b.estimate.high) if math.isfinite(e)]
    room = (high - low) or 1.0
    low = max(min([*ends, low]), low - 0.25 * room)
    high = min(max([*ends, high]), high + 0.25 * room)
    span = (high - low) or 1.0

    def x_of(value: float) -> float:
        return _LABEL_PX + _PLOT_PX * min(1.0, max(0.0, (value - low) / span))

    height = _TOP_PX + _ROW_PX * len(bars) + _BOTTOM_PX
    width = _LABEL_PX + _PLOT_PX + 14
    bottom = _TOP_PX + _ROW_PX * len(bars)
    parts = [
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{html.escape(title)}</title>",
        f'<line class="axis" x1="{x_of(0):.1f}" x2="{x_of(0):.1f}" y1="{_TOP_PX}" y2="{bottom}"/>',
    ]
    for row, bar in enumerate(bars):
        y = _TOP_PX + _ROW_PX * (row + 0.5)
        kind = "model" if bar.strong else "baseline"
        parts.append(
            f'<text class="{kind}" x="{_LABEL_PX - 10}" y="{y + 4:.1f}" text-anchor="end">'
            f"{html.escape(bar.label)}</text>"
        )
        estimate = bar.estimate
        if not math.isfinite(estimate.value):
            continue
        parts.append(
            f'<line class="{kind}" x1="{x_of(estimate.low):.1f}" x2="{x_of(estimate.high):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle class="{kind}" cx="{x_of(estimate.value):.1f}" cy="{y:.1f}" r="4"/>'
        )
    for value in (low, high):
        anchor = "start" if value == low else "end"
        parts.append(
            f'<text class="tick" x="{x_of(value):.1f}" y="{bottom + 14}" '
            f'text-anchor="{anchor}">{value:.3g}</text>'
        )
    return "".join([*parts, "</svg>"])
