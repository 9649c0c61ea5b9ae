"""Small plots: lines over minutes as SVG, bars and columns as HTML that a narrow window can lay out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LEFT, _TOP, _WIDTH, _HEIGHT = 56, 34, 788, 186
_COLOURS = ("#2563ab", "#d97706", "#1a7f4b", "#7a8794", "#8b5cf6", "#0f766e")

Points = Sequence[tuple[float, float]]


def plot(
    name: str,
    lines: Mapping[str, Points],
    label: str,
    *,
    minutes: float,
    limit: float | None = None,
    bands: Iterable[tuple[str, float, float]] = (),
) -> str:
    """An <svg> named `name`. `limit`: a dashed line. `bands`: (class, from, to) of what is shaded."""
    highest = max([limit or 0.0, *(y for points in lines.values() for _, y in points)])
    grid = _ticks(highest or 1.0)
    top = grid[-1]
    shapes = [
        f'<rect class="{kind}" x="{a:.3f}" width="{b - a:.3f}" height="{top:g}"/>' for kind, a, b in bands
    ]
    shapes += [f'<path class="grid" d="M0 {y:g}H{minutes:g}"/>' for y in grid]
    shapes += [] if limit is None else [f'<path class="limit" d="M0 {limit:g}H{minutes:g}"/>']
    texts = [f'<text x="4" y="14">{escape(label)}</text>']
    texts += [
        f'<text x="{_LEFT - 34}" y="{_TOP + _HEIGHT * (1 - y / top) + 4:.0f}">{y:g}</text>' for y in grid
    ]
    texts += [
        f'<text x="{_LEFT + _WIDTH * x / minutes:.0f}" y="{_TOP + _HEIGHT + 18}">{x:g}</text>'
        for x in _ticks(minutes)
        if x <= minutes
    ]
    for i, ((title, points), colour) in enumerate(zip(lines.items(), _COLOURS, strict=False)):
        path = " ".join(f"{x:.3f},{y:.4g}" for x, y in points)
        shapes.append(f'<polyline points="{path}" stroke="{colour}"/>')
        texts.append(f'<text x="{260 + 150 * i}" y="14" style="fill:{colour}">— {escape(title)}</text>')
    return (
        f'<svg id="{name}" role="img" viewBox="0 0 860 244">{"".join(texts)}<svg x="{_LEFT}" y="{_TOP}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {minutes:g} {top:g}" preserveAspectRatio="none">'
        f'<g transform="matrix(1 0 0 -1 0 {top:g})">{"".join(shapes)}</g></svg></svg>'
    )


def bars(name: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Lying ones, each with its label and what is written beside it."""
    highest = max((value for _, value, _ in rows), default=0) or 1

    def row(label: str, value: float, text: str) -> str:
        empty = "" if value else ' class="none"'
        drawn = f'<i{empty} style="width:{100 * value / highest:.1f}%"></i>'
        value_cell = f'<td class="number">{escape(text)}</td>'
        return f'<tr><th scope="row">{escape(label)}</th><td>{drawn}</td>{value_cell}</tr>'

    return f'<table class="bars" id="{name}">{"".join(row(*each) for each in rows)}</table>'


def columns(name: str, rows: Sequence[tuple[str, float]], label: str, *, labelled: int = 1) -> str:
    """Standing ones, with the highest one's value above it and every so many `labelled`."""
    highest = max((value for _, value in rows), default=0)

    def column(place: int, title: str, value: float) -> str:
        height = 90 * value / highest if highest else 0
        under = f"<small>{escape(title)}</small>" if place % labelled == 0 else ""
        above = f"<b>{value:,g}</b>" if value == highest and value and place == first else ""
        hint = f"{escape(title)}: {value:,g}"
        return f'<div title="{hint}">{above}<i style="height:{height:.1f}%"></i>{under}</div>'

    first = next((i for i, (_, value) in enumerate(rows) if value == highest), 0)
    drawn = "".join(column(i, *row) for i, row in enumerate(rows))
    told = f"{escape(label)}: {', '.join(f'{escape(title)} {value:,g}' for title, value in rows if value)}"
    return f'<div class="columns" id="{name}" role="img" aria-label="{told}">{drawn}</div>'


def _ticks(highest: float) -> list[float]:
    """From 0 past `highest` in at most 6 steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(highest / 6))
    step = next(m * power for m in (1, 2, 5, 10) if 6 * m * power >= highest)
    return [i * step for i in range(math.ceil(highest / step - 1e-9) + 1)]
