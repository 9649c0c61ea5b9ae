"""The console's pages under their paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from core.domain.errors import FairlaneError, InvalidInputError, UnavailableError
from core.ops.console import bookings, clinics, conversations, now, questions, spend, turns
from core.ops.console.access import Access, Guard
from core.ops.console.view import (
    FOLDER,
    LANGUAGE_COOKIE,
    LANGUAGES,
    THEME_COOKIE,
    THEMES,
    View,
    back,
    back_from,
    form,
)
from core.ops.console.workplace import Workplace


@dataclass(frozen=True, slots=True)
class Extra:
    """A page that not every console has, by the name in its path."""

    name: str
    routes: Callable[[Workplace, View], Sequence[Route]]


_PAGES = (now, conversations, turns, clinics, bookings, questions, spend)
"""In the menu's order; a page's path is its module's name."""


def build(workplace: Workplace, access: Access, *extra: Extra) -> ASGIApp:
    """The application behind its guard. `extra`: pages besides, which come first."""
    own = (page.__name__.rpartition(".")[2] for page in _PAGES)
    view = View(workplace, (*(page.name for page in extra), *own))
    routes = [
        Route("/", lambda _: back(f"/{view.pages[0]}")),
        Route("/look", _choose, methods=["POST"]),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
        *(route for page in extra for route in page.routes(workplace, view)),
        *(route for page in _PAGES for route in page.routes(workplace, view)),
    ]

    async def problem(request: Request, exc: Exception) -> Response:
        """What fairlane raises on purpose says what to do; the other pages still work."""
        status = {InvalidInputError: 400, UnavailableError: 503}
        code = next((code for kind, code in status.items() if isinstance(exc, kind)), 500)
        if request.method != "GET":
            view.said(str(exc), "problem")
            return back_from(request)
        return view.page(request, "problem.html", status=code, problem=str(exc))

    async def missing(request: Request, exc: Exception) -> Response:
        code = exc.status_code if isinstance(exc, HTTPException) else 500
        return view.page(request, "problem.html", status=code, problem=view.text(request, f"problem.{code}"))

    app = Starlette(routes=routes, exception_handlers={FairlaneError: problem, HTTPException: missing})
    return Guard(app, access, workplace.by)


async def _choose(request: Request) -> Response:
    """Language and theme, for a year."""
    chosen = await form(request)
    answer = back_from(request)
    for name, cookie, legal in (
        ("language", LANGUAGE_COOKIE, LANGUAGES),
        ("theme", THEME_COOKIE, THEMES),
    ):
        if chosen.get(name) in legal:
            answer.set_cookie(cookie, chosen[name], max_age=31_536_000, samesite="strict")
    return answer
