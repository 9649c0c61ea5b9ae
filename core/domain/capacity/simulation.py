"""The same by simulation: arrivals, slots, fewest-held-first, event by event, for any number of clinics."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass

from core.domain.capacity.demand import Demand

DISPATCHES_AN_EVENT = 2  # coalesced ones and put-backs are dispatched again


@dataclass(frozen=True, slots=True)
class Simulated:
    """Seconds; `busy`: share of the slots' time that was used; `longest`: turns waiting for slots at once;
    `queued_s`: how long the last event had to wait for its dispatch (one that grows means: never)."""

    turns: int
    p50_s: float
    p95_s: float
    p99_s: float
    waited_p95_s: float
    busy: float
    longest: int
    queued_s: float


@dataclass(slots=True)
class _Load:
    """What comes to one cell: by turn its arrival, its clinic, its call's length."""

    arrivals: list[float]
    clinics: list[int]
    calls: list[float]


@dataclass(slots=True)
class _Served:
    """By turn: how long it waited for dispatch and slot together, and in all."""

    waits: list[float]
    totals: list[float]
    used_s: float
    last_s: float
    longest: int
    queued_s: float


def simulate(
    demand: Demand,
    slots: int,
    per_org: int,
    *,
    cells: int = 1,
    dispatches_per_s: float = math.inf,
    seconds: float = 3600.0,
    overhead_s: float = 0.05,
    seed: int = 1,
) -> Simulated:
    """Poisson arrivals over `seconds`; all that arrived is answered before it ends.

    The clinics are spread over `cells` by chance, as by a hash; each has a queue of its own that dispatches
    at most `dispatches_per_s`, and its share of the `slots`.
    """
    served = [
        _serve(demand, load, max(1, slots // cells), per_org, dispatches_per_s, overhead_s)
        for load in _loads(demand, cells, seconds, random.Random(seed))
    ]
    waits = sorted(wait for cell in served for wait in cell.waits)
    totals = sorted(total for cell in served for total in cell.totals)
    possible_s = sum(max(1, slots // cells) * cell.last_s for cell in served)
    return Simulated(
        turns=len(totals),
        p50_s=_at(totals, 0.5),
        p95_s=_at(totals, 0.95),
        p99_s=_at(totals, 0.99),
        waited_p95_s=_at(waits, 0.95),
        busy=sum(cell.used_s for cell in served) / possible_s if possible_s else 0.0,
        longest=max(cell.longest for cell in served),
        queued_s=max(cell.queued_s for cell in served),
    )


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _loads(demand: Demand, cells: int, seconds: float, rng: random.Random) -> list[_Load]:
    arrivals = _arrivals(demand, seconds, rng)
    clinics = rng.choices(range(demand.clinics), weights=demand.shares(), k=len(arrivals))
    calls = [demand.latency.median_s * math.exp(demand.latency.sigma * rng.gauss(0, 1)) for _ in arrivals]
    cell_of = [rng.randrange(cells) for _ in range(demand.clinics)] if cells > 1 else [0] * demand.clinics
    loads = [_Load([], [], []) for _ in range(cells)]
    for at_s, clinic, call_s in zip(arrivals, clinics, calls, strict=True):
        load = loads[cell_of[clinic]]
        load.arrivals.append(at_s)
        load.clinics.append(clinic)
        load.calls.append(call_s)
    return loads


def _serve(
    demand: Demand, load: _Load, slots: int, per_org: int, dispatches_per_s: float, overhead_s: float
) -> _Served:
    entered = _dispatched(load.arrivals, DISPATCHES_AN_EVENT / (1 - demand.coalesced) / dispatches_per_s)
    waits, totals = [0.0] * len(entered), [0.0] * len(entered)
    queue, ends = _Slots(demand.clinics, slots, per_org), list[tuple[float, int]]()
    used, last, upcoming = 0.0, 0.0, 0
    while upcoming < len(entered) or ends:
        if upcoming < len(entered) and (not ends or entered[upcoming] <= ends[0][0]):
            now = entered[upcoming]
            queue.put(load.clinics[upcoming], upcoming)
            upcoming += 1
        else:
            now, turn = heapq.heappop(ends)
            queue.release(load.clinics[turn])
        used += min(queue.held_before, slots) * (now - last)
        last = now
        for turn in queue.granted():
            waits[turn] = now - load.arrivals[turn]
            totals[turn] = waits[turn] + load.calls[turn] + overhead_s
            heapq.heappush(ends, (now + load.calls[turn], turn))
    queued_s = entered[-1] - load.arrivals[-1] if entered else 0.0
    return _Served(waits, totals, used, last, queue.longest, queued_s)


def _dispatched(arrivals: list[float], every_s: float) -> list[float]:
    """When each is let through by a queue that takes `every_s` for one."""
    entered, free_at = [], 0.0
    for at_s in arrivals:
        free_at = max(at_s, free_at) + every_s
        entered.append(free_at)
    return entered


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
