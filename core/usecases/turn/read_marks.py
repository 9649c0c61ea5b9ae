"""Mark what was answered as read at LINE: where a clinic has chat switched on, nothing else does.

Best effort and beside everything else: a mark delays no turn and fails none. A function has no processor once
it has answered its request, so whoever has begun a mark waits for it at its end, for a moment.
"""

from __future__ import annotations

import asyncio

from core.ports.line import ChannelCredentials, Line

WITHIN_S = 1.0


class ReadMarks:
    def __init__(self, line: Line) -> None:
        self._line = line
        self._begun: set[asyncio.Task[None]] = set()

    def begin(self, channel: ChannelCredentials, read_token: str) -> None:
        """All of a chat's messages up to the one that this token is of."""
        task = asyncio.create_task(self._mark(channel, read_token))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def settled(self) -> None:
        """What was begun has ended, or has had its time."""
        if self._begun:
            await asyncio.wait(self._begun)

    async def _mark(self, channel: ChannelCredentials, read_token: str) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._line.mark_as_read(channel, read_token)
        except TimeoutError:
            return
