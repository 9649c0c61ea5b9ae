"""What stands in a reply, however it is typed."""

from __future__ import annotations

import pytest

from core.domain.stages import Stage
from core.usecases.rehearse.cases import Expectations
from core.usecases.rehearse.expectations import Ending, stands_in, unmet


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("900", "ราคา 900 บาท"),
        ("900", "ราคา ๙๐๐ บาท"),
        ("900", "ราคา900บาท"),
        ("3900", "3,900 บาท"),
        ("3,900", "3900 บาท"),
        ("39,000-65,000", "39000-65000 บาท"),
        ("แพทย์", "เเพทย์ค่ะ"),
        ("น้ำ", "น้ํา"),
        ("HELLO", "well, Hello there"),
        ("a  b", "A\nb"),
    ],
)
def test_a_word_stands_there_however_it_is_typed(word: str, text: str) -> None:
    assert stands_in(word, text)


@pytest.mark.parametrize(
    ("word", "text"),
    [("900", "9,000 บาท"), ("900", "1,900"), ("900", "9001"), ("1669", "016690"), ("ก", "ข")],
)
def test_a_number_stands_there_only_as_a_whole(word: str, text: str) -> None:
    assert not stands_in(word, text)


def test_what_is_not_asked_for_does_not_matter() -> None:
    assert list(unmet(Expectations(), Ending("", handoff=True, booking=True, stage=Stage.DONE))) == []
