"""The same by simulation: arrivals, slots, fewest-held-first, event by event, for any number of clinics."""

from __future__ import annotations

import heapq
import math
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from core.ops.sizing.demand import Demand

DISPATCHES_AN_EVENT = 2  # coalesced ones and put-backs are dispatched again


@dataclass(frozen=True, slots=True)
class Simulated:
    """Seconds; `busy`: share of the slots' time that was used; `queued_s`: how long the last event had to
    wait for its dispatch (one that grows means: never)."""

    turns: int
    p50_s: float
    p95_s: float
    p99_s: float
    busy: float
    queued_s: float


@dataclass(frozen=True, slots=True)
class _Turn:
    arrived_s: float
    clinic: int
    call_s: float


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
    share = max(1, slots // cells)
    every_s = DISPATCHES_AN_EVENT / (1 - demand.coalesced) / dispatches_per_s
    latencies: list[float] = []
    used_s = possible_s = queued_s = 0.0
    for turns in _cells(demand, cells, seconds, random.Random(seed)):
        entered = _dispatched(turns, every_s)
        ended = _serve(turns, entered, _Slots(share, per_org))
        latencies += [end - turn.arrived_s + overhead_s for end, turn in zip(ended, turns, strict=True)]
        used_s += sum(turn.call_s for turn in turns)
        possible_s += share * max(ended, default=0.0)
        queued_s = max(queued_s, entered[-1] - turns[-1].arrived_s if turns else 0.0)
    latencies.sort()
    p50_s, p95_s, p99_s = (_at(latencies, part) for part in (0.5, 0.95, 0.99))
    busy = used_s / possible_s if possible_s else 0.0
    return Simulated(len(latencies), p50_s, p95_s, p99_s, busy, queued_s)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _cells(demand: Demand, cells: int, seconds: float, rng: random.Random) -> list[list[_Turn]]:
    """What comes to each cell, in order."""
    arrivals: list[float] = []
    now_s = rng.expovariate(demand.turns_per_s)
    while now_s < seconds:
        arrivals.append(now_s)
        now_s += rng.expovariate(demand.turns_per_s)
    clinics = rng.choices(range(demand.clinics), weights=demand.shares(), k=len(arrivals))
    calls = [demand.latency.median_s * math.exp(demand.latency.sigma * rng.gauss(0, 1)) for _ in arrivals]
    cell_of = [rng.randrange(cells) for _ in range(demand.clinics)]
    turns: list[list[_Turn]] = [[] for _ in range(cells)]
    for turn in map(_Turn, arrivals, clinics, calls):
        turns[cell_of[turn.clinic]].append(turn)
    return turns


def _dispatched(turns: Sequence[_Turn], every_s: float) -> list[float]:
    """When each is let through by a queue that takes `every_s` for one."""
    entered, free_at_s = [], 0.0
    for turn in turns:
        free_at_s = max(turn.arrived_s, free_at_s) + every_s
        entered.append(free_at_s)
    return entered


def _serve(turns: Sequence[_Turn], entered: Sequence[float], slots: _Slots) -> list[float]:
    """When each turn's call ends."""
    ended = [0.0] * len(turns)
    calls: list[tuple[float, int]] = []
    upcoming = 0
    while upcoming < len(turns) or calls:
        if upcoming < len(turns) and (not calls or entered[upcoming] <= calls[0][0]):
            now_s = entered[upcoming]
            slots.put(turns[upcoming].clinic, upcoming)
            upcoming += 1
        else:
            now_s, turn = heapq.heappop(calls)
            slots.release(turns[turn].clinic)
        for turn in slots.granted():
            ended[turn] = now_s + turns[turn].call_s
            heapq.heappush(calls, (ended[turn], turn))
    return ended


class _Slots:
    """Fewest held first, then longest unserved; FIFO in a clinic. One heap entry a clinic that may be served;
    stale ones are recognised when they come up."""

    def __init__(self, slots: int, per_org: int) -> None:
        self._free = slots
        self._per_org = per_org
        self._held: defaultdict[int, int] = defaultdict(int)
        self._served: defaultdict[int, int] = defaultdict(int)
        self._waiting: defaultdict[int, deque[int]] = defaultdict(deque)
        self._heap: list[tuple[int, int, int]] = []
        self._tick = 0

    def put(self, clinic: int, turn: int) -> None:
        self._waiting[clinic].append(turn)
        if len(self._waiting[clinic]) == 1:
            self._offer(clinic)

    def release(self, clinic: int) -> None:
        self._free += 1
        self._held[clinic] -= 1
        self._offer(clinic)

    def granted(self) -> list[int]:
        turns = []
        while self._free and self._heap:
            held, served, clinic = heapq.heappop(self._heap)
            waiting = self._waiting[clinic]
            if not waiting or (held, served) != (self._held[clinic], self._served[clinic]):
                continue
            self._free -= 1
            self._held[clinic] += 1
            self._tick += 1
            self._served[clinic] = self._tick
            turns.append(waiting.popleft())
            self._offer(clinic)
        return turns

    def _offer(self, clinic: int) -> None:
        if self._waiting[clinic] and self._held[clinic] < self._per_org:
            heapq.heappush(self._heap, (self._held[clinic], self._served[clinic], clinic))
