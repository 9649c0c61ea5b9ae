"""What people are called at LINE: the customer in a notice, and who of the staff was first."""

from __future__ import annotations

import asyncio

from core.domain.errors import UnavailableError
from core.ports import log
from core.ports.line import ChannelCredentials, Line, LineError
from core.ports.names import NameCache

_PATIENCE_S = 1.0
"""A notice waits no longer for a name."""


class Names:
    def __init__(self, line: Line, cache: NameCache) -> None:
        self._line = line
        self._cache = cache

    async def of(
        self, channel: ChannelCredentials, org_id: str, user_id: str, *, chat_id: str, chat_type: str
    ) -> str:
        """As LINE shows them, asked once a day; "" if LINE does not say. Members of a group need not be the
        bot's friends: they are asked for as members. Never raises."""
        if not user_id:
            return ""
        if (known := await self._cache.get(org_id, user_id)) is not None:
            return known
        try:
            async with asyncio.timeout(_PATIENCE_S):
                name = await self._line.display_name(channel, user_id, chat_id=chat_id, chat_type=chat_type)
        except (LineError, UnavailableError, TimeoutError) as exc:
            log.info("line.no_name", reason=type(exc).__name__, detail=str(exc))
            return ""
        await self._cache.put(org_id, user_id, name)
        return name
