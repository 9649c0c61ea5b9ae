"""What a URL answers to a GET, as an uptime check sees it."""

from __future__ import annotations

import httpx2

from core.domain.errors import UnavailableError


async def get_status(url: str, *, timeout_s: float = 10.0) -> int:
    """The HTTP status. Raises UnavailableError when there is no answer."""
    try:
        async with httpx2.AsyncClient(timeout=timeout_s) as client:
            return (await client.get(url)).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise UnavailableError(f"{url} does not answer: {type(exc).__name__}") from exc
