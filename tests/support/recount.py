"""A clinic's counters, counted again from the journal's documents: by what they say, not by the code that
counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from core.ports.documents import DocumentStore, Where

BANGKOK = ZoneInfo("Asia/Bangkok")
Data = Mapping[str, Any]


async def miscounted(documents: DocumentStore, org_id: str) -> str:
    """What `org_stats` says and a recount does not; "" if they agree."""

    async def of(collection: str) -> list[tuple[str, Data]]:
        found = await documents.query(collection, [Where("org_id", "==", org_id)])
        return [(document.key.id, document.data) for document in found]

    stats = {key.rpartition(":")[2]: _flat(data) for key, data in await of("org_stats")}
    counted = {day: counts for day, counts in stats.items() if any(counts.values())}
    again = recount(await of("turns"), await of("bookings"), await of("notices"))
    return "" if counted == again else f"counted {counted}, again {again}"


async def charged_by_day(documents: DocumentStore, org_id: str) -> dict[str, int]:
    """The sums of a clinic's charges, in micro-baht, each of whose lines sum up to it."""
    days: Counter[str] = Counter()
    for document in await documents.query("charges", [Where("org_id", "==", org_id)]):
        charge = document.data
        assert charge["micro_baht"] == sum(line["micro_baht"] for line in charge["lines"]), charge
        days[charge["day"]] += charge["micro_baht"]
    return {day: total for day, total in days.items() if total}


def recount(
    turns: Sequence[tuple[str, Data]],
    bookings: Sequence[tuple[str, Data]] = (),
    notices: Sequence[tuple[str, Data]] = (),
) -> dict[str, dict[str, int]]:
    """By day."""
    days: dict[str, Counter[str]] = {}
    booked = {booking_id for booking_id, _ in bookings}
    for turn_id, turn in turns:
        days.setdefault(turn["day"], Counter()).update(_of_turn(turn, has_booking=turn_id in booked))
    for _, booking in bookings:
        if booking["confirmed_ms"]:
            days.setdefault(_day(booking["confirmed_ms"]), Counter())["confirmed"] += 1
        for step, how in booking["told"].items():
            if how == "sent":
                days.setdefault(_day(booking["told_ms"][step]), Counter())["pushes"] += 1
    for _, notice in notices:
        if notice.get("state") == "sent":
            days.setdefault(_day(notice["sent_ms"]), Counter())["pushes"] += 1
    return {day: dict(sorted(counts.items())) for day, counts in days.items() if counts}


def _of_turn(turn: Data, *, has_booking: bool) -> Iterable[str]:
    if turn["delivered_how"] == "push":
        yield "pushes"
    if turn["state"] in {"reserved", "ignored"} or turn["reason"] in {"desk", "nothing_left"}:
        return
    kind = _kind(turn)
    if kind in {"answered", "fixed"} and not turn["answered_ms"]:
        return  # forgotten before it had a reply
    yield from ("turns", kind)
    if any(effect["id"].endswith("-handoff") for effect in turn["effects"]):
        yield "handoffs"
    if has_booking:
        yield "bookings"
    if turn["question_id"]:
        yield "missing"
    yield from ["images"] * turn.get("pictures", 0)
    yield from ["voices" for event in turn["events"] if event.get("media") == "heard"]
    if turn["outcome"].get("opens"):
        yield "conversations"
    if turn["outcome"].get("hour") is not None:
        yield f"hours.{turn['created_at'].astimezone(BANGKOK):%H}"
    if stage := turn["outcome"].get("stage"):
        assert turn["updates"].get("stage", stage) == stage, turn  # none is left of a forgotten customer
        yield f"stages.{stage}"
        if turn["outcome"].get("moved"):
            yield f"reached.{stage}"
    else:
        assert "stage" not in turn["updates"], turn
    if kind == "answered":
        waited_ms = turn["answered_ms"] - min(event["arrived_ms"] for event in turn["events"])
        bounds = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 300, 600, 3600, 86400)
        longest = bounds[-1]
        yield f"waits.{min((b for b in bounds if waited_ms <= b * 1000), default=longest)}"


def _kind(turn: Data) -> str:
    if turn["decision"] == "stop":
        return "stopped"
    failure = turn["failure"] or ""
    if failure and failure != "forgotten" and not failure.startswith("undeliverable"):
        return "fallbacks"
    return "fixed" if turn["decision"] == "none" else "answered"


def _flat(data: Data) -> dict[str, int]:
    flat: dict[str, int] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": count for key, count in value.items()}
        elif isinstance(value, int):
            flat[name] = value
    return dict(sorted((name, count) for name, count in flat.items() if count))


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(BANGKOK).strftime("%Y%m%d")
