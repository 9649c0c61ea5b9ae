from __future__ import annotations

import pytest

from core.domain import handoff
from core.domain.clinic import Clinic, Handoff

CLINIC = Clinic("a", "A", "U1", "1", handoff=Handoff(("ติดต่อเจ้าหน้าที่", "human", "ขอคุยกับ คน"), hours=3))


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("อยากติดต่อเจ้าหน้าที่หน่อยค่ะ", "ติดต่อเจ้าหน้าที่"),
        ("I want a HUMAN!", "human"),
        ("ｈｕｍａｎ please", "human"),
        ("ขอคุยกับ  คน ได้ไหม", "ขอคุยกับ คน"),
        ("humanity is great", None),
        ("superhuman", None),
        ("ราคาเท่าไหร่คะ", None),
        ("", None),
    ],
)
def test_keywords_are_found_where_they_are_words(text: str, keyword: str | None) -> None:
    assert handoff.asked_for_people(CLINIC, ["สวัสดีค่ะ", text]) == keyword


def test_a_clinic_without_keywords_has_none() -> None:
    assert handoff.asked_for_people(Clinic("a", "A", "U1", "1"), ["human"]) is None


def test_an_empty_keyword_matches_nothing() -> None:
    clinic = Clinic("a", "A", "U1", "1", handoff=Handoff(("", "  ")))
    assert handoff.asked_for_people(clinic, ["สวัสดีค่ะ"]) is None


def test_the_bot_is_silent_for_the_clinics_hours() -> None:
    assert handoff.until_ms(CLINIC, 1000) == 1000 + 3 * 3_600_000
