"""The same by simulation: arrivals, slots, fewest-held-first, event by event, for any number of clinics."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass

from core.domain.capacity.demand import Demand

_ARRIVAL, _END = 0, 1


@dataclass(frozen=True, slots=True)
class Simulated:
    """Seconds; `busy`: share of the slots' time that was used; `longest`: turns waiting at once."""

    turns: int
    p50_s: float
    p95_s: float
    p99_s: float
    waited_p95_s: float
    busy: float
    longest: int


def simulate(
    demand: Demand,
    slots: int,
    per_org: int,
    *,
    seconds: float = 3600.0,
    overhead_s: float = 0.05,
    seed: int = 1,
) -> Simulated:
    """Poisson arrivals over `seconds`; all that arrived is answered before it ends."""
    rng = random.Random(seed)
    clinics = range(demand.clinics)
    arrivals = _arrivals(demand, seconds, rng)
    owners = rng.choices(clinics, weights=demand.shares(), k=len(arrivals))
    calls = [demand.latency.median_s * math.exp(demand.latency.sigma * rng.gauss(0, 1)) for _ in arrivals]
    queue = _Slots(demand.clinics, slots, per_org)
    ends: list[tuple[float, int]] = []
    waits, totals, used, last = [0.0] * len(arrivals), [0.0] * len(arrivals), 0.0, 0.0

    def start(now: float) -> None:
        for turn in queue.granted():
            waits[turn] = now - arrivals[turn]
            totals[turn] = waits[turn] + calls[turn] + overhead_s
            heapq.heappush(ends, (now + calls[turn], turn))

    upcoming = 0
    while upcoming < len(arrivals) or ends:
        if upcoming < len(arrivals) and (not ends or arrivals[upcoming] <= ends[0][0]):
            now = arrivals[upcoming]
            queue.put(owners[upcoming], upcoming)
            upcoming += 1
        else:
            now, turn = heapq.heappop(ends)
            queue.release(owners[turn])
        used += min(queue.held_before, slots) * (now - last)
        last = now
        start(now)
    return _summary(totals, waits, used / (slots * last) if last else 0.0, queue.longest)


def _arrivals(demand: Demand, seconds: float, rng: random.Random) -> list[float]:
    times: list[float] = []
    now = 0.0
    while True:
        now += rng.expovariate(demand.turns_per_s)
        if now >= seconds:
            return times
        times.append(now)


class _Slots:
    """Fewest held first, then longest unserved; FIFO in a clinic. One heap entry a clinic that may be served;
    stale ones are recognised when they come up."""

    def __init__(self, clinics: int, slots: int, per_org: int) -> None:
        self._free = slots
        self._slots = slots
        self._per_org = per_org
        self._held = [0] * clinics
        self._served = [0] * clinics
        self._waiting: list[deque[int] | None] = [None] * clinics
        self._heap: list[tuple[int, int, int]] = []
        self._tick = 0
        self._count = 0
        self.longest = 0
        self.held_before = 0

    def put(self, clinic: int, turn: int) -> None:
        self.held_before = self._slots - self._free
        line = self._waiting[clinic]
        if line is None:
            line = self._waiting[clinic] = deque()
        line.append(turn)
        self._count += 1
        self.longest = max(self.longest, self._count)
        if len(line) == 1:
            self._offer(clinic)

    def release(self, clinic: int) -> None:
        self.held_before = self._slots - self._free
        self._free += 1
        self._held[clinic] -= 1
        if self._waiting[clinic]:
            self._offer(clinic)

    def granted(self) -> list[int]:
        turns = []
        while self._free and self._heap:
            held, served, clinic = heapq.heappop(self._heap)
            line = self._waiting[clinic]
            if not line or held != self._held[clinic] or served != self._served[clinic]:
                continue
            self._free -= 1
            self._held[clinic] += 1
            self._tick += 1
            self._served[clinic] = self._tick
            self._count -= 1
            turns.append(line.popleft())
            if line:
                self._offer(clinic)
        return turns

    def _offer(self, clinic: int) -> None:
        if self._held[clinic] < self._per_org:
            heapq.heappush(self._heap, (self._held[clinic], self._served[clinic], clinic))


def _summary(totals: list[float], waits: list[float], busy: float, longest: int) -> Simulated:
    ordered, waited = sorted(totals), sorted(waits)

    def at(values: list[float], share: float) -> float:
        return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0

    return Simulated(
        turns=len(totals),
        p50_s=at(ordered, 0.5),
        p95_s=at(ordered, 0.95),
        p99_s=at(ordered, 0.99),
        waited_p95_s=at(waited, 0.95),
        busy=busy,
        longest=longest,
    )
