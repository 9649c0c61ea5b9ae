from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.clinic import Retention
from core.domain.event import Conversation, EventKind, InboundEvent
from core.domain.memory import (
    FORGOTTEN_FOR_MS,
    MAX_CHARS,
    MAX_FACTS,
    MAX_KEY_CHARS,
    CustomerMemory,
    Fact,
    ProposedFact,
    document_id,
    merge,
)

NOW_MS = 1_795_485_600_000
DAY_MS = 86_400_000
KEPT = Retention(memory_days=365, unfollow_days=30)


def learn(
    facts: tuple[Fact, ...], *proposals: ProposedFact, turn: str = "t1", words: str
) -> tuple[Fact, ...]:
    return merge(facts, proposals, turn_id=turn, at_ms=NOW_MS, words=words)


def test_a_fact_keeps_its_turn_date_and_the_words_it_rests_on() -> None:
    facts = learn((), ProposedFact("Drug  Allergy", " เพนิซิลลิน ", "แพ้เพนิซิลลิน"), words="หนูแพ้เพนิซิลลินค่ะ")
    assert facts == (Fact("drug_allergy", "เพนิซิลลิน", "t1", NOW_MS, "แพ้เพนิซิลลิน"),)


@pytest.mark.parametrize("because", ["", "  ", "I am the manager", "ฉันคือผู้จัดการ"])
def test_what_the_customer_did_not_say_is_not_remembered(because: str) -> None:
    assert learn((), ProposedFact("role", "manager", because), words="สวัสดีค่ะ") == ()


def test_spaces_and_case_do_not_matter_to_the_words() -> None:
    assert learn((), ProposedFact("name", "May", "call  me\nMAY"), words="Please call me May!")


def test_the_newest_wins_and_counts_as_new() -> None:
    facts = learn((), ProposedFact("name", "A", "a"), ProposedFact("branch", "Siam", "b"), words="a b")
    facts = learn(facts, ProposedFact("name", "C", "c"), turn="t2", words="c")
    assert [(f.key, f.value, f.turn_id) for f in facts] == [("branch", "Siam", "t1"), ("name", "C", "t2")]


def test_an_empty_value_forgets() -> None:
    facts = learn((), ProposedFact("name", "A", "a"), words="a")
    assert learn(facts, ProposedFact("name", " ", "not a"), words="not a") == ()


def test_learning_a_turn_twice_changes_nothing() -> None:
    proposals = (ProposedFact("a", "1", "x"), ProposedFact("b", "2", "x"))
    once = learn((), *proposals, words="x")
    assert learn(once, *proposals, words="x") == once


def test_facts_are_bounded_in_number_and_length_oldest_first() -> None:
    facts: tuple[Fact, ...] = ()
    for n in range(MAX_FACTS + 5):
        facts = learn(facts, ProposedFact(f"k{n}", "v" * 999, "w"), words="w")
    assert [fact.key for fact in facts] == [f"k{n}" for n in range(5, MAX_FACTS + 5)]
    assert {len(fact.value) for fact in facts} == {MAX_CHARS}
    [long] = learn((), ProposedFact("k" * 99, "v", "w" * 999), words="w" * 999)
    assert (len(long.key), len(long.because)) == (MAX_KEY_CHARS, MAX_CHARS)


def test_a_document_is_read_back() -> None:
    memory = CustomerMemory((Fact("a", "1", "t", NOW_MS, "x"),)).handed_off(NOW_MS + 1, "keyword")
    document = memory.encode(NOW_MS, KEPT)
    assert CustomerMemory.decode(document, NOW_MS) == memory
    assert document["expire_at"] == datetime.fromtimestamp(NOW_MS / 1000, UTC) + timedelta(days=365)


def test_an_expired_document_is_ignored_though_the_store_still_has_it() -> None:
    document = CustomerMemory((Fact("a", "1", "t", 0),)).encode(NOW_MS, Retention(memory_days=30))
    assert CustomerMemory.decode(document, NOW_MS + 30 * DAY_MS - 1).facts
    assert CustomerMemory.decode(document, NOW_MS + 30 * DAY_MS) == CustomerMemory()


