"""How pages are written: templates, in the reader's language, with times and money as people read them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from core.domain.money import format_baht
from core.ops.console.workplace import Workplace

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "th")
THEMES = ("auto", "light", "dark")
LANGUAGE_COOKIE, THEME_COOKIE = "fairlane-language", "fairlane-theme"


@cache
def words(language: str) -> Mapping[str, str]:
    """Every text of the pages by its key, such as `turns.title`."""
    tables = tomllib.loads((FOLDER / "words" / f"{language}.toml").read_text("utf-8"))
    return {f"{table}.{name}": text for table, texts in tables.items() for name, text in texts.items()}


def translated(language: str) -> Callable[..., str]:
    """`t("turns.title")`; a key that no text has is shown as its last part, such as a state's name."""

    def text(key: str, **values: object) -> str:
        found = words(language).get(key)
        return found.format(**values) if found is not None else key.rpartition(".")[2]

    return text


class View:
    """`pages`: their names, in the menu's order. What a change has to say is shown with the next page."""

    def __init__(self, workplace: Workplace, pages: tuple[str, ...]) -> None:
        self.pages = pages
        self._workplace = workplace
        self._said: list[tuple[str, str]] = []
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "baht": _baht,
            "when": self._when,
            "clock": self._clock,
            "day": lambda day: f"{day[:4]}-{day[4:6]}-{day[6:]}",
            "seconds": lambda ms: f"{ms / 1000:.1f}",
            "json": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
        }

    def page(self, request: Request, template: str, *, status: int = 200, **data: Any) -> Response:
        said, self._said = self._said, []
        return HTMLResponse(self.part(request, template, said=said, **data), status)

    def part(self, request: Request, template: str, **data: Any) -> str:
        """A page or a part of one, as text."""
        language, theme = language_of(request), theme_of(request)
        return self._templates.get_template(template).render(
            t=translated(language),
            language=language,
            theme=theme,
            path=request.url.path,
            here=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
            pages=self.pages,
            query=urlencode,
            **{"said": [], **data},
        )

    def said(self, text: str, kind: str = "done") -> None:
        """To be shown with the next page: what was done, or (`problem`) why it was not."""
        self._said.append((kind, text))

    def text(self, request: Request, key: str, **values: object) -> str:
        return translated(language_of(request))(key, **values)

    def _local(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(self._workplace.timezone))

    def _when(self, at_ms: int | None) -> str:
        return f"{self._local(at_ms):%Y-%m-%d %H:%M:%S}" if at_ms is not None else ""

    def _clock(self, at_ms: int | None) -> str:
        """Without the day where it is today."""
        if at_ms is None:
            return ""
        at, today = self._local(at_ms), self._local(self._workplace.clock.now_ms()).date()
        return f"{at:%H:%M:%S}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"


def _baht(micro_baht: int, decimals: int = 2) -> str:
    return format_baht(micro_baht, decimals=decimals)


def language_of(request: Request) -> str:
    """As chosen, else as the browser wishes."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    return "th" if request.headers.get("accept-language", "").lower().startswith("th") else "en"


def theme_of(request: Request) -> str:
    chosen = request.cookies.get(THEME_COOKIE)
    return chosen if chosen in THEMES else "auto"


def back(path: str) -> Response:
    """After a change: GET that page, so that reloading it changes nothing again."""
    return RedirectResponse(path, 303)


def back_from(request: Request) -> Response:
    """After a change: the page on which it was asked for."""
    page = urlsplit(request.headers.get("referer", "/"))
    return back((page.path or "/") + (f"?{page.query}" if page.query else ""))


async def form(request: Request) -> dict[str, str]:
    """A form's fields, each once."""
    return dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
