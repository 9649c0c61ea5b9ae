"""The hour at the provider: who ran, who could have run, and what that says about slots and fairness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.local.peak.evidence import Evidence
from core.local.peak.matching import Fate

_ON_ITS_WAY_MS = 100  # webhook, queue and mailbox: a message does not wait for a slot before
WINDOW_MS = 15_000
"""Long enough for each of dozens of backlogged clinics to be served often: fewest-held-first evens out turns,
and over a few turns the calls' random lengths would be all that an index shows."""


@dataclass(frozen=True, slots=True)
class Interval:
    clinic: str
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Moment:
    """Constant from `at_ms` to the next moment. `demand`: calls that could run if there were no limit but the
    clinics' own."""

    at_ms: int
    running: int
    waiting: int
    demand: int


def running(evidence: Evidence) -> list[Interval]:
    return [Interval(c.clinic, c.started_ms, c.ended_ms) for c in evidence.calls]


def waiting(evidence: Evidence, fates: Iterable[Fate]) -> list[Interval]:
    """From when a conversation could have run (its message was there, its last turn over) to its call."""
    by_text = {fate.message.text: fate for fate in fates}
    turn_over: dict[tuple[str, str], int] = defaultdict(int)
    seen: set[str] = set()
    intervals = []
    for call in sorted(evidence.calls, key=lambda c: c.started_ms):
        asked = [by_text[text] for text in call.quoted if text in by_text and text not in seen]
        if not asked:
            continue  # a further attempt, or after a fixed text
        seen.update(call.quoted)
        chat = asked[0].message.clinic, asked[0].message.chat_id
        came_ms = min(fate.message.sent_ms for fate in asked)
        since_ms = max(came_ms, turn_over[chat]) + _ON_ITS_WAY_MS
        if since_ms < call.started_ms:
            intervals.append(Interval(chat[0], since_ms, call.started_ms))
        answered = [fate.answers[0].at_ms for fate in asked if fate.answers]
        turn_over[chat] = max([turn_over[chat], call.ended_ms, *answered])
    return intervals


def moments(runs: Sequence[Interval], waits: Sequence[Interval], org_limit: int) -> Iterator[Moment]:
    """Every change, in order."""
    changes: list[tuple[int, int, str, int]] = []
    for kind, intervals in enumerate((runs, waits)):
        for interval in intervals:
            changes.append((interval.from_ms, kind, interval.clinic, 1))
            changes.append((interval.until_ms, kind, interval.clinic, -1))
    changes.sort(key=lambda change: (change[0], change[3]))
    counts: tuple[dict[str, int], dict[str, int]] = (defaultdict(int), defaultdict(int))
    totals, demand = [0, 0], 0
    for at_ms, kind, clinic, step in changes:
        demand -= min(org_limit, counts[0][clinic] + counts[1][clinic])
        counts[kind][clinic] += step
        if not counts[kind][clinic]:
            del counts[kind][clinic]
        totals[kind] += step
        demand += min(org_limit, counts[0].get(clinic, 0) + counts[1].get(clinic, 0))
        yield Moment(at_ms, totals[0], totals[1], demand)


def most_at_once(runs: Iterable[Interval], from_ms: int, until_ms: int) -> int:
    """Between the two moments."""
    within = [run for run in runs if run.from_ms < until_ms and run.until_ms > from_ms]
    return max((sum(r.from_ms <= at.from_ms < r.until_ms for r in within) for at in within), default=0)


def unserved(evidence: Evidence, fates: Iterable[Fate], runs: Sequence[Interval]) -> list[Fate]:
    """Who got a fixed text instead of a call although, for as long as a call takes before it, one could have
    begun at any moment. Not those whom a budget stopped, nor while a fault took capacity away."""
    options = evidence.scenario.options
    call_ms = round(options.mean_latency_s / evidence.speed * 1000)
    asked = {text for call in evidence.calls for text in call.quoted}
    found = []
    for fate in fates:
        message = fate.message
        if not fate.fixed or message.text in asked or message.clinic in evidence.budgets:
            continue
        until_ms = fate.answers[0].at_ms
        from_ms = until_ms - call_ms
        calm = not any(d.from_ms < until_ms and d.until_ms > from_ms for d in evidence.disturbances)
        own = [run for run in runs if run.clinic == message.clinic]
        free = (
            most_at_once(runs, from_ms, until_ms) < options.slots
            and most_at_once(own, from_ms, until_ms) < options.org_slots
        )
        if calm and free and from_ms >= message.sent_ms:
            found.append(fate)
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """Of the slots, while more could have run than there are slots and nothing was disturbed."""

    backlog_ms: int
    busy_ms: int
    slots: int

    @property
    def share(self) -> float | None:
        return self.busy_ms / (self.backlog_ms * self.slots) if self.backlog_ms else None


