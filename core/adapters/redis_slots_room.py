"""What one process keeps alive in the room: its waiters and leases, by one heartbeat and one wake channel."""

from __future__ import annotations

import asyncio
import math
import os
import random
import uuid
from collections.abc import Callable

from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.pulse import Pulse
from core.adapters.redis_slots_held import Grant, HeldSlot, SentAway, Waiter
from core.adapters.redis_slots_scripts import Outlook, SlotOptions, SlotScripts
from core.adapters.redis_wake import WakeChannel
from core.domain.errors import RedisUnavailableError
from core.ports.clock import Clock
from core.ports.slots import NoSlotError, Refusal

_SOONEST_BEAT_S = 0.01
_PAUSE_WHEN_DOWN_S = 0.25
_ROOM_FULL_MS = 2_000
_FRESH_S = 1.0


class ProcessRoom:
    """`waiting` and `held` by the nonce of their request. Opens nothing before somebody waits or holds."""

    def __init__(
        self,
        redis: Redis,
        scripts: SlotScripts,
        options: SlotOptions,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._options = options
        self._clock = clock
        self._jitter = jitter
        self._channel = ""
        self._wake: WakeChannel | None = None
        self._pulse = Pulse(self._beat)
        self._empty = asyncio.Event()
        self.waiting: dict[str, Waiter] = {}
        self.held: dict[str, HeldSlot] = {}

    def enter(self, waiter: Waiter) -> None:
        self.waiting[waiter.nonce] = waiter
        self._empty.clear()

    def leave(self, waiter: Waiter) -> None:
        del self.waiting[waiter.nonce]
        if not self.waiting:
            self._empty.set()

    def keep(self, slot: HeldSlot) -> None:
        """Renew `slot` from now on: the first time early, since it is a claim."""
        self.held[slot.nonce] = slot
        self._pulse.ask(self._options.first_lease_ms / 3000)

    async def turn_out(self, reason: Refusal) -> None:
        """Send all waiters away; returns when they have taken back what they had in Redis."""
        for waiter in self.waiting.values():
            waiter.wake(SentAway(reason))
        if self.waiting:
            await self._empty.wait()

    async def close(self) -> None:
        await self._pulse.stop()
        if self._wake is not None:
            await self._wake.close()

    @property
    def channel(self) -> str:
        # Named at first use: a process that is forked later must have its own.
        self._channel = self._channel or redis_keys.slots_wake(
            f"{os.getpid()}-{uuid.uuid4().hex}", self._options.provider
        )
        return self._channel

    def listen(self) -> None:
        if self._wake is None:
            self._wake = WakeChannel(
                self._redis,
                self.channel,
                self._clock,
                on_message=self._woken,
                on_ready=lambda: self._pulse.ask(0),
            )
            self._wake.start()

    def check_now(self) -> None:
        self._pulse.ask(0)

    def heed(self, outlook: Outlook) -> None:
        """Look again when time alone may let somebody run: nobody else might."""
        if outlook.again_ms is not None and (self.waiting or outlook.shut_ms):
            self._pulse.ask(max(_SOONEST_BEAT_S, outlook.again_ms / 1000))
        if self.waiting:
            self._pulse.ask(self._heartbeat_s)

    @property
    def _heartbeat_s(self) -> float:
        """Waiters beat as often as a claim needs: one whose announcement was lost is found while it holds."""
        return (self._options.first_lease_ms if self.waiting else self._options.lease_ms) / 3000

    def refusal(self, reason: Refusal, place: int | None, shut_ms: int = 0) -> NoSlotError:
        """When to come back: when the provider allows it, spread over a second."""
        least_ms = {Refusal.ROOM_FULL: _ROOM_FULL_MS, Refusal.TAKEN: self._options.lease_ms}
        base_ms = max(least_ms.get(reason, 0), shut_ms)
        return NoSlotError(reason, base_ms + round(1_000 * self._jitter()), place)

    async def _beat(self) -> None:
        """Renew all leases and mark all waiters alive, in one round trip."""
        loop = asyncio.get_running_loop()
        held = [slot for slot in self.held.values() if not slot.lost]
        waiting = [waiter for waiter in self.waiting.values() if waiter.queued]
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
                waiter.wake(Grant.of(fence, good_until, renewed.outlook) if fence > 0 else None)
            elif self._too_late(waiter, renewed.outlook):
                waiter.wake(SentAway(Refusal(renewed.outlook.reason), renewed.outlook.shut_ms))
        if held or waiting:
            self._pulse.ask(self._heartbeat_s)
        self.heed(renewed.outlook)

    def _too_late(self, waiter: Waiter, outlook: Outlook) -> bool:
        """Does the provider's state forbid any grant until past the deadline, or for longer than somebody
        waits who can go elsewhere?"""
        if waiter.request.can_go_elsewhere and outlook.reason == Refusal.CIRCUIT:
            return True
        now = asyncio.get_running_loop().time()
        return outlook.shut_ms > 0 and now + outlook.shut_ms / 1000 > waiter.deadline

    def _woken(self, message: bytes) -> None:
        """`nonce fence now used waiting limit`, or `nonce 0 shut`: sent away for an earlier place, while
        the provider's state forbids any grant for `shut` ms."""
        nonce, *numbers = message.decode().split()
        waiter = self.waiting.get(nonce)
        if waiter is None:
            return
        if numbers[0] == "0":
            waiter.wake(SentAway(Refusal.ROOM_FULL, int(numbers[1])))
            return
        fence, granted_ms, used, waiting, limit = map(int, numbers)
        now = asyncio.get_running_loop().time()
        age_s = math.inf if waiter.clock_ms is None else now + (waiter.clock_ms - granted_ms) / 1000
        good_until = now - age_s + self._options.first_lease_ms / 1000
        stale = not -_FRESH_S < age_s < min(_FRESH_S, self._options.first_lease_ms / 3000)
        waiter.wake(Grant(fence, good_until, used, waiting, limit, stale))
