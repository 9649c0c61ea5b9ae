"""LINE's webhook: every event is durably enqueued before the answer."""

from __future__ import annotations

import functions_framework.aio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from core.edge.webhook import PROCESS, acknowledge

MAX_BODY_BYTES = 1024 * 1024

PROCESS.check()


@functions_framework.aio.http
async def webhook(request: Request) -> Response:
    """POST: see core.edge.webhook for the statuses. GET: 200, for uptime checks."""
    if request.method != "POST":
        return Response(status_code=200 if request.method in {"GET", "HEAD"} else 405)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return Response("the body is larger than 1 MiB", status_code=413)
    except ClientDisconnect:
        return Response(status_code=400)  # for nobody: the sender has gone
    status, text = await acknowledge(bytes(body), request.headers)
    return Response(text, status_code=status)
