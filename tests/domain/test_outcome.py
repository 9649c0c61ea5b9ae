"""A turn counts what came of it: by its document alone, and the same after its words were erased."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.domain.outcome import KINDS, WAITS_S, Outcome, difference, turn_counts
from core.domain.turn import FORGOTTEN, Money, TurnRecord, TurnState
from tests.support.turn_samples import BEGUN_MS, sample

A, D, F, R, G = (
    TurnState.ANSWERED,
    TurnState.DELIVERED,
    TurnState.FAILED,
    TurnState.RESERVED,
    TurnState.IGNORED,
)
WHOLE = Outcome(
    opens=True, hour=0, stage="booking", moved=True, handed_off=True, booked=True, images=2, voices=1
)


def turn(
    state: TurnState = D, decision: str = "primary", failure: str | None = None, **more: Any
) -> TurnRecord:
    money = Money(day="20261124", decision=decision, reason=more.pop("reason", ""))
    return sample("t", state=state, failure=failure, money=money, **more)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (turn(R, answered_ms=None), None),
        (turn(G, "none"), None),
        (turn(A), "answered"),
        (turn(D), "answered"),
        (turn(D, "fallback"), "answered"),
        (turn(D, "none"), "fixed"),
        (turn(D, "none", reason="desk"), None),
        (turn(D, "none", reason="nothing_left"), None),
        (turn(F, "stop", "budget"), "stopped"),
        (turn(A, "stop", "budget"), "stopped"),
        (turn(F, "primary", "budget"), "fallbacks"),
        (turn(F, "", "patience"), "fallbacks"),
        (turn(F, "primary", "attempts", answered_ms=None), "fallbacks"),
        (turn(F, "primary", "undeliverable: quota"), "answered"),
        (turn(F, "none", "undeliverable: unknown"), "fixed"),
        (turn(F, "primary", FORGOTTEN, answered_ms=None), None),
        (turn(F, "primary", FORGOTTEN), "answered"),
    ],
)
def test_a_turn_is_of_one_kind_by_who_made_its_reply(record: TurnRecord, kind: str | None) -> None:
    counts = turn_counts(record)
    assert [name for name in KINDS if counts.get(name)] == ([kind] if kind else [])
    assert counts.get("turns", 0) == sum(counts.get(name, 0) for name in KINDS)


def test_a_turn_counts_what_came_of_it_and_erasing_its_words_changes_nothing() -> None:
    record = turn(outcome=WHOLE, question_id="q", delivered_how="push", answered_ms=BEGUN_MS + 3_000)
    ones = "turns answered conversations handoffs bookings missing voices pushes hours.00 waits.5"
    counts = {**dict.fromkeys(ones.split(), 1), "images": 2, "stages.booking": 1, "reached.booking": 1}
    assert turn_counts(record) == counts
    assert turn_counts(record.without_words()) == counts
    assert turn_counts(TurnRecord.decode(record.id, record.encode())) == counts


@pytest.mark.parametrize("seconds", WAITS_S)
def test_a_wait_counts_under_the_smallest_number_of_seconds_that_it_does_not_exceed(seconds: int) -> None:
    record = turn()
    arrived_ms = record.events[0].arrived_ms
    exact = replace(record, answered_ms=arrived_ms + seconds * 1000)
    longer = replace(record, answered_ms=arrived_ms + seconds * 1000 + 1)
    after = next((bound for bound in WAITS_S if bound > seconds), seconds)
    assert turn_counts(exact)[f"waits.{seconds}"] == turn_counts(longer)[f"waits.{after}"] == 1


def test_a_difference_takes_back_what_is_not_true_any_more() -> None:
    assert difference({"turns": 1, "answered": 1}, {"turns": 1, "fallbacks": 1}) == {
        "answered": -1,
        "fallbacks": 1,
    }


def test_an_outcome_survives_its_document() -> None:
    for outcome in (Outcome(), WHOLE, Outcome(hour=0)):
        assert Outcome.decode(outcome.encode()) == outcome
    assert Outcome.decode({"opens": True, "newer": 1}) == Outcome(opens=True)
    assert Outcome.decode(None) == Outcome()
