"""What a conversation knows after its turns, in whatever order it is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.domain.clinic import Clinic
from core.domain.event import EventKind, InboundEvent
from core.domain.inbound_policy import HANDED_OVER
from core.domain.memory import CustomerMemory
from core.domain.moment import Moment
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.domain.turn import Money, TurnEvent, TurnRecord, TurnState, journaled
from core.usecases.turn.context import heard, session_after
from tests.support.turn_samples import BEGUN_MS, sample

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
    session = session_after(session_after(Session(), later, 0), earlier, 0)
    assert [exchange.turn_id for exchange in session.exchanges] == ["t1", "t2"]
    assert (session.service, session.preference, session.stage) == ("whitening", None, "advising")


def test_what_ended_before_the_conversation_began_is_not_part_of_it() -> None:
    long_ago = ended("t1", 0, updates={"service": "scaling"}, line_message_ids=("s1",))
    assert session_after(Session(), long_ago, BEGUN_MS + 1) == Session()
    delivered_now = replace(long_ago, delivered_ms=BEGUN_MS + 1)
    assert session_after(Session(), delivered_now, BEGUN_MS + 1).service == "scaling", "it waited for LINE"


def test_budget_notice_counts_when_it_was_read_and_the_newest_counts() -> None:
    stopped = {"state": TurnState.FAILED, "failure": "budget", "money": Money(decision="stop")}
    session = session_after(Session(), ended("t2", 2, **stopped), 0)
    assert session.last_budget_notice_ms == BEGUN_MS + 2 * MINUTE_MS
    assert session_after(session, ended("t1", 1, **stopped), 0) == session
    assert session_after(session, ended("t3", 3, **stopped, delivered_how="none"), 0) == session


def event(kind: EventKind, text: str = "", hint: str = "") -> TurnEvent:
    return journaled(InboundEvent("E1", "any", "U1", kind, 1, 1, text=text, hint=hint))


@pytest.mark.parametrize(
    ("events", "reply", "said"),
    [
        ((event(EventKind.IMAGE),), "fixed", "[image]"),
        ((event(EventKind.STICKER, "ขอบคุณค่ะ", "bow, thanks"),), "yes", "ขอบคุณค่ะ\n[sticker: bow, thanks]"),
        (
            (event(EventKind.STICKER, hint="bow"), event(EventKind.TEXT, "ราคา")),
            "900",
            "[sticker: bow]\nราคา",
        ),
        ((event(EventKind.FOLLOW),), "welcome", "[added the clinic on LINE]"),
        (
            (event(EventKind.FILE), event(EventKind.AUDIO), event(EventKind.VIDEO)),
            "fixed",
            "[file]\n[audio]\n[video]",
        ),
    ],
)
def test_what_has_no_words_leaves_a_note_with_what_was_answered(
    events: tuple[TurnEvent, ...], reply: str, said: str
) -> None:
    fixed = ended("t1", 1, events=events, reply=reply, money=Money(decision="none", reason="image"))
    (exchange,) = session_after(Session(), fixed, 0).exchanges
    assert (exchange.customer_text, exchange.reply) == (said, reply)


def test_only_a_greeting_or_an_answer_greets() -> None:
    fixed = {"money": Money(decision="none"), "reply": "text"}
    assert not session_after(Session(), ended("t1", 1, **fixed), 0).greeted
    assert session_after(Session(), ended("t1", 1, **fixed, events=(event(EventKind.FOLLOW),)), 0).greeted


def test_a_question_that_got_the_busy_text_is_not_forgotten() -> None:
    busy = {"state": TurnState.FAILED, "failure": "patience", "reply": "busy", "delivered_how": "reply"}
    (exchange,) = session_after(Session(), ended("t1", 1, **busy), 0).exchanges
    assert exchange.reply == "busy"
    unread = {**busy, "failure": "undeliverable: quota", "delivered_how": "none"}
    assert session_after(Session(), ended("t1", 1, **unread), 0) == Session()


def test_a_fixed_text_in_between_leaves_what_was_learnt_as_it_is() -> None:
    asked = {
        "updates": {
            "service": "whitening",
            "consent_asked": True,
            "awaiting_consent": [
                {"key": "allergy", "value": "x", "turn_id": "t1", "at_ms": 1, "because": "x"}
            ],
        }
    }
    before = session_after(Session(), ended("t1", 1, **asked), 0)
    after = session_after(before, ended("t2", 2, money=Money(decision="none"), reply="sticker text"), 0)
    assert len(after.exchanges) == 2
    assert replace(after, exchanges=before.exchanges) == before


def test_what_is_said_to_people_is_heard_and_no_reply_is_made_up() -> None:
    draft = ended("t1", 1, events=(event(EventKind.TEXT, "นัดวันศุกร์นะคะ"),))
    session = heard(Session(), draft, HANDED_OVER)
    (exchange,) = session.exchanges
    assert (exchange.customer_text, exchange.reply) == ("[to the clinic's people]\nนัดวันศุกร์นะคะ", "")
    prompt = build_prompt(
        Clinic("any", "Any", "", ""), session, CustomerMemory(), ["สรุปนัดวันไหน"], Moment(BEGUN_MS)
    )
    assert [m.role for m in prompt.messages] == ["system", "system", "user", "user"]
    assert heard(Session(), ended("t1", 1, events=()), HANDED_OVER) == Session()
