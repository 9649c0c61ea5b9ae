"""What a conversation knows after its turns, in whatever order it is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.domain.session import Session
from core.domain.turn import Money, TurnRecord, TurnState
from core.usecases.turn_scene import told
from tests.usecases.turn_samples import BEGUN_MS, sample

MINUTE_MS = 60_000


def ended(turn_id: str, minute: int, **fields: Any) -> TurnRecord:
    """A turn of the model's, answered and delivered at that minute."""
    at_ms = BEGUN_MS + minute * MINUTE_MS
    times = {"created_ms": at_ms, "answered_ms": at_ms, "delivered_ms": at_ms}
    delivered = {"state": TurnState.DELIVERED, "failure": None, "money": Money(model="big")}
    return sample(turn_id, **{**times, **delivered, **fields})


def test_what_a_later_turn_has_set_stays_when_an_earlier_one_is_told_after_it() -> None:
    later = ended("t2", 2, updates={"service": "whitening", "stage": "advising"})
    earlier = ended("t1", 1, updates={"service": "scaling", "preference": "mornings", "stage": "booking"})
    session = told(told(Session(), later, 0), earlier, 0)
    assert [exchange.turn_id for exchange in session.exchanges] == ["t1", "t2"]
    assert (session.service, session.preference, session.stage) == ("whitening", None, "advising")


def test_what_ended_before_the_conversation_began_is_not_part_of_it() -> None:
    long_ago = ended("t1", 0, updates={"service": "scaling"}, line_message_ids=("s1",))
    assert told(Session(), long_ago, BEGUN_MS + 1) == Session()
    delivered_now = replace(long_ago, delivered_ms=BEGUN_MS + 1)
    assert told(Session(), delivered_now, BEGUN_MS + 1).service == "scaling", "it waited for LINE"


def test_budget_notice_counts_when_it_was_read_and_the_newest_counts() -> None:
    stopped = {"state": TurnState.FAILED, "failure": "budget", "money": Money(decision="stop")}
    session = told(Session(), ended("t2", 2, **stopped), 0)
    assert session.last_budget_notice_ms == BEGUN_MS + 2 * MINUTE_MS
    assert told(session, ended("t1", 1, **stopped), 0) == session
    assert told(session, ended("t3", 3, **stopped, delivered_how="none"), 0) == session
