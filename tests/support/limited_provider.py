"""A provider that takes so many calls at once and refuses the next one, and clinics that always have more to
ask: over the real scripts on a real Redis, in time that does not pass by itself."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_slots_scripts import SlotOptions
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.support.slots_clocked import ClockedScripts

CHANNEL = redis_keys.slots_wake("limited")
_ANNOUNCED_S = 2.0


@dataclass
class Seen:
    """What the provider saw between two moments. `busy_s`: slot-seconds that were in use, by clinic."""

    calls: int = 0
    refused: int = 0
    busy_s: Counter[str] = field(default_factory=Counter)
    most: int = 0

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.calls)


@dataclass
class Ticket:
    org: str
    name: str
    fence: int = 0
    place: int | None = None
    refusals: int = 0
    runs: bool = False


class LimitedProvider:
    """`allowed`: calls at once. `latency_ms`: of a call, by how many run; `overhead_ms` lie between a grant
    and its call, and `refused_ms` is how long a refusal takes. `asks`: how many questions each clinic has
    open."""

    def __init__(
        self,
        redis: Redis,
        options: SlotOptions,
        *,
        allowed: int,
        latency_ms: Callable[[random.Random, int], float],
        orgs: int = 8,
        asks: int = 5,
        overhead_ms: float = 10.0,
        refused_ms: float = 40.0,
        seed: int = 0,
    ) -> None:
        self.scripts = ClockedScripts(redis, options)
        self.allowed = allowed
        self.limit = options.global_limit
        self.limits: list[tuple[float, int]] = []
        self._latency_ms = latency_ms
        self._overhead_ms = overhead_ms
        self._refused_ms = refused_ms
        self._orgs = [f"o{n}" for n in range(orgs)]
        self._asks = asks
        self._dice = random.Random(seed)
        self._redis = redis
        self._events: list[tuple[float, int, str, Ticket]] = []
        self._order = count()
        self._tickets: dict[str, Ticket] = {}
        self._running: Counter[str] = Counter()
        self._seen = Seen()
        self._began_ms = self.scripts.now_ms
        self._looked_ms = 0.0
        self._pubsub: Any = None

    @property
    def at_s(self) -> float:
        return (self.scripts.now_ms - self._began_ms) / 1000

    async def start(self) -> None:
        self._pubsub = self._redis.pubsub()
        await self._pubsub.subscribe(CHANNEL)
        await self._pubsub.get_message(timeout=_ANNOUNCED_S)
        for _ in range(self._asks):
            for org in self._orgs:
                self._ask(org, 0.0)

    async def close(self) -> None:
        await self._pubsub.aclose()

    async def run_until(self, at_s: float) -> Seen:
        """What the provider saw since the last time."""
        while self._events and self._events[0][0] <= 1000 * at_s:
            at_ms, _, kind, ticket = heapq.heappop(self._events)
            self._pass_to(at_ms)
            await getattr(self, f"_{kind}")(ticket)
        self._pass_to(1000 * at_s)
        seen, self._seen = self._seen, Seen()
        return seen

    def _ask(self, org: str, after_ms: float) -> None:
        ticket = Ticket(org, f"t{next(self._order)}")
        self._later(after_ms, "acquire", ticket)

    def _later(self, after_ms: float, kind: str, ticket: Ticket) -> None:
        heapq.heappush(self._events, (1000 * self.at_s + after_ms, next(self._order), kind, ticket))

    def _pass_to(self, at_ms: float) -> None:
        passed_s = (at_ms - self._looked_ms) / 1000
        for org, running in self._running.items():
            self._seen.busy_s[org] += running * passed_s  # type: ignore[assignment]
        self._looked_ms = at_ms
        self.scripts.now_ms = max(self.scripts.now_ms, round(self._began_ms + at_ms))

    async def _acquire(self, ticket: Ticket) -> None:
        self._tickets[ticket.name] = ticket
        request = SlotRequest(ticket.org, ticket.name, 600)
        got = await self.scripts.acquire(
            request, nonce=ticket.name, channel=CHANNEL, wait_ms=600_000, place=ticket.place
        )
        ticket.place = got.place
        self._note(got.outlook.limit)
        if got.status == "granted":
            self._granted(ticket, got.fence)
        await self._announced(got.outlook.used)

    def _granted(self, ticket: Ticket, fence: int) -> None:
        ticket.fence = fence
        self._later(self._overhead_ms, "call", ticket)

    async def _call(self, ticket: Ticket) -> None:
        running = self._running.total()
        self._seen.calls += 1
        if running >= self.allowed:
            self._seen.refused += 1
            self._later(self._refused_ms, "refused", ticket)
            return
        self._running[ticket.org] += 1
        self._seen.most = max(self._seen.most, running + 1)
        self._later(self._latency_ms(self._dice, running + 1), "answered", ticket)

    async def _answered(self, ticket: Ticket) -> None:
        self._running[ticket.org] -= 1
        await self._release(ticket, Outcome(OutcomeKind.OK))
        self._ask(ticket.org, 1.0)

    async def _refused(self, ticket: Ticket) -> None:
        await self._release(ticket, Outcome(OutcomeKind.RATE_LIMITED))
        ticket.fence = 0
        ticket.refusals += 1
        self._later(min(1000.0, 100.0 * 2 ** (ticket.refusals - 1)), "acquire", ticket)

    async def _release(self, ticket: Ticket, outcome: Outcome) -> None:
        del self._tickets[ticket.name]
        released = await self.scripts.release(ticket.org, ticket.name, ticket.fence, outcome)
        self._note(released.outlook.limit)
        if released.outlook.again_ms is not None and released.outlook.shut_ms:
            self._later(released.outlook.shut_ms, "look", ticket)
        await self._announced(released.outlook.used)

    async def _look(self, _: Ticket) -> None:
        looked = await self.scripts.renew([], [])
        await self._announced(looked.outlook.used)

    async def _announced(self, used: int) -> None:
        """Grants of those who waited, until all `used` slots are known."""
        while used > sum(ticket.fence > 0 for ticket in self._tickets.values()):
            message = await self._pubsub.get_message(timeout=_ANNOUNCED_S)
            assert message, "a grant that nobody heard of"
            nonce, fence, *_ = message["data"].decode().split()
            ticket = self._tickets.get(nonce)
            if ticket is not None and int(fence):
                self._granted(ticket, int(fence))

    def _note(self, limit: int) -> None:
        self.limit = limit
        if not self.limits or self.limits[-1][1] != limit:
            self.limits.append((round(self.at_s, 2), limit))


def lognormal(median_ms: float, sigma: float = 0.4) -> Callable[[random.Random, int], float]:
    return lambda dice, _: median_ms * dice.lognormvariate(0.0, sigma)


def jain(shares: Counter[str]) -> float:
    values = list(shares.values())
    return float(sum(values)) ** 2 / (len(values) * sum(value * value for value in values))
