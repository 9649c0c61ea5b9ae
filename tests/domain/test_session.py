from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.session import HISTORY_TOKENS, SENT_IDS, Session
from core.domain.stages import Stage


def after(session: Session, n: int, text: str = "ถาม", reply: str = "ตอบ", **more: Any) -> Session:
    return session.with_turn(f"t{n}", at_ms=n, customer_text=text, reply=reply, **more)


def test_what_is_stored_is_read_back() -> None:
    session = Session(last_budget_notice_ms=5)
    updates = {"service": "ขูดหินปูน", "area": "สาขาสยาม", "stage": "advising", "preference": "เช้า"}
    session = after(session, 1, updates=updates).with_sent(["s1"])
    assert Session.decode(session.encode()) == session
    assert (session.service, session.stage, session.greeted) == ("ขูดหินปูน", Stage.ADVISING, True)


def test_the_schema_version_is_stored() -> None:
    assert json.loads(Session().encode()) == {"v": 1, "stage": "greeting"}


@pytest.mark.parametrize(
    "stored",
    [
        None,
        b"",
        b"\xff\xfe",
        b"not json",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"v":0,"service":"old"}',
        b'{"v":2,"service":"newer"}',
        b'{"v":1,"stage":"flying"}',
        b'{"v":1,"exchanges":[{"turn_id":"t"}]}',
        b'{"v":1,"exchanges":7}',
        b'{"v":1,"exchanges":["x"]}',
        b'{"v":1,"last_budget_notice_ms":"soon"}',
    ],
)
def test_a_state_that_cannot_be_read_begins_afresh(stored: bytes | None) -> None:
    assert Session.decode(stored) == Session()


@given(st.binary())
def test_no_stored_bytes_crash(stored: bytes) -> None:
    assert isinstance(Session.decode(stored), Session)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3)))
def test_no_stored_value_crashes(value: object) -> None:
    for name in (
        "service",
        "stage",
        "exchanges",
        "sent_message_ids",
        "last_budget_notice_ms",
        "greeted",
        "learnt_from",
    ):
        Session.decode(json.dumps({"v": 1, name: value}).encode())


def test_a_turn_that_is_told_twice_counts_once() -> None:
    once = after(Session(), 1, updates={"service": "a"})
    assert after(once, 1, "other", updates={"service": "b"}) == once


def test_updates_that_name_nothing_leave_the_state_as_it_is() -> None:
    session = after(Session(), 1, updates={"service": "a", "stage": "booking"})
    session = after(session, 2, updates={"service": " ", "area": None, "unknown": "x"})
    assert (session.service, session.area, session.stage) == ("a", None, Stage.BOOKING)


def test_an_impossible_stage_is_not_taken_over() -> None:
    assert after(Session(), 1, updates={"stage": "done"}).stage is Stage.GREETING


def test_the_oldest_exchanges_go_first_and_pairs_stay_whole() -> None:
    session = Session()
    for n in range(20):
        session = after(session, n, "ก" * 300, "ข" * 300)
    kept = [exchange.turn_id for exchange in session.exchanges]
    assert kept == [f"t{n}" for n in range(20 - len(kept), 20)]
    assert all((len(e.customer_text), len(e.reply)) == (300, 300) for e in session.exchanges)
    assert HISTORY_TOKENS - 1800 < sum(e.tokens for e in session.exchanges) <= HISTORY_TOKENS


def test_one_exchange_beyond_the_bound_is_cut_but_its_turn_stays_known() -> None:
    session = after(after(Session(), 1), 2, "ก" * 100_000, "ข" * 100_000)
    assert [e.turn_id for e in session.exchanges] == ["t2"]
    assert 0 < session.exchanges[0].tokens <= HISTORY_TOKENS
    assert after(session, 2) == session
    assert Session.decode(session.encode()) == session


def test_half_a_surrogate_pair_does_no_harm() -> None:
    assert isinstance(Session.decode(after(Session(), 1, "\ud83d" * 9000).encode()), Session)


def test_forgotten_turns_take_their_exchanges_and_what_was_learnt_from_them_along() -> None:
    session = after(Session(), 1, updates={"service": "ขูดหินปูน", "preference": "เช้า", "stage": "advising"})
    session = after(session, 2, "เบอร์ 081", "รับทราบ 081 ค่ะ", updates={"preference": "โทร 081", "area": "081"})
    session = after(session, 3, updates={"area": "สาขาสยาม"})
    forgotten = session.without_turns({"t2"})
    assert [e.turn_id for e in forgotten.exchanges] == ["t1", "t3"]
    assert (forgotten.service, forgotten.preference, forgotten.area) == ("ขูดหินปูน", None, "สาขาสยาม")
    assert forgotten.stage is Stage.ADVISING
    assert "081" not in forgotten.encode().decode()
    assert session.without_turns(()) == session.without_turns(["other"]) == session


def test_a_wish_that_is_known_of_no_turn_is_forgotten_with_any() -> None:
    assert Session(service="old").without_turns(["t1"]).service is None


def test_a_turn_that_is_told_late_takes_its_place_and_changes_nothing_else() -> None:
    early = {"service": "ขูดหินปูน", "stage": "booking"}
    session = after(Session(), 2, updates={"service": "ฟอกสีฟัน", "stage": "advising"})
    session = after(session, 1, updates=early)
    assert [e.turn_id for e in session.exchanges] == ["t1", "t2"]
    assert (session.service, session.stage) == ("ฟอกสีฟัน", Stage.ADVISING)
    assert after(session, 1, updates=early) == session


def test_only_the_newest_of_our_messages_are_remembered_and_each_once() -> None:
    session = Session().with_sent(["s0", "s1"]).with_sent(["s1"])
    assert session.sent_message_ids == ("s0", "s1")
    session = session.with_sent([f"n{n}" for n in range(SENT_IDS)])
    assert session.sent_message_ids == tuple(f"n{n}" for n in range(SENT_IDS))
