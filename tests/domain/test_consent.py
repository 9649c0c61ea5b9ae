from __future__ import annotations

from dataclasses import replace

import pytest

from core.domain import consent
from core.domain.event import EventKind, InboundEvent
from core.domain.memory import CustomerMemory, Fact, ProposedFact
from core.domain.session import Session

WORDS = "ชื่อปุ้ยค่ะ แพ้ยาชา ท้องสามเดือน"
NAME = ProposedFact("nickname", "ปุ้ย", "ชื่อปุ้ย")
ALLERGY = ProposedFact("allergy", "ยาชา", "แพ้ยาชา")
PREGNANT = ProposedFact("pregnancy_month", "3", "ท้องสามเดือน")


def fact(key: str, value: str = "v", turn_id: str = "before") -> Fact:
    return Fact(key, value, turn_id, 1, value)


def learnt(known: CustomerMemory, session: Session, *proposals: ProposedFact) -> consent.Learnt:
    return consent.learn(known, session, proposals, turn_id="t1", at_ms=2, words=WORDS)


def keys(facts: tuple[Fact, ...]) -> list[str]:
    return [fact.key for fact in facts]


@pytest.mark.parametrize(
    ("key", "health"),
    [
        ("allergy", True),
        ("Allergy_penicillin", True),
        ("allergies", True),
        ("illness", True),
        ("medicine_taken", True),
        ("medication", True),
        ("pregnancy", True),
        ("pregnant", True),
        ("nickname", False),
        ("branch", False),
        ("no_allergy_form_sent", False),
    ],
)
def test_health_facts_are_known_by_the_beginning_of_their_key(key: str, health: bool) -> None:
    assert consent.is_health(key) is health


def test_the_first_health_fact_waits_and_the_customer_is_asked_once() -> None:
    first = learnt(CustomerMemory(), Session(), NAME, ALLERGY)
    assert (keys(first.memory.facts), keys(first.awaiting), first.ask) == (["nickname"], ["allergy"], True)
    asked = Session(awaiting_consent=first.awaiting, consent_asked=True)
    second = learnt(first.memory, asked, PREGNANT)
    assert (keys(second.awaiting), second.ask) == (["allergy", "pregnancy_month"], False)
    assert keys(second.memory.facts) == ["nickname"]


def test_with_consent_health_facts_are_facts_like_others() -> None:
    agreed = CustomerMemory((fact("allergy"),), consent=True)
    after = learnt(agreed, Session(), NAME, PREGNANT)
    assert keys(after.memory.facts) == ["allergy", "nickname", "pregnancy_month"]
    assert (after.awaiting, after.ask) == ((), False)


def test_after_a_refusal_nothing_is_kept_and_nobody_is_asked() -> None:
    after = learnt(CustomerMemory(consent=False), Session(), NAME, ALLERGY)
    assert (keys(after.memory.facts), after.awaiting, after.ask) == (["nickname"], (), False)


def test_facts_from_before_wait_for_consent_at_the_next_turn() -> None:
    old = CustomerMemory((fact("nickname"), fact("allergy")))
    after = learnt(old, Session())
    assert (keys(after.memory.facts), keys(after.awaiting), after.ask) == (["nickname"], ["allergy"], True)


def test_consent_remembers_what_waited_and_a_refusal_erases_all_of_it() -> None:
    session = Session(awaiting_consent=(fact("allergy", "new"),), consent_asked=True)
    known = CustomerMemory((fact("allergy", "old"), fact("nickname")))
    agreed, after = consent.decided(known, session, given=True, at_ms=9)
    assert {f.key: f.value for f in agreed.facts} == {"nickname": "v", "allergy": "new"}
    assert (agreed.consent, agreed.consent_ms, after.awaiting_consent) == (True, 9, ())
    assert consent.decided(agreed, after, given=True, at_ms=9) == (agreed, after)
    withdrawn, _ = consent.decided(agreed, session, given=False, at_ms=10)
    assert (keys(withdrawn.facts), withdrawn.consent) == (["nickname"], False)


def test_what_waits_is_known_in_this_conversation() -> None:
    session = Session(awaiting_consent=(fact("allergy", "new"),))
    known = consent.in_prompt(CustomerMemory((fact("nickname"),)), session)
    assert keys(known.facts) == ["nickname", "allergy"]


def test_what_waits_goes_with_the_message_it_came_from() -> None:
    session = Session(awaiting_consent=(fact("allergy", turn_id="t1"), fact("illness", turn_id="t2")))
    assert keys(session.without_turns({"t1"}).awaiting_consent) == ["illness"]
    assert Session.decode(session.encode()) == session


def tap(data: str, **changes: object) -> InboundEvent:
    event = InboundEvent("e", "org", "U1", EventKind.POSTBACK, 1, 1, text=data)
    return replace(event, **changes)  # type: ignore[arg-type]


def test_only_a_tap_in_the_customers_own_chat_decides() -> None:
    assert consent.tapped(tap(consent.GIVE)) is True
    assert consent.tapped(tap(consent.DECLINE)) is False
    assert consent.tapped(tap("action=price")) is None
    assert consent.tapped(tap(consent.GIVE, kind=EventKind.TEXT)) is None
    assert consent.tapped(tap(consent.GIVE, chat_type="group")) is None
