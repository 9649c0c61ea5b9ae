"""The slots' rules in a few lines of Python, to compare the Lua with. No time, no Redis."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class SlotsModel:
    """`queue`: each clinic's waiters as (place, ticket); `ticks`: last grant or activation of the clinics
    that wait; `announced`: grants of waiters, in order."""

    limit: int
    org_limit: int
    room: int
    own_caps: dict[str, int] = field(default_factory=dict)
    set_caps: dict[str, int] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    queue: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    ticks: dict[str, int] = field(default_factory=dict)
    announced: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    tick: int = 0

    def next_tick(self) -> int:
        self.tick += 1
        return self.tick

    def held(self, org: str) -> int:
        return sum(owner == org for owner in self.leases.values())

    def cap(self, org: str) -> int:
        return self.set_caps.get(org, self.own_caps.get(org, self.org_limit))

    def waits(self, ticket: str) -> bool:
        return any(ticket == waiter for waiters in self.queue.values() for _, waiter in waiters)

    def acquire(self, org: str, ticket: str, place: int, own_cap: int | None) -> str:
        if own_cap is None:
            self.own_caps.pop(org, None)
        else:
            self.own_caps[org] = own_cap
        waiters = self.queue.setdefault(org, [])
        if len(waiters) >= self.room:
            if (place, ticket) > max(waiters):
                self.pump()
                return "room_full"
            last = max(waiters)
            waiters.remove(last)
            self.evicted.append(last[1])
        waiters.append((place, ticket))
        waiters.sort()
        self.ticks.setdefault(org, self.next_tick())
        self.pump()
        return "granted" if ticket in self.leases else "waiting"

    def end(self, ticket: str) -> None:
        """Released, expired, or cancelled."""
        self.leases.pop(ticket, None)
        for org, waiters in list(self.queue.items()):
            waiters[:] = [waiter for waiter in waiters if waiter[1] != ticket]
            self._forget_if_idle(org)
        self.pump()

    def _forget_if_idle(self, org: str) -> None:
        if not self.queue[org]:
            del self.queue[org]
            self.ticks.pop(org, None)

    def pump(self) -> None:
        for org in list(self.queue):
            if not self.queue[org]:
                del self.queue[org]
        while len(self.leases) < self.limit:
            able = [org for org in self.queue if self.held(org) < self.cap(org)]
            if not able:
                return
            org = min(able, key=lambda name: (self.held(name), self.ticks[name]))
            _, ticket = self.queue[org].pop(0)
            self.leases[ticket] = org
            self.announced.append(ticket)
            self.ticks[org] = self.next_tick()
            self._forget_if_idle(org)
