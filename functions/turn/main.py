"""The turn: one task of the queue, answered, put back, or recorded as failed."""

from __future__ import annotations

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from core.edge.turn import PROCESS, execute

PROCESS.check()


@functions_framework.aio.http
async def turn(request: Request) -> Response:
    """POST: see core.edge.turn for the statuses. GET: 200, for uptime checks."""
    if request.method != "POST":
        return Response(status_code=200 if request.method in {"GET", "HEAD"} else 405)
    return Response(status_code=await execute(await request.body(), request.headers))