def test_who_left_is_kept_from_then_on_whatever_is_written_and_who_is_back_as_long_as_others() -> None:
    left = CustomerMemory((Fact("a", "1", "t", 0),), unfollowed_ms=NOW_MS)
    for written_ms in (NOW_MS, NOW_MS + 20 * DAY_MS):
        document = left.encode(written_ms, KEPT)
        assert CustomerMemory.decode(document, NOW_MS + 30 * DAY_MS - 1) == left
        assert CustomerMemory.decode(document, NOW_MS + 30 * DAY_MS) == CustomerMemory()
    back = replace(left, unfollowed_ms=None)
    document |= back.changes(left, NOW_MS, KEPT)
    assert CustomerMemory.decode(document, NOW_MS + 364 * DAY_MS) == back


def test_an_unfollow_of_the_future_prolongs_nothing() -> None:
    document = CustomerMemory((Fact("a", "1", "t", 0),), unfollowed_ms=2**53 - 1).encode(NOW_MS, KEPT)
    assert CustomerMemory.decode(document, NOW_MS + 30 * DAY_MS) == CustomerMemory()


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"facts": None},
        {"facts": "x"},
        {"facts": [None, 7, {"key": "a"}, {"key": "a", "value": "b", "turn_id": "t", "at_ms": "never"}]},
        {"handoff_until_ms": "later", "expire_at": 7},
    ],
)
def test_a_damaged_document_costs_nobody_an_answer(data: dict[str, Any] | None) -> None:
    assert CustomerMemory.decode(data, NOW_MS) == CustomerMemory()


def test_a_handoff_ends_by_time_or_on_a_word() -> None:
    memory = CustomerMemory().handed_off(NOW_MS + 1000, "keyword")
    assert memory.in_handoff(NOW_MS + 999)
    assert not memory.in_handoff(NOW_MS + 1000)
    assert not memory.resumed(NOW_MS).in_handoff(NOW_MS)
    assert not CustomerMemory().in_handoff(NOW_MS)


def test_what_an_unsent_message_taught_is_forgotten() -> None:
    memory = CustomerMemory((Fact("a", "1", "t1", 0), Fact("b", "2", "t2", 0)))
    assert [fact.key for fact in memory.without_turns({"t1"}).facts] == ["b"]


def test_two_clinics_keep_one_customer_apart() -> None:
    ids = {document_id(Conversation(org, "line", "U1")) for org in ("a", "b")}
    assert ids == {"a:U1", "b:U1"}


def test_a_turn_does_not_write_over_a_hand_off_or_consent_that_it_did_not_change() -> None:
    before = CustomerMemory()
    learnt = replace(before, facts=(Fact("name", "Ploy", "t1", 1),))
    assert learnt.changes(before, 0, KEPT).keys() == {"facts", "unfollowed_ms", "expire_at"}
    handed_off = learnt.handed_off(5, "asked")
    agreed = replace(handed_off, consent=True, consent_ms=1, urgent_ms=1, urgent_told_ms=1)
    agreed = replace(agreed, forgotten={"U1": 1})
    theirs = {"consent", "consent_ms", "urgent_ms", "urgent_told_ms", "forgotten"}
    assert handed_off.changes(before, 0, KEPT).keys() == agreed.encode(0, KEPT).keys() - theirs
    assert agreed.changes(before, 0, KEPT) == agreed.encode(0, KEPT)


def test_what_was_on_its_way_is_known_for_a_week() -> None:
    event = InboundEvent("e", "org", "U1", EventKind.TEXT, 5, 1_000)
    forgotten = CustomerMemory().forgetting("U1", 1_000)
    assert forgotten.is_forgotten(event)
    assert not forgotten.is_forgotten(replace(event, arrived_ms=1_001))
    assert not forgotten.is_forgotten(replace(event, chat_id="C1", user_id="U2"))
    stored = forgotten.encode(1_000, KEPT)
    assert CustomerMemory.decode(stored, 1_000) == forgotten
    assert CustomerMemory.decode(stored, 1_000 + FORGOTTEN_FOR_MS) == CustomerMemory()
