"""The slots in Redis: one limit for all instances, whose turn it is, and what the provider allows.

All decisions are made in Lua (lua/slots_*.lua). This side keeps what a process must: its waiters' futures,
its holders' leases, one heartbeat for all of them, and one connection on which grants are announced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from core.adapters.redis_slots_held import Grant, HeldSlot, SentAway, Waiter
from core.adapters.redis_slots_room import ProcessRoom
from core.adapters.redis_slots_scripts import Outlook, SlotOptions, SlotScripts
from core.domain.errors import RedisUnavailableError
from core.ports import log
from core.ports.clock import Clock
from core.ports.slots import Outcome, OutcomeKind, Refusal, Slot, SlotRequest

OnWait = Callable[[], Awaitable[None]]


class RedisSlots:
    """See the port. `redis` is the caller's to close and must not decode replies; one connection of its pool
    is kept for wake-ups as soon as somebody has to wait. `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        redis: Redis,
        options: SlotOptions,
        clock: Clock,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._scripts = SlotScripts(redis, options)
        self._room = ProcessRoom(redis, self._scripts, options, clock, jitter)
        self._background: set[asyncio.Task[Any]] = set()
        self._draining = False

    @asynccontextmanager
    async def hold(self, request: SlotRequest, *, on_wait: OnWait | None = None) -> AsyncIterator[Slot]:
        """See the port."""
        slot = await self._obtain(request, on_wait)
        try:
            with slot:
                yield slot
        finally:
            del self._room.held[slot.nonce]
            await self._see_through(self._give_back(slot))

    def check_now(self) -> None:
        """See the port."""
        self._room.check_now()

    async def drain(self) -> None:
        """See the port. Returns when Redis knows of no waiter and no unused grant of this process."""
        self._draining = True
        await self._room.turn_out(Refusal.DRAINING)

    async def close(self) -> None:
        """Ends what runs in the background; releases under way are waited for."""
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._room.close()

    async def _obtain(self, request: SlotRequest, on_wait: OnWait | None) -> HeldSlot:
        waiter = Waiter(request)
        self._room.enter(waiter)
        try:
            return await self._wait(waiter, on_wait)
        except TimeoutError:
            outlook = await self._see_through(self._take_back(waiter))
            reason = Refusal(outlook.reason) if outlook and outlook.reason else Refusal.WAITED
            raise self._room.refusal(reason, waiter.place, outlook.shut_ms if outlook else 0) from None
        except RedisUnavailableError:
            self._spawn(self._take_back(waiter))  # not waited for: Redis does not answer
            raise
        except BaseException:
            if waiter.call is not None:
                await self._see_through(self._take_back(waiter))
            raise
        finally:
            self._room.leave(waiter)

    async def _wait(self, waiter: Waiter, on_wait: OnWait | None) -> HeldSlot:
        loop = asyncio.get_running_loop()
        while True:
            if self._draining:
                raise self._room.refusal(Refusal.DRAINING, waiter.place)
            sent_at = loop.time()
            waiter.woken = loop.create_future()
            waiter.call = self._spawn(self._ask(waiter))
            reply = await asyncio.shield(waiter.call)
            waiter.place = reply.place
            if reply.status == "granted":
                claimed_until = sent_at + self._options.first_lease_ms / 1000
                return self._start(waiter, Grant.of(reply.fence, claimed_until, reply.outlook))
            if reply.status != "waiting":
                waiter.call = None  # nothing of it is in Redis
                raise self._room.refusal(Refusal(reply.status), waiter.place, reply.outlook.shut_ms)
            if on_wait is not None:
                self._spawn(on_wait())
                on_wait = None
            waiter.queued, waiter.good_until = True, sent_at + self._options.lease_ms / 1000
            # As of the sending: a late reply makes grants look old, not young.
            waiter.clock_ms = reply.outlook.now_ms - 1000 * sent_at
            self._room.listen()
            self._room.heed(reply.outlook)
            async with asyncio.timeout_at(waiter.deadline):
                word = await waiter.woken
            waiter.queued = False
            if isinstance(word, SentAway):
                raise self._room.refusal(word.reason, waiter.place, word.shut_ms)
            grant = word
            if grant is not None and grant.stale:
                grant = await self._confirm(waiter, grant)
            if grant is not None:
                return self._start(waiter, grant)
            # Redis lost the ticket, or this process slept through its claim: queue at the same place again.

    async def _ask(self, waiter: Waiter) -> Any:
        remaining_s = waiter.deadline - asyncio.get_running_loop().time()
        return await self._scripts.acquire(
            waiter.request,
            nonce=waiter.nonce,
            channel=self._room.channel,
            wait_ms=max(0, round(remaining_s * 1000)),
            place=waiter.place,
        )

    async def _confirm(self, waiter: Waiter, stale: Grant) -> Grant | None:
        """Renew a grant that was heard of late, if it still holds."""
        sent_at = asyncio.get_running_loop().time()
        request = waiter.request
        waiter.call = self._spawn(self._scripts.renew([(request.org_id, request.ticket, stale.fence)], []))
        renewed = await asyncio.shield(waiter.call)
        good_until = sent_at + self._options.lease_ms / 1000
        return Grant.of(stale.fence, good_until, renewed.outlook) if renewed.leases[0] else None

    def _start(self, waiter: Waiter, grant: Grant) -> HeldSlot:
        if self._draining:
            raise self._room.refusal(Refusal.DRAINING, waiter.place)
        longest_s = (self._options.max_hold_ms - self._options.first_lease_ms) / 1000
        slot = HeldSlot(waiter, grant, last_until=grant.good_until + longest_s)
        self._room.keep(slot)
        log.info(
            "slot.granted",
            org=waiter.request.org_id,
            provider=self._options.provider,
            waited_ms=slot.waited_ms,
            used=grant.used,
            waiting=grant.waiting,
            limit=grant.limit,
        )
        return slot

    async def _give_back(self, slot: HeldSlot) -> None:
        """Never fails: what Redis does not hear of ends with its lease."""
        outcome = slot.outcome or Outcome(OutcomeKind.NEUTRAL)
        org_id, ticket = slot.request.org_id, slot.request.ticket
        try:
            released = await self._scripts.release(org_id, ticket, slot.fence, outcome)
        except RedisUnavailableError as exc:
            log.warning("slot.release_failed", org=org_id, error=str(exc))
            return
        outlook, provider = released.outlook, self._options.provider
        if outcome.kind is OutcomeKind.RATE_LIMITED:
            log.warning(
                "llm.rate_limited",
                org=org_id,
                provider=provider,
                cooldown_ms=outlook.shut_ms,
                limit=outlook.limit,
            )
        if released.circuit == "opened":
            log.error(
                "circuit.opened",
                org=org_id,
                provider=provider,
                reason=released.reason,
                open_ms=released.open_ms,
            )
            self._room.check_now()  # who can go elsewhere need not wait for the next heartbeat
        elif released.circuit == "closed":
            log.info("circuit.closed", org=org_id, provider=provider, by="probe")
        self._room.heed(outlook)

    async def _take_back(self, waiter: Waiter) -> Outlook | None:
        """Out of the queue, or out of a slot that was granted meanwhile. Never fails, like `_give_back`."""
        if waiter.call is not None:  # else the call under way could overtake this one
            await asyncio.gather(waiter.call, return_exceptions=True)
        try:
            return await self._scripts.cancel(waiter.request, nonce=waiter.nonce, place=waiter.place)
        except RedisUnavailableError:
            return None

    def _spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _see_through(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Bring `work` to its end even if the caller is cancelled meanwhile."""
        return await asyncio.shield(self._spawn(work))
