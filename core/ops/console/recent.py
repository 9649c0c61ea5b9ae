"""The last hour as the pages show it: what the slots were doing, and what became of messages."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from core.adapters.redis_slots_operator import SlotsView
from core.domain.errors import FairlaneError
from core.domain.turn import TurnRecord, TurnState
from core.ops.console.workplace import Workplace
from core.usecases.operate.turn_report import list_turns

HOUR_MS, MINUTE_MS = 3_600_000, 60_000
_AGAIN_MS = 150_000
"""Turns that began so lately are read again: they may have ended since."""
_JOURNAL_EVERY_S, _SLOTS_EVERY_S = 10.0, 2.0
_MOST_TURNS = 20_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The slots of all providers at a moment."""

    at_ms: int
    held: int
    waiting: int
    limit: int


@dataclass(frozen=True, slots=True)
class Brief:
    """So much of a turn as is counted."""

    id: str
    org_id: str
    began_ms: int
    arrived_ms: tuple[int, ...]
    state: TurnState
    failure: str
    ack_ms: int
    took_ms: int | None


class LastHour:
    """Reads only while somebody looks: every look asks `refresh`, which reads as seldom as it may. The slots'
    past is known from the first look on, since Redis knows none."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self.samples: deque[Sample] = deque(maxlen=int(HOUR_MS / 1000 / _SLOTS_EVERY_S))
        self.slots: dict[str, SlotsView] = {}
        self.trouble = ""
        self.journal_trouble = ""
        self._turns: dict[str, Brief] = {}
        self._slots_at = self._journal_at = float("-inf")
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """What can't be read is said in `trouble` and `journal_trouble`."""
        async with self._reading:
            await asyncio.gather(self._read_slots(), self._read_journal())

    async def _read_slots(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._slots_at < _SLOTS_EVERY_S:
            return
        try:
            self.slots, self.trouble = await self._workplace.slots(), ""
        except FairlaneError as exc:
            self.slots, self.trouble = {}, str(exc)
        else:
            views, at_ms = self.slots.values(), self._workplace.clock.now_ms()
            sums = (sum(getattr(view, name) for view in views) for name in ("used", "waiting", "limit"))
            self.samples.append(Sample(at_ms, *sums))
        self._slots_at = asyncio.get_running_loop().time()

    async def _read_journal(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._journal_at < _JOURNAL_EVERY_S:
            return
        now_ms = self._workplace.clock.now_ms()
        since_ms = now_ms - HOUR_MS
        if self._turns:
            since_ms = max(since_ms, max(turn.began_ms for turn in self._turns.values()) - _AGAIN_MS)
        try:
            found = await list_turns(self._workplace.documents, since_ms=since_ms, limit=_MOST_TURNS)
            self.journal_trouble = ""
        except FairlaneError as exc:
            found, self.journal_trouble = [], str(exc)
        self._turns |= {turn.id: _brief(turn) for turn in found}
        self._turns = {i: t for i, t in self._turns.items() if t.began_ms > now_ms - HOUR_MS}
        self._journal_at = asyncio.get_running_loop().time()

    @property
    def turns(self) -> Iterable[Brief]:
        return self._turns.values()

    def count(self, *states: TurnState) -> int:
        return sum(turn.state in states for turn in self.turns)

    def by_minute(self) -> dict[str, list[int]]:
        """Messages that were acknowledged, answers and failures, for each of the last 60 minutes; `at`: when
        it began, in Unix seconds."""
        last = self._workplace.clock.now_ms() // MINUTE_MS
        minutes = range(last - 59, last + 1)
        counts = {name: Counter[int]() for name in ("acknowledged", "answered", "failed")}
        for turn in self.turns:
            counts["acknowledged"].update(at // MINUTE_MS for at in turn.arrived_ms)
            if turn.state is TurnState.DELIVERED:
                counts["answered"][turn.began_ms // MINUTE_MS] += 1
            elif turn.state is TurnState.FAILED:
                counts["failed"][turn.began_ms // MINUTE_MS] += 1
        series = {name: [count[minute] for minute in minutes] for name, count in counts.items()}
        return {"at": [minute * 60 for minute in minutes], **series}

    def slots_by_time(self) -> dict[str, list[int]]:
        return {
            "at": [sample.at_ms // 1000 for sample in self.samples],
            "held": [sample.held for sample in self.samples],
            "waiting": [sample.waiting for sample in self.samples],
            "limit": [sample.limit for sample in self.samples],
        }

    def middle(self, values: Iterable[int | None]) -> int | None:
        known = sorted(value for value in values if value is not None)
        return known[len(known) // 2] if known else None


def _brief(turn: TurnRecord) -> Brief:
    arrived = tuple(event.arrived_ms for event in turn.events)
    delays = [event.arrived_ms - event.timestamp_ms for event in turn.events]
    ended_ms = turn.delivered_ms if turn.state is TurnState.DELIVERED else None
    return Brief(
        turn.id,
        turn.org_id,
        turn.created_ms,
        arrived,
        turn.state,
        turn.failure or "",
        max(0, max(delays, default=0)),
        ended_ms - min(arrived) if ended_ms is not None and arrived else None,
    )
