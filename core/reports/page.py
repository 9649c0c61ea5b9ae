"""One HTML page that needs nothing else: its frame, its sections and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any


def page(title: str, subtitle: str, body: str, *, lang: str = "en") -> str:
    """`body` is HTML already."""
    template = Template(resources.files("core.reports").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=escape(title), subtitle=escape(subtitle), body=body, lang=lang)


def verdict(text: str, *, kept: bool | None) -> str:
    """In one sentence, what came of it; `kept` None: nothing to judge."""
    marked = "" if kept is None else " kept" if kept else " broken"
    return f'<div class="verdict{marked}">{escape(text)}</div>'


def section(heading: str, body: str, note: str = "") -> str:
    return f'<h2>{escape(heading)}</h2><p class="note">{escape(note)}</p>{body}'


def table(
    name: str,
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    marks: Collection[str] = (),
    numbers: Collection[int] = (),
) -> str:
    """A cell that is one of `marks` has it as its class. `numbers`: the columns that end at the right."""

    def attribute(column: int, value: str) -> str:
        kind = value if value in marks else "number" if column in numbers else ""
        return f' class="{kind}"' if kind else ""

    def row(tag: str, values: Sequence[Any]) -> str:
        cells = enumerate(map(str, values))
        return "".join(f"<{tag}{attribute(i, value)}>{escape(value)}</{tag}>" for i, value in cells)

    body = "".join(f"<tr>{row('td', values)}</tr>" for values in rows)
    return f'<table id="{name}"><thead><tr>{row("th", head)}</tr></thead><tbody>{body}</tbody></table>'
