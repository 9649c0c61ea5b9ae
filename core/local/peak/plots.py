"""Small SVG plots: axes with units, a legend, nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 860, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 40


@dataclass(frozen=True, slots=True)
class Series:
    """`kind`: line, area, dots, or limit (dashed). Points are (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    kind: str = "line"


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the x axis that is shaded, such as a campaign or a fault."""

    name: str
    start: float
    end: float
    colour: str


def plot(
    name: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float],
    y_top: float | None = None,
    bands: Sequence[Band] = (),
) -> str:
    """An <svg> named `name`. The y axis begins at 0."""
    highest = y_top or max((y for s in series for _, y in s.points), default=1.0)
    ticks = nice_ticks(highest)
    frame = _Frame(x_range, ticks[-1])
    label = f"{escape(y_label)} over {escape(x_label)}"
    parts = [f'<svg id="{name}" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}">']
    for band in bands:
        left, right = frame.x(max(band.start, x_range[0])), frame.x(min(band.end, x_range[1]))
        parts.append(
            f'<rect x="{left:.1f}" y="{_TOP}" width="{max(1.5, right - left):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}" fill="{band.colour}">'
            f"<title>{escape(band.name)}</title></rect>"
        )
    parts += _axes(frame, ticks, x_label, y_label)
    parts += [_drawn(frame, one) for one in series]
    parts.append(_legend(series, bands))
    return "\n".join([*parts, "</svg>"])


def nice_ticks(highest: float) -> list[float]:
    """From 0 past `highest` in at most 6 steps of 1, 2 or 5 times a power of ten."""
    raw = max(highest, 1e-9) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    return [i * step for i in range(math.ceil(highest / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Frame:
    x_range: tuple[float, float]
    top: float

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - min(value, self.top * 1.02) / self.top * (_HEIGHT - _TOP - _BOTTOM)


def _axes(frame: _Frame, ticks: Sequence[float], x_label: str, y_label: str) -> list[str]:
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    low, high = frame.x_range
    step = nice_ticks(high - low)[1]
    parts += [
        f'<text class="tick" x="{frame.x(i * step):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="middle">{i * step:g}</text>'
        for i in range(math.ceil(low / step), math.floor(high / step) + 1)
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text class="label" x="4" y="{_TOP - 20}">{escape(y_label)}</text>')
    return parts


def _drawn(frame: _Frame, series: Series) -> str:
    points = [(frame.x(x), frame.y(y)) for x, y in series.points]
    if not points:
        return ""
    if series.kind == "dots":
        return "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{series.colour}" fill-opacity=".45"/>'
            for x, y in points
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if series.kind == "area":
        base = frame.y(0)
        return (
            f'<polygon points="{points[0][0]:.1f},{base:.1f} {path} {points[-1][0]:.1f},{base:.1f}" '
            f'fill="{series.colour}" fill-opacity=".35" stroke="{series.colour}"/>'
        )
    dash = ' stroke-dasharray="6 4"' if series.kind == "limit" else ""
    return f'<polyline points="{path}" fill="none" stroke="{series.colour}" stroke-width="1.6"{dash}/>'


def _legend(series: Sequence[Series], bands: Sequence[Band]) -> str:
    entries = {one.name: one.colour for one in series} | {band.name: band.colour for band in bands}
    x, parts = _WIDTH - _RIGHT, []
    for name, colour in reversed(list(entries.items())):
        x -= 24 + round(6.6 * len(name))
        parts.append(
            f'<rect x="{x}" y="8" width="12" height="10" fill="{colour}"/>'
            f'<text class="tick" x="{x + 16}" y="17">{escape(name)}</text>'
        )
    return "".join(parts)
