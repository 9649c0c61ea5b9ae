"""A clinic's counters of a day, `org_stats/{org_id}:{day}`: written in the commit that makes them true.

A document that counts (a turn, a booking, a notice) says itself what it counts. A commit that changes it adds
the difference between what it counted and what it counts now, blindly: the commit is made once, so its
counters are. Nothing is read for it, and nobody contends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.outcome import COLLECTION, Counts, difference, turn_counts
from core.domain.turn import TurnRecord
from core.ports.documents import Increment, Key, Merge


def stats_key(org_id: str, day: str) -> Key:
    return Key(COLLECTION, f"{org_id}:{day}")


def counting_turns(changes: Iterable[tuple[TurnRecord | None, TurnRecord]]) -> list[Merge]:
    """For one commit of these turns, each before (None: it is new) and after. A turn counts on its books'
    day."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for before, after in changes:
        if not (after.org_id and after.money.day):  # a task that was none of ours; a turn that has no reply
            continue
        added = sums.setdefault((after.org_id, after.money.day), Counter())
        added.update(difference(turn_counts(before) if before else {}, turn_counts(after)))
    return [merge for (org_id, day), counts in sums.items() for merge in counting(org_id, {day: counts})]


def counting(org_id: str, by_day: Mapping[str, Counts]) -> list[Merge]:
    """One write a day on which anything changes."""
    return [
        Merge(stats_key(org_id, day), {"org_id": org_id, "day": day, **_increments(counts)})
        for day, counts in by_day.items()
        if any(counts.values())
    ]


def _increments(counts: Counts) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, count in counts.items():
        if count:
            parent, _, key = name.rpartition(".")
            (data.setdefault(parent, {}) if parent else data)[key] = Increment(count)
    return data