def use(evidence: Evidence, timeline: Iterable[Moment]) -> Use:
    slots = evidence.scenario.options.slots
    backlog_ms = busy_ms = 0
    before: tuple[int, int, int] | None = None
    for moment in timeline:
        if before is not None:
            at_ms, ran, demand = before
            if demand > slots and not evidence.disturbed(at_ms):
                backlog_ms += moment.at_ms - at_ms
                busy_ms += (moment.at_ms - at_ms) * ran
        before = moment.at_ms, moment.running, moment.demand
    return Use(backlog_ms, busy_ms, slots)


def jain(shares: Sequence[float]) -> float:
    """1: all alike; 1/n: one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


@dataclass(frozen=True, slots=True)
class Fairness:
    """`windows` in which several clinics had messages waiting all the time, and the mean index over them."""

    windows: int
    clinics: int
    index: float | None


def fairness(evidence: Evidence, runs: Sequence[Interval], waits: Sequence[Interval]) -> Fairness:
    """Jain's index of slot-seconds over clinics that were backlogged throughout a window."""
    indices, most = [], 0
    start, end = evidence.start_ms, evidence.end_ms
    for from_ms in range(start, end - WINDOW_MS, WINDOW_MS // 2):
        until_ms = from_ms + WINDOW_MS
        if any(evidence.disturbed(at) for at in range(from_ms, until_ms, 100)):
            continue
        backlogged = _always_covered(waits, from_ms, until_ms)
        if len(backlogged) < 2:
            continue
        got = dict.fromkeys(backlogged, 0)
        for run in runs:
            if run.clinic in got:
                got[run.clinic] += max(0, min(run.until_ms, until_ms) - max(run.from_ms, from_ms))
        indices.append(jain(list(got.values())))
        most = max(most, len(backlogged))
    return Fairness(len(indices), most, sum(indices) / len(indices) if indices else None)


def _always_covered(waits: Sequence[Interval], from_ms: int, until_ms: int) -> set[str]:
    """Clinics of which somebody waited at every moment between."""
    by_clinic: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for wait in waits:
        if wait.from_ms < until_ms and wait.until_ms > from_ms:
            by_clinic[wait.clinic].append((wait.from_ms, wait.until_ms))
    return {clinic for clinic, spans in by_clinic.items() if _covers(sorted(spans), from_ms, until_ms)}


def _covers(spans: Sequence[tuple[int, int]], from_ms: int, until_ms: int) -> bool:
    reached = from_ms
    for start, end in spans:
        if start > reached:
            return False
        reached = max(reached, end)
        if reached >= until_ms:
            return True
    return False


def series(
    timeline: Iterable[Moment], start_ms: int, end_ms: int, steps: int
) -> list[tuple[float, float, float]]:
    """(middle of a step in ms, mean running, mean waiting), for a plot."""
    width = (end_ms - start_ms) / steps
    ran, waited = [0.0] * steps, [0.0] * steps
    states = [(m.at_ms, m.running, m.waiting) for m in timeline]
    for (at_ms, now_running, now_waiting), (next_ms, _, _) in pairwise(states):
        at, until = float(max(at_ms, start_ms)), min(next_ms, end_ms)
        while at < until:
            step = min(steps - 1, int((at - start_ms) / width))
            edge = min(until, start_ms + (step + 1) * width) if step < steps - 1 else until
            ran[step] += now_running * (edge - at)
            waited[step] += now_waiting * (edge - at)
            at = edge if edge > at else until
    return [(start_ms + (i + 0.5) * width, ran[i] / width, waited[i] / width) for i in range(steps)]
