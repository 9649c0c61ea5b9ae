"""The slots in Redis: one limit for all instances, whose turn it is, and what the provider allows.

All decisions are made in Lua (lua/slots_*.lua). This side keeps what a process must: its waiters' futures,
its holders' leases, one heartbeat for all of them, and one connection on which grants are announced.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.pulse import Pulse
from core.adapters.redis_slots_held import Grant, HeldSlot, Waiter
from core.adapters.redis_slots_scripts import Outlook, SlotOptions, SlotScripts
from core.adapters.redis_wake import WakeChannel
from core.domain import log
from core.domain.errors import RedisUnavailableError
from core.ports.clock import Clock
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, Refusal, Slot, SlotRequest

OnWait = Callable[[], Awaitable[None]]

_SOONEST_BEAT_S = 0.01
_PAUSE_WHEN_DOWN_S = 0.25


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
        self._redis = redis
        self._clock = clock
        self._options = options
        self._scripts = SlotScripts(redis, options)
        self._jitter = jitter
        self._channel = ""
        self._wake: WakeChannel | None = None
        self._pulse = Pulse(self._beat)
        self._waiting: dict[str, Waiter] = {}
        self._room_empty = asyncio.Event()
        self._held: dict[str, HeldSlot] = {}
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
            del self._held[slot.nonce]
            await self._see_through(self._give_back(slot))

    async def drain(self) -> None:
        """See the port. Returns when Redis knows of no waiter and no unused grant of this process."""
        self._draining = True
        for waiter in self._waiting.values():
            waiter.fail(self._no_slot(Refusal.DRAINING, waiter.place))
        if self._waiting:
            await self._room_empty.wait()

    async def close(self) -> None:
        """Ends what runs in the background; releases under way are waited for."""
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._pulse.stop()
        if self._wake is not None:
            await self._wake.close()

    async def _obtain(self, request: SlotRequest, on_wait: OnWait | None) -> HeldSlot:
        waiter = Waiter(request)
        self._waiting[waiter.nonce] = waiter
        self._room_empty.clear()
        try:
            return await self._wait(waiter, on_wait)
        except TimeoutError:
            outlook = await self._see_through(self._take_back(waiter))
            reason = Refusal(outlook.reason) if outlook and outlook.reason else Refusal.WAITED
            raise self._no_slot(reason, waiter.place, outlook) from None
        except RedisUnavailableError:
            self._spawn(self._take_back(waiter))  # not waited for: Redis does not answer
            raise
        except BaseException:
            if waiter.call is not None:
                await self._see_through(self._take_back(waiter))
            raise
        finally:
            del self._waiting[waiter.nonce]
            if not self._waiting:
                self._room_empty.set()

    async def _wait(self, waiter: Waiter, on_wait: OnWait | None) -> HeldSlot:
        loop = asyncio.get_running_loop()
        while True:
            if self._draining:
                raise self._no_slot(Refusal.DRAINING, waiter.place)
            sent_at = loop.time()
            waiter.woken = loop.create_future()
            waiter.call = self._spawn(self._ask(waiter))
            reply = await asyncio.shield(waiter.call)
            waiter.place = reply.place
            if reply.status == "granted":
                claimed_until = sent_at + self._options.first_lease_ms / 1000
                return self._start(waiter, Grant(reply.fence, claimed_until), reply.outlook)
            if reply.status != "waiting":
                waiter.call = None  # nothing of it is in Redis
                raise self._no_slot(Refusal(reply.status), waiter.place, reply.outlook)
            if on_wait is not None:
                self._spawn(on_wait())
                on_wait = None
            waiter.queued, waiter.good_until = True, sent_at + self._options.lease_ms / 1000
            self._listen()
            self._heed(reply.outlook)
            async with asyncio.timeout_at(waiter.deadline):
                grant = await waiter.woken
            waiter.queued = False
            if grant is not None and (slot := await self._confirm(waiter, grant)):
                return slot
            # Redis lost the ticket, or this process slept through its claim: queue at the same place again.

    async def _ask(self, waiter: Waiter) -> Any:
        remaining_s = waiter.deadline - asyncio.get_running_loop().time()
        return await self._scripts.acquire(
            waiter.request,
            nonce=waiter.nonce,
            channel=self._channel_name(),
            wait_ms=max(0, round(remaining_s * 1000)),
            place=waiter.place,
        )

    async def _confirm(self, waiter: Waiter, grant: Grant) -> HeldSlot | None:
        """Renew a grant that was announced: only Redis can say that it was not read too late."""
        if grant.good_until is not None:
            return self._start(waiter, grant)
        sent_at = asyncio.get_running_loop().time()
        request = waiter.request
        waiter.call = self._spawn(self._scripts.renew([(request.org_id, request.ticket, grant.fence)], []))
        renewed = await asyncio.shield(waiter.call)
        if not renewed.leases[0]:
            return None
        good_until = sent_at + self._options.lease_ms / 1000
        return self._start(waiter, Grant(grant.fence, good_until), renewed.outlook)

    def _start(self, waiter: Waiter, grant: Grant, outlook: Outlook | None = None) -> HeldSlot:
        if self._draining:
            raise self._no_slot(Refusal.DRAINING, waiter.place)
        options = self._options
        good_until = grant.good_until or 0.0
        slot = HeldSlot(
            waiter,
            grant.fence,
            good_until=good_until,
            last_until=good_until + (options.max_hold_ms - options.first_lease_ms) / 1000,
        )
        self._held[slot.nonce] = slot
        self._pulse.ask(options.first_lease_ms / 3000)
        room = (
            {}
            if outlook is None
            else {"used": outlook.used, "waiting": outlook.waiting, "limit": outlook.limit}
        )
        log.info("slot.granted", org=waiter.request.org_id, waited_ms=slot.waited_ms, **room)
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
        outlook = released.outlook
        if outcome.kind is OutcomeKind.RATE_LIMITED:
            log.warning("llm.rate_limited", org=org_id, cooldown_ms=outlook.shut_ms)
        if released.circuit == "opened":
            log.error("circuit.opened", org=org_id, reason=released.reason, open_ms=released.open_ms)
        elif released.circuit == "closed":
            log.info("circuit.closed", org=org_id, by="probe")
        self._heed(outlook)

    async def _take_back(self, waiter: Waiter) -> Outlook | None:
        """Out of the queue, or out of a slot that was granted meanwhile. Never fails, like `_give_back`."""
        if waiter.call is not None:  # else the call under way could overtake this one
            await asyncio.gather(waiter.call, return_exceptions=True)
        request = waiter.request
        try:
            return await self._scripts.cancel(request.org_id, request.ticket, waiter.nonce)
        except RedisUnavailableError:
            return None

    async def _beat(self) -> None:
        """Renew all leases and mark all waiters alive, in one round trip."""
        loop = asyncio.get_running_loop()
        held = list(self._held.values())
        waiting = [waiter for waiter in self._waiting.values() if waiter.queued]
        sent_at = loop.time()
        try:
            renewed = await self._scripts.renew(
                [(slot.request.org_id, slot.request.ticket, slot.fence) for slot in held],
                [(waiter.request.org_id, waiter.request.ticket, waiter.nonce) for waiter in waiting],
            )
        except RedisUnavailableError as exc:
            for waiter in waiting:
                if waiter.good_until < loop.time():
                    waiter.fail(exc)
            self._pulse.ask(_PAUSE_WHEN_DOWN_S)
            return
        good_until = sent_at + self._options.lease_ms / 1000
        for slot, prolonged in zip(held, renewed.leases, strict=True):
            if prolonged:
                slot.prolong(good_until)
            else:
                slot.lose()
        for waiter, fence in zip(waiting, renewed.waiters, strict=True):
            waiter.good_until = good_until
            if fence:
                waiter.wake(Grant(fence, good_until) if fence > 0 else None)
            elif self._too_late(waiter, renewed.outlook):
                waiter.fail(self._no_slot(Refusal(renewed.outlook.reason), waiter.place, renewed.outlook))
        if held or waiting:
            self._pulse.ask(self._options.lease_ms / 3000)
        self._heed(renewed.outlook)

    def _too_late(self, waiter: Waiter, outlook: Outlook) -> bool:
        """Does the provider's state forbid any grant until past the deadline?"""
        now = asyncio.get_running_loop().time()
        return outlook.shut_ms > 0 and now + outlook.shut_ms / 1000 > waiter.deadline

    def _heed(self, outlook: Outlook) -> None:
        """Look again when time alone may let somebody run: nobody else might."""
        if outlook.again_ms is not None and (self._waiting or outlook.shut_ms):
            self._pulse.ask(max(_SOONEST_BEAT_S, outlook.again_ms / 1000))
        if self._waiting:
            self._pulse.ask(self._options.lease_ms / 3000)

    def _woken(self, message: bytes) -> None:
        nonce, fence = message.split()
        waiter = self._waiting.get(nonce.decode())
        if waiter is None:
            return
        if int(fence):
            waiter.wake(Grant(int(fence), None))
        else:
            waiter.fail(self._no_slot(Refusal.ROOM_FULL, waiter.place))

    def _channel_name(self) -> str:
        # Named at first use: a process that is forked later must have its own.
        self._channel = self._channel or redis_keys.slots_wake(f"{os.getpid()}-{uuid.uuid4().hex}")
        return self._channel

    def _listen(self) -> None:
        if self._wake is None:
            self._wake = WakeChannel(
                self._redis,
                self._channel_name(),
                self._clock,
                on_message=self._woken,
                on_ready=lambda: self._pulse.ask(0),
            )
            self._wake.start()

    def _no_slot(self, reason: Refusal, place: int | None, outlook: Outlook | None = None) -> NoSlotError:
        """When to come back: when the provider allows it, spread over a second."""
        shut_ms = outlook.shut_ms if outlook else 0
        base_ms = {Refusal.ROOM_FULL: 2_000, Refusal.TAKEN: self._options.lease_ms}.get(reason, shut_ms)
        return NoSlotError(reason, base_ms + round(1_000 * self._jitter()), place)

    def _spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _see_through(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Bring `work` to its end even if the caller is cancelled meanwhile."""
        return await asyncio.shield(self._spawn(work))
