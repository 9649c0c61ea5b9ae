"""Stateless channel access tokens: issued from the channel's id and secret, good for 15 minutes.

Source: LINE Developers, "Issue stateless channel access token" (POST /oauth2/v3/token).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core.adapters.redis_line_tokens import ChannelToken, RedisLineTokens
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials

REFRESH_EARLY_S = 120.0
"""A token is given up this long before it ends, so that no call starts with one that ends under way."""


class LineTokens:
    """A channel's token from this process, else from Redis, else from LINE. Whoever asks while one is on its
    way waits for that one, and shares its failure.

    `issue` asks LINE for a new token; `shared` None leaves Redis out (operator commands).
    """

    def __init__(
        self,
        issue: Callable[[ChannelCredentials], Awaitable[ChannelToken]],
        shared: RedisLineTokens | None,
        clock: Clock,
    ) -> None:
        self._issue = issue
        self._shared = shared
        self._clock = clock
        self._known: dict[ChannelCredentials, tuple[str, float]] = {}
        self._flights: dict[tuple[ChannelCredentials, str | None], asyncio.Task[str]] = {}

    async def bearer(self, channel: ChannelCredentials, *, refused: str | None = None) -> str:
        """A token that is good for a while. `refused`: one that LINE did not take; it is dropped everywhere.

        Raises what `issue` raises.
        """
        bearer, until = self._known.get(channel, ("", 0.0))
        if bearer and bearer != refused and self._clock.monotonic() < until:
            return bearer
        flight = self._flights.get((channel, refused)) or self._begin(channel, refused)
        # Shielded: the others still wait for it when one of them is cancelled.
        return await asyncio.shield(flight)

    def _begin(self, channel: ChannelCredentials, refused: str | None) -> asyncio.Task[str]:
        self._known.pop(channel, None)
        flight = asyncio.create_task(self._fetch(channel, refused))
        self._flights[channel, refused] = flight

        def landed(flight: asyncio.Task[str]) -> None:
            del self._flights[channel, refused]
            if not flight.cancelled():
                flight.exception()  # whether somebody still waits for it or not

        flight.add_done_callback(landed)
        return flight

    async def _fetch(self, channel: ChannelCredentials, refused: str | None) -> str:
        token = await self._from_redis(channel, refused) or await self._issued(channel)
        self._known[channel] = (token.bearer, self._clock.monotonic() + token.good_for_s)
        return token.bearer

    async def _from_redis(self, channel: ChannelCredentials, refused: str | None) -> ChannelToken | None:
        if self._shared is None:
            return None
        token = await self._shared.get(channel)
        if token is not None and token.bearer == refused:
            await self._shared.drop(channel)
            return None
        return token

    async def _issued(self, channel: ChannelCredentials) -> ChannelToken:
        issued = await self._issue(channel)
        token = ChannelToken(issued.bearer, issued.good_for_s - REFRESH_EARLY_S)
        if self._shared is not None and token.good_for_s > 0:
            await self._shared.put(channel, token)
        return token
