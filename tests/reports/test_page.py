"""Pages of figures: whole, escaped, and readable without their pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from core.reports.page import page, section, table, verdict
from core.reports.plots import bars, columns, plot

NASTY = "<b>\"&'$x</b>"


def test_whatever_stands_in_a_page_stands_there_as_text() -> None:
    body = "".join(
        [
            verdict(NASTY, kept=True),
            section(NASTY, table("t", (NASTY,), [(NASTY,), ("kept",)], marks=["kept"]), NASTY),
            bars("b", [(NASTY, 1, NASTY)]),
            columns("c", [(NASTY, 1)], NASTY),
            plot("p", {NASTY: [(0, 0), (1, 1)]}, NASTY, minutes=1),
        ]
    )
    made = page(NASTY, NASTY, body, lang="th")
    assert "<b>&" not in made
    assert '<html lang="th">' in made
    assert '<td class="kept">kept</td>' in made
    assert made.count("$x") == made.count("&lt;b&gt;")
    ET.fromstring(f"<body>{body}</body>")  # each part is whole


@pytest.mark.parametrize("values", [[0, 0], [3, 0, 7], [1], []])
def test_columns_and_bars_are_told_in_words_too_and_nothing_is_drawn_for_nothing(values: list[int]) -> None:
    rows = [(f"n{i}", float(value)) for i, value in enumerate(values)]
    drawn = columns("c", rows, "turns")
    told = ", ".join(f"n{i} {value}" for i, value in enumerate(values) if value)
    assert f'aria-label="turns: {told}"' in drawn
    assert drawn.count('style="height:0.0%"') == values.count(0)
    laid = bars("b", [(name, value, f"{value:g}") for name, value in rows])
    assert laid.count("width:0.0%") == values.count(0)
    assert drawn.count("height:90.0%") == (1 if any(values) else 0)
