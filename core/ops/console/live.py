"""Parts of a page that follow what goes on: server-sent events, for as long as the page is open."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request

from core.ports import log


async def events(request: Request, parts: AsyncIterator[tuple[str, str]]) -> AsyncIterator[str]:
    """`parts`: an event's name and its HTML, again and again. Ends when the page is gone; a defect ends it,
    too, and the browser asks again after the pause that is told first."""
    yield "retry: 3000\n\n"
    try:
        async for name, html in parts:
            if await request.is_disconnected():
                return
            lines = "".join(f"data: {line}\n" for line in html.splitlines())
            yield f"event: {name}\n{lines}\n"
    except Exception as exc:  # the headers are sent: nothing else can be said
        log.error("console.live_ended", exc=exc, path=request.url.path)
