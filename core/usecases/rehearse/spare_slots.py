"""Slots that no customer needs, asked for again and again: see core.ports.slots.SPARE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from core.ports.clock import Clock
from core.ports.slots import SPARE, NoSlotError, Refusal, Slot, SlotRequest, Slots

AGAIN_S = 0.5


class SpareSlots:
    """See the port. Whoever is refused for `wait_s` of the request gets NoSlotError."""

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock

    @asynccontextmanager
    async def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Slot]:
        """See the port."""
        spare = replace(request, org_id=SPARE, org_cap=None, place=None)
        until = self._clock.monotonic() + request.wait_s
        async with AsyncExitStack() as held:
            while True:
                try:
                    slot = await held.enter_async_context(self._slots.hold(spare))
                    break
                except NoSlotError as exc:
                    if exc.reason is not Refusal.WAITED or self._clock.monotonic() >= until:
                        raise
                await self._clock.sleep(AGAIN_S)
            yield slot

    def check_now(self) -> None:
        """See the port."""
        self._slots.check_now()

    async def drain(self) -> None:
        """See the port."""
        await self._slots.drain()

    async def close(self) -> None:
        """See the port."""
        await self._slots.close()
