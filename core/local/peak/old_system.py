"""A small, faithful model of the audited design, against the same arrivals and faults.

What the audit says of it: a limit of 10 calls and 5 a clinic in each process, one FIFO queue in memory, the
conversation's state in a Map of the process, no retry, no de-duplication, everything lost on a restart.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from dataclasses import dataclass, field

from core.local.peak.evidence import REDIS_LOST
from core.local.peak.faults import REDELIVERED, Planned
from core.local.peak.scenario import Arrival, Scenario

_PROCESS_LIMIT, _ORG_LIMIT = 10, 5
_STORM_S = 20.0


@dataclass(slots=True)
class OldSystem:
    """What it did to the customers. `latencies`: (sent at, clinic, seconds) of what was answered."""

    asked: int = 0
    most_at_once: int = 0
    calls_above_limit: int = 0
    refused_429: int = 0
    lost_on_restart: int = 0
    answered_twice: int = 0
    other_state: int = 0
    latencies: list[tuple[float, int, float]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.refused_429 + self.lost_on_restart


@dataclass(slots=True)
class _Process:
    """`life` counts restarts: what an earlier life started never ends."""

    queue: deque[tuple[Arrival, bool]] = field(default_factory=deque)
    running: Counter[int] = field(default_factory=Counter)
    life: int = 0


class _Model:
    def __init__(self, scenario: Scenario, instances: int, planned: list[Planned], *, faults: bool) -> None:
        self._options = scenario.options
        self._dice = random.Random(scenario.options.seed + 1)
        self._processes = [_Process() for _ in range(instances)]
        self._router = itertools.count()
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._sequence = itertools.count()
        self._running = 0
        self._storm_until = -1.0
        self._answered: set[str] = set()
        self._last_process: dict[tuple[int, str], int] = {}
        self.result = OldSystem(asked=len(scenario.arrivals))
        for arrival in scenario.arrivals:
            self._at(arrival.at_s, "arrive", arrival, False)
            if faults and self._dice.random() < REDELIVERED:
                self._at(arrival.at_s + 5, "arrive", arrival, True)
        for fault in planned if faults else []:
            self._at(fault.at_s, fault.kind, fault)

    def _at(self, at_s: float, kind: str, *data: object) -> None:
        heapq.heappush(self._events, (at_s, next(self._sequence), kind, data))

    def run(self) -> OldSystem:
        acts = {
            "arrive": self._arrive,
            "done": self._done,
            "instance killed": self._killed,
            "429 storm": self._storm,
            REDIS_LOST: lambda *_: None,  # it had none
        }
        while self._events:
            at_s, _, kind, data = heapq.heappop(self._events)
            acts[kind](at_s, *data)  # type: ignore[operator]
        return self.result

    def _arrive(self, at_s: float, arrival: Arrival, again: bool) -> None:
        number = next(self._router) % len(self._processes)
        chat = (arrival.clinic, arrival.customer)
        if self._last_process.setdefault(chat, number) != number:
            self.result.other_state += 1
        self._last_process[chat] = number
        self._processes[number].queue.append((arrival, again))
        self._pump(at_s, number)

    def _pump(self, at_s: float, number: int) -> None:
        """Strictly first in, first out: the head waits for its clinic's limit, and all behind it wait too."""
        process = self._processes[number]
        while process.queue and process.running.total() < _PROCESS_LIMIT:
            arrival, _ = process.queue[0]
            if process.running[arrival.clinic] >= _ORG_LIMIT:
                return
            process.queue.popleft()
            self._start(at_s, number, arrival)

    def _start(self, at_s: float, number: int, arrival: Arrival) -> None:
        process, result = self._processes[number], self.result
        process.running[arrival.clinic] += 1
        self._running += 1
        result.most_at_once = max(result.most_at_once, self._running)
        above = self._running > self._options.slots
        result.calls_above_limit += above
        refused = above or at_s < self._storm_until
        latency_s = 0.2 if refused else self._options.latency.draw(self._dice)
        self._at(at_s + latency_s, "done", number, process.life, arrival, refused)

    def _done(self, at_s: float, number: int, life: int, arrival: Arrival, refused: bool) -> None:
        process = self._processes[number]
        if process.life != life:
            return
        self._running -= 1
        process.running[arrival.clinic] -= 1
        if refused:
            # Not retried: the question is gone, unless a redelivery brings it once more.
            self.result.refused_429 += 1
        elif arrival.text in self._answered:
            self.result.answered_twice += 1
        else:
            self._answered.add(arrival.text)
            self.result.latencies.append((arrival.at_s, arrival.clinic, at_s - arrival.at_s))
        self._pump(at_s, number)

    def _killed(self, _: float, fault: Planned) -> None:
        process = self._processes[fault.instance]
        gone = len(process.queue) + process.running.total()
        self.result.lost_on_restart += gone
        self._running -= process.running.total()
        process.life += 1
        process.queue.clear()
        process.running.clear()

    def _storm(self, at_s: float, _: Planned) -> None:
        self._storm_until = at_s + _STORM_S


def simulate(scenario: Scenario, instances: int, planned: list[Planned], *, faults: bool) -> OldSystem:
    """The hour under the old design; a fraction of a second, since nothing is really called."""
    return _Model(scenario, instances, planned, faults=faults).run()
