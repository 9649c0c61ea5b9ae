"""The rules of the token rate in a few lines of Python, to compare the Lua with."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.slots_model import SlotsModel

MINUTE_MS, SAVE_AFTER_MS, AWAY_MS = 60_000, 5_000, 15_000


@dataclass
class Wait:
    place: int
    tokens: int
    deadline: int


@dataclass
class TokensModel(SlotsModel):
    """`starts`: when each grant was and what it has cost, by ticket. `saver`: the place, size and time of the
    request for which tokens are saved, until `saving_until`."""

    rate: int = 0
    now: int = 0
    waits_for: dict[str, Wait] = field(default_factory=dict)
    starts: dict[str, tuple[int, int]] = field(default_factory=dict)
    saver: tuple[int, int, int] | None = None
    saving_until: int = 0

    @property
    def spent(self) -> int:
        return sum(tokens for _, tokens in self.starts.values())

    def advance(self, now: int) -> None:
        """What every operation begins with."""
        self.now = now
        self.starts = {t: start for t, start in self.starts.items() if start[0] > now - MINUTE_MS}
        if now >= self.saving_until:
            self.saver = None
        for org, waiters in list(self.queue.items()):
            waiters[:] = [w for w in waiters if self.waits_for[w[1]].deadline > now]
            self._forget_if_idle(org)

    def ask(self, org: str, ticket: str, place: int, tokens: int, wait_ms: int) -> str:
        self.waits_for[ticket] = Wait(place, tokens, self.now + wait_ms)
        if tokens > self.rate:
            self.pump()
            return "too_large"
        return self.acquire(org, ticket, place, None)

    def lacking(self, wait: Wait) -> float:
        kept = 0.0
        if self.saver and self.saver[0] != wait.place:
            saved = (self.now - self.saver[2] - SAVE_AFTER_MS) * self.rate / (2 * MINUTE_MS)
            kept = max(0, min(self.saver[1], saved))
        return self.spent + kept + wait.tokens - self.rate

    def free_at(self, tokens: float) -> int:
        freed, at = 0, self.saving_until
        for started, cost in sorted(self.starts.values()):
            freed, at = freed + cost, started + MINUTE_MS
            if freed >= tokens:
                return at
        return max(at, self.now + 1)

    def save_for(self, wait: Wait) -> None:
        if not self.saver:
            self.saver, self.saving_until = (wait.place, wait.tokens, self.now), 0
        if self.saver[0] == wait.place:
            self.saving_until = max(self.saving_until, wait.deadline + AWAY_MS)

    def pump(self) -> None:
        for org in list(self.queue):
            if not self.queue[org]:
                del self.queue[org]
        passed: set[str] = set()
        while len(self.leases) < self.limit:
            able = [org for org in self.queue if org not in passed and self.held(org) < self.cap(org)]
            if not able:
                return
            org = min(able, key=lambda name: (self.held(name), self.ticks[name]))
            for place_and_ticket in self.queue[org]:
                wait = self.waits_for[place_and_ticket[1]]
                if self.lacking(wait) <= 0:
                    self._grant(org, place_and_ticket, wait)
                    break
                self.save_for(wait)
            else:
                passed.add(org)

    def _grant(self, org: str, place_and_ticket: tuple[int, str], wait: Wait) -> None:
        ticket = place_and_ticket[1]
        self.queue[org].remove(place_and_ticket)
        self.leases[ticket] = org
        self.starts[ticket] = (self.now, wait.tokens)
        if self.saver and self.saver[0] == wait.place:
            self.saver, self.saving_until = None, 0
        self.ticks[org] = self.next_tick()
        self._forget_if_idle(org)

    def release(self, ticket: str, used: int | None) -> None:
        if used is not None and ticket in self.starts:
            self.starts[ticket] = (self.starts[ticket][0], used)
        self.end(ticket)

    def cancel(self, ticket: str) -> tuple[str, int]:
        """The reason and for how long."""
        wait = self.waits_for[ticket]
        if ticket in self.leases:
            self.starts.pop(ticket, None)
        self.end(ticket)
        lacks, shut = self.lacking(wait), ("", 0)
        if lacks > 0:
            shut = ("rate", self.free_at(lacks) - self.now)
        if self.saver and self.saver[0] == wait.place:
            self.saving_until = self.now + shut[1] + AWAY_MS
        return shut
