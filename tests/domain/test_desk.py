from __future__ import annotations

import pytest

from core.domain.desk import Desk, looks_like_code, tap_data, tap_of
from core.domain.event import EventKind, InboundEvent
from core.domain.notice import Action
from core.usecases.desk.connection import _code

NOW_MS = 1_000_000


def event(kind: EventKind, text: str) -> InboundEvent:
    return InboundEvent("E1", "bkk-smile", "C1", kind, NOW_MS, NOW_MS, text=text)


@pytest.mark.parametrize("text", ["A2B3C4D5", " a2b3c4d5\n", "1234567A"])
def test_eight_letters_and_digits_look_like_a_code(text: str) -> None:
    assert looks_like_code(text)


@pytest.mark.parametrize("text", ["", "12345678", "thursday", "A2B3C4D", "A2B3C4D5E", "A2B3 C4D5", "สวัสดี12"])
def test_other_talk_does_not(text: str) -> None:
    assert not looks_like_code(text)


def test_every_code_looks_like_one_and_none_is_drawn_twice() -> None:
    drawn = [_code() for _ in range(500)]
    assert all(map(looks_like_code, drawn))
    assert len(set(drawn)) == 500


def test_a_code_is_known_by_its_clinic_alone_and_is_stored_as_a_hash() -> None:
    desk = Desk("a").with_code("A2B3C4D5", NOW_MS)
    assert desk.matches("a2b3c4d5")
    assert not Desk("b", code_hash=desk.code_hash).matches("A2B3C4D5")
    assert "A2B3C4D5" not in str(desk.encode())
    assert Desk.decode("a", desk.encode()) == desk


@pytest.mark.parametrize(
    "data", ["", "fairlane-desk", "fairlane-desk:take", "fairlane-desk:steal:n", "desk:take:n", "consent"]
)
def test_other_data_is_no_tap(data: str) -> None:
    assert tap_of(event(EventKind.POSTBACK, data)) is None


def test_a_button_says_what_is_tapped_and_words_never_do() -> None:
    data = tap_data(Action.TAKE, "E1:x-handoff")
    assert tap_of(event(EventKind.POSTBACK, data)) == (Action.TAKE, "E1:x-handoff")
    assert tap_of(event(EventKind.TEXT, data)) is None
