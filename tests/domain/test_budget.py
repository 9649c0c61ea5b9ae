"""The decision before every call: primary, fallback or stop; never overspent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.budget import (
    Candidate,
    DayBooks,
    Hold,
    Kind,
    Reason,
    budget_day,
    crossed_thresholds,
    decide,
    may_grow,
)
from core.domain.clinic import BudgetPolicy

BAHT = 1_000_000
POLICY = BudgetPolicy(daily_budget_baht=Decimal(100))
PRIMARY = Candidate("big", 2 * BAHT)
FALLBACK = Candidate("small", BAHT // 5)


def after(spent_baht: float, held_baht: float = 0) -> DayBooks:
    return DayBooks(spent=round(spent_baht * BAHT), held=round(held_baht * BAHT))


@pytest.mark.parametrize(
    ("spent", "held", "kind", "reason"),
    [
        (0, 0, Kind.PRIMARY, Reason.WITHIN_THRESHOLD),
        (78, 0, Kind.PRIMARY, Reason.WITHIN_THRESHOLD),  # 78 + 2 is the threshold itself
        (78.000001, 0, Kind.FALLBACK, Reason.THRESHOLD_REACHED),
        (60, 18.000001, Kind.FALLBACK, Reason.THRESHOLD_REACHED),
        (99.8, 0, Kind.FALLBACK, Reason.THRESHOLD_REACHED),
        (99.800001, 0, Kind.STOP, Reason.BUDGET_SPENT),
        (0, 99.9, Kind.STOP, Reason.BUDGET_SPENT),
    ],
)
def test_the_decision_follows_what_is_spent_and_held(
    spent: float, held: float, kind: Kind, reason: Reason
) -> None:
    decision = decide(POLICY, after(spent, held), PRIMARY, FALLBACK)
    assert (decision.kind, decision.reason, decision.flagged) == (kind, reason, False)
    expected = {Kind.PRIMARY: ("big", 2 * BAHT), Kind.FALLBACK: ("small", BAHT // 5), Kind.STOP: (None, 0)}
    assert (decision.model, decision.worst_micro_baht) == expected[kind]


@pytest.mark.parametrize(
    ("policy", "fallback"),
    [
        (replace(POLICY, model_downgrade_enabled=False), FALLBACK),
        (POLICY, None),
        (POLICY, replace(FALLBACK, model="big")),
    ],
    ids=["downgrade off", "no fallback", "fallback is the primary"],
)
def test_without_a_downgrade_the_primary_runs_up_to_the_whole_budget(
    policy: BudgetPolicy, fallback: Candidate | None
) -> None:
    within = decide(policy, after(98), PRIMARY, fallback)
    assert (within.kind, within.reason) == (Kind.PRIMARY, Reason.WITHIN_BUDGET)
    assert decide(policy, after(98.000001), PRIMARY, fallback).kind is Kind.STOP


def test_without_a_hard_stop_a_spent_budget_goes_on_with_the_fallback_and_is_flagged() -> None:
    soft = replace(POLICY, hard_stop_enabled=False)
    decision = decide(soft, after(100), PRIMARY, FALLBACK)
    assert (decision.model, decision.kind, decision.flagged) == ("small", Kind.FALLBACK, True)
    assert decision.reason is Reason.BUDGET_SPENT_NO_HARD_STOP
    alone = decide(soft, after(100), PRIMARY, None)
    assert (alone.model, alone.kind, alone.flagged) == ("big", Kind.PRIMARY, True)


def test_a_budget_of_nothing_stops_every_turn() -> None:
    policy = replace(POLICY, daily_budget_baht=Decimal(0))
    decision = decide(policy, DayBooks(), PRIMARY, FALLBACK)
    assert decision.kind is Kind.STOP
    assert crossed_thresholds(DayBooks(), decision, 0) == (50, 80, 100)


policies = st.builds(
    BudgetPolicy,
    daily_budget_baht=st.decimals(0, 1000, places=6),
    hard_stop_enabled=st.just(True),
    model_downgrade_enabled=st.booleans(),
    downgrade_threshold=st.decimals(0, 2, places=3),
)
worsts = st.integers(0, 50 * BAHT)


@given(policy=policies, calls=st.lists(st.tuples(worsts, st.none() | worsts, st.floats(0, 1)), max_size=60))
def test_no_sequence_of_decisions_ever_commits_more_than_the_budget(
    policy: BudgetPolicy, calls: list[tuple[int, int | None, float]]
) -> None:
    day = DayBooks()
    for primary, fallback, used in calls:
        second = None if fallback is None else Candidate("small", fallback)
        decision = decide(policy, day, Candidate("big", primary), second)
        day = replace(day, held=day.held + decision.worst_micro_baht)
        assert day.committed <= policy.daily_budget_baht * BAHT
        if used > 0.5:  # settles now, for what it used; others run on
            actual = int(decision.worst_micro_baht * used)
            day = replace(day, held=day.held - decision.worst_micro_baht, spent=day.spent + actual)


def test_a_retry_may_hold_more_only_while_the_budget_has_room() -> None:
    assert may_grow(POLICY, after(90, 8), 2 * BAHT)
    assert not may_grow(POLICY, after(90, 8), 2 * BAHT + 1)
    assert may_grow(replace(POLICY, hard_stop_enabled=False), after(90, 8), 20 * BAHT)


def test_each_threshold_is_crossed_once_a_day() -> None:
    day, events = DayBooks(), []
    for _ in range(600):
        decision = decide(POLICY, day, PRIMARY, FALLBACK)
        crossed = crossed_thresholds(day, decision, 100 * BAHT)
        events += [(percent, decision.kind) for percent in crossed]
        spent = day.spent + decision.worst_micro_baht
        day = replace(day, spent=spent, thresholds=day.thresholds | set(crossed))
    assert events == [(50, Kind.PRIMARY), (80, Kind.PRIMARY), (100, Kind.FALLBACK)]


def test_a_rest_that_pays_for_no_call_counts_as_used_up() -> None:
    day = replace(after(99.9), thresholds=frozenset({50, 80}))
    assert crossed_thresholds(day, decide(POLICY, day, PRIMARY, FALLBACK), 100 * BAHT) == (100,)


def test_the_day_changes_at_midnight_in_bangkok() -> None:
    last_second = datetime(2026, 11, 24, 16, 59, 59, 999_000, tzinfo=UTC)
    ms = round(last_second.timestamp() * 1000)
    assert budget_day(ms, "Asia/Bangkok") == "20261124"
    assert budget_day(ms + 1, "Asia/Bangkok") == "20261125"
    assert budget_day(ms + 1, "UTC") == "20261124"


def test_books_are_read_from_the_days_document_and_from_none() -> None:
    assert DayBooks.parse(None) == DayBooks()
    day = DayBooks.parse(
        {
            "spent": 5,
            "held": 7,
            "holds": {"t1": {"amount": 7, "expires_ms": 1000, "model": "big"}},
            "thresholds": {"50": True},
            "by_model": {"big": {"turns": 1}},
        }
    )
    assert day.committed == 12
    assert day.expired(999) == ()
    assert day.expired(1000) == (Hold("t1", 7, 1000, "big"),)
    assert day.thresholds == {50}
    assert day.by_model["big"] == {
        "turns": 1,
        "input": 0,
        "cached": 0,
        "cache_write": 0,
        "output": 0,
        "spent_micro_baht": 0,
    }
