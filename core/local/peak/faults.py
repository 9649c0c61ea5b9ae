"""What goes wrong during the hour, and when: redeliveries, duplicates, kills, a lost Redis, and a provider
that refuses, takes less, or is gone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.local.openai_api import Call, LlmFaultKind, LlmTrouble
from core.local.peak.evidence import Disturbance, Sample
from core.local.stack import LocalStack
from core.local.task_dispatcher import Attempt, DispatchPlan

_REDELIVERED = 0.03
_DUPLICATED = 0.05
KILL, STORM, LOSS = "instances killed", "storms of 429", "Redis restarted empty"
OUTAGE, LESS = "outages of the first provider", "times it took fewer calls at once"
# Shares of the hour. None during the campaign, whose effect on small clinics is to be seen alone.
_KILLS = (0.14, 0.27, 0.38, 0.5, 0.86)
_STORMS = (0.2, 0.57)
_OUTAGE, _LESS = 0.31, 0.43
_REDIS_LOST = 0.92
_STORM_S = 20.0
_OUTAGE_S, _LESS_S = 120.0, 180.0
_LESS_SHARE = 0.6
_BACK_S = 10.0  # real seconds, however time is compressed: until the first provider is tried and found well
_SHORT_S = 100.0
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of the plan. `at_s`: in the simulated hour."""

    at_s: float
    kind: str
    instance: int = 0


def plan(duration_s: float, instances: int, speed: float) -> list[Planned]:
    """Kills take all instances but the first in turn: its memory is watched over the whole run. A short run
    has fewer faults: a new process takes seconds to start, however time is compressed."""
    short = duration_s / speed < _SHORT_S
    kills = [
        Planned(share * duration_s, KILL, 1 + i % (instances - 1))
        for i, share in enumerate(_KILLS[::3] if short else _KILLS)
        if instances > 1
    ]
    storms = [Planned(share * duration_s, STORM) for share in (_STORMS[:1] if short else _STORMS)]
    # What takes real seconds to be over would be most of a short run.
    provider = [] if short else [Planned(_OUTAGE * duration_s, OUTAGE), Planned(_LESS * duration_s, LESS)]
    planned = [*kills, *storms, *provider, Planned(_REDIS_LOST * duration_s, LOSS)]
    return sorted(planned, key=lambda fault: fault.at_s)


def followed(samples: Sequence[Sample], slots: int) -> list[Disturbance]:
    """While fewer calls at once were given than there are slots, since calls had been refused."""
    found: list[Disturbance] = []
    for sample, after in pairwise(samples):
        if sample.limit is not None and sample.limit < slots:
            joins = found and found[-1].until_ms == sample.at_ms
            from_ms = found.pop().from_ms if joins else sample.at_ms
            found.append(Disturbance(from_ms, after.at_ms))
    return found


class Faults:
    """Applies the plan to a stack. `lease_s`: how long a dead holder's slots and conversations stay taken.
    `slots`: what the first provider takes as a rule."""

    def __init__(self, stack: LocalStack, *, speed: float, lease_s: float, slots: int, seed: int) -> None:
        self._stack = stack
        self._speed = speed
        self._lease_s = lease_s
        self._dice = random.Random(seed)
        self._slots = slots
        self._takes = slots
        self._out = False
        self._storm_until = 0.0
        self.disturbances: list[Disturbance] = []
        self.counts: Counter[str] = Counter()

    def install(self) -> None:
        """The faults that come by chance, and the switch of the storms."""
        self._stack.tasks.on_dispatch = self._duplicate
        trouble = LlmTrouble(
            LlmFaultKind.RATE_LIMIT, retry_after_ms=max(1, round(_RETRY_AFTER_S / self._speed * 1000))
        )
        faults = self._stack.openai.faults
        faults.add(LlmTrouble(LlmFaultKind.UNAVAILABLE), times=None, when=self._is_out)
        faults.add(trouble, times=None, when=self._storming)
        faults.add(LlmTrouble(LlmFaultKind.RATE_LIMIT), times=None, when=self._is_full)

    def redelivers(self) -> bool:
        """Is this webhook delivered twice?"""
        again = self._dice.random() < _REDELIVERED
        self.counts["webhooks delivered twice"] += again
        return again

    async def run(self, planned: list[Planned], wait_until: Callable[[float], Awaitable[None]]) -> None:
        acts = {
            KILL: self._kill,
            STORM: self._storm,
            LOSS: self._lose_redis,
            OUTAGE: self._outage,
            LESS: self._take_less,
        }
        for fault in planned:
            await wait_until(fault.at_s)
            self.counts[fault.kind] += 1
            began = _now_ms()
            after_s = await acts[fault.kind](fault)
            until = _now_ms() + round(after_s * 1000)
            self.disturbances.append(Disturbance(began, until))

    async def _kill(self, fault: Planned) -> float:
        """SIGKILL, and at once a new process, as a platform does; the others get its requests meanwhile."""
        urls = self._stack.turn_urls
        self._stack.tasks.targets = [url for i, url in enumerate(urls) if i != fault.instance]
        await self._stack.kill_turn(fault.instance)
        await self._stack.restart_turn(fault.instance)
        self._stack.tasks.targets = urls
        return self._lease_s

    async def _storm(self, _: Planned) -> float:
        self._storm_until = time.monotonic() + max(_STORM_S / self._speed, 0.5)
        await asyncio.sleep(self._storm_until - time.monotonic())
        # What was refused comes back after the cooldown, and after its own backoff.
        return max(2 * _RETRY_AFTER_S / self._speed, 0.5)

    async def _outage(self, _: Planned) -> float:
        self._out = True
        await asyncio.sleep(max(_OUTAGE_S / self._speed, 2.0))
        self._out = False
        return _BACK_S

    async def _take_less(self, _: Planned) -> float:
        self._takes = max(1, round(_LESS_SHARE * self._slots))
        await asyncio.sleep(max(_LESS_S / self._speed, 2.0))
        self._takes = self._slots
        return 0.5

    async def _lose_redis(self, _: Planned) -> float:
        await self._stack.redis.restart_empty()
        return 2 * self._lease_s

    def _is_out(self, _: Call) -> bool:
        self.counts["calls to a provider that was gone"] += self._out
        return self._out

    def _is_full(self, _: Call) -> bool:
        """This call is among those that run."""
        full = self._stack.openai.running > self._takes
        self.counts["calls refused as one too many"] += full
        return full

    def _storming(self, _: Call) -> bool:
        raining = time.monotonic() < self._storm_until
        self.counts["calls refused with 429"] += raining
        return raining

    def _duplicate(self, _: Attempt) -> DispatchPlan | None:
        if self._dice.random() >= _DUPLICATED:
            return None
        self.counts["tasks dispatched twice"] += 1
        return DispatchPlan(copies=2)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
