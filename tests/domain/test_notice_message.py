"""A notice as LINE takes it, whatever customers and models have written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.clinic import NOTICE_KINDS, Clinic
from core.domain.notice import Action, Notice, NoticeKind, NoticeState, Tap
from core.domain.notice_message import notice_messages, open_matters
from core.local.line_rules import problems

CLINIC = Clinic("bkk-smile", "Bangkok Smile", "U" + "0" * 32, "1650000001")
NOTICE = Notice("E1-handoff", "bkk-smile", NoticeKind.HANDOFF, 1, name="ส้ม", detail="wants a refund")
ANY = st.text(max_size=600)


@given(
    name=ANY, words=ANY, detail=ANY, kind=st.sampled_from(NoticeKind), language=st.sampled_from(["th", "en"])
)
def test_line_takes_every_notice(name: str, words: str, detail: str, kind: NoticeKind, language: str) -> None:
    clinic = replace(CLINIC, language=language)
    notice = replace(NOTICE, kind=kind, name=name, detail=detail)
    messages = notice_messages(clinic, notice, words)
    assert problems([*messages]) == []
    assert (messages[0]["type"] == "template") is bool(notice.actions)
    assert problems([{"type": "text", "text": open_matters(clinic, [notice] * 30)}]) == []


def test_words_give_way_to_the_name_and_the_reason() -> None:
    (message,) = notice_messages(CLINIC, NOTICE, "ปวดฟัน" * 100)
    for text in (message["template"]["text"], message["altText"]):
        assert all(part in text for part in ("ส้ม", "wants a refund", "«ปวดฟัน"))
    assert len(message["altText"]) > 300


def test_every_kind_that_a_clinic_may_want_is_one() -> None:
    assert list(NOTICE_KINDS) == list(NoticeKind)


@pytest.mark.parametrize("state", NoticeState)
def test_a_notice_comes_back_as_it_was_written(state: NoticeState) -> None:
    tapped = replace(NOTICE, state=state).tapped(Action.TAKE, Tap("E2", 5, "นก", "U1"))
    assert Notice.decode(tapped.id, tapped.encode()) == tapped
