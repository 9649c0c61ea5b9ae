"""What people type for the same word is one word; what are different words stay different."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain import handoff
from core.domain.clinic import Clinic, Handoff
from core.domain.memory import ProposedFact, merge
from core.domain.thai_text import is_blank, normalized

WORDS = Path(__file__).with_name("thai_words.txt").read_text("utf-8").split()
"""Many of them alike but for one mark, vowel or consonant."""

MARKS = "ัิีึืฺุู็่้๊๋์ํ๎"
ODD = st.sampled_from(
    [*"เแาำํ่้๊๋์ีิื็ุูกขน", *"\u200b\u200d\ufeff\u00ad", *"’“ \néﬁß"],
)
CLINIC = Clinic("a", "A", "U1", "1", handoff=Handoff(("แอดมิน", "เจ้าหน้าที่", "staff")))


def mistyped(word: str, dice: random.Random) -> str:
    """`word` as people type it who see the same on their screen."""
    shown = word.replace("แ", dice.choice(["แ", "เเ"])).replace("ำ", dice.choice(["ำ", "ํา"]))
    letters: list[str] = []
    for letter in shown:
        letters.append(letter)
        if letter in MARKS and dice.random() < 0.3:
            letters.append(letter)
        if dice.random() < 0.2:
            letters.append(dice.choice(["\u200b", "\u200c", "\ufeff", "\u2060", "\ufe0f"]))
    for i in range(len(letters) - 1):
        if letters[i] in MARKS and letters[i + 1] in MARKS and dice.random() < 0.5:
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def test_there_are_five_hundred_words() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 500


def test_words_that_are_typed_well_stay_as_they_are() -> None:
    assert [word for word in WORDS if normalized(word) != word] == []


@settings(max_examples=500)
@given(st.sampled_from(WORDS), st.randoms(use_true_random=False))
def test_a_word_is_the_same_however_it_was_typed_and_never_another(word: str, dice: random.Random) -> None:
    assert normalized(mistyped(word, dice)) == word


@settings(max_examples=200)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), st.sampled_from([" ", "\n", "\t", "\u3000"]))
def test_words_apart_stay_apart(words: list[str], between: str) -> None:
    assert normalized(between.join(words)).split(" ") == words


@settings(max_examples=1_000)
@given(st.text(max_size=12) | st.lists(ODD, max_size=12).map("".join))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalized(text)
    assert normalized(once) == once


def test_no_character_is_unstable() -> None:
    strange = [
        c for c in map(chr, range(0x110000)) if not c.isascii() and normalized(normalized(c)) != normalized(c)
    ]
    assert strange == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("เเอดมิน", "แอดมิน"),
        ("แอด\u200bมิน", "แอดมิน"),
        ("เจ้าหน้าท่ี", "เจ้าหน้าที่"),
        ("เจ้้าหน้าที่", "เจ้าหน้าที่"),
        ("นํ้า", "น้ำ"),
        ("น้ํา", "น้ำ"),
        ("นำ้", "น้ำ"),
        ("ทํา", "ทำ"),
        ("ＡＤＭＩＮ", "admin"),
        ("“don’t”", '"don\'t"'),
        ("ราคา\u00a0 900\r\nบาท", "ราคา 900 บาท"),
        ("\u202eราคา\u202c", "ราคา"),
    ],
)
def test_what_a_reader_sees_is_what_counts(typed: str, meant: str) -> None:
    assert normalized(typed) == meant


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\u200b\u200d", "\ufeff", "\u3164", "\u2800", "\ufe0f", "\u00ad\u2060", "\x00\x07"]
)
def test_what_nobody_can_see_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["ก", "?", "❤️", "👨‍👩‍👧", "ๆ", "1"])
def test_what_can_be_seen_is_not(text: str) -> None:
    assert not is_blank(text)


@pytest.mark.parametrize("text", ["ขอคุยกับเเอดมินค่ะ", "แอด\u200bมิน", "ขอเจ้าหน้าท่ีค่ะ", "เจ้้าหน้าที่"])
def test_people_are_called_however_they_are_spelt(text: str) -> None:
    assert handoff.asked_for_people(CLINIC, [text]) is not None


@pytest.mark.parametrize("text", ["ขอคุยกับแอดมินค่ะ"])
def test_a_keyword_may_be_mistyped_too(text: str) -> None:
    clinic = Clinic("a", "A", "U1", "1", handoff=Handoff(("เเอดมิน",)))
    assert handoff.asked_for_people(clinic, [text]) == "เเอดมิน"


def test_a_fact_rests_on_words_however_they_were_typed() -> None:
    proposal = ProposedFact("allergy", "เพนิซิลลิน", "แพ้ยาเพนิซิลลิน น้ำ")
    [fact] = merge((), [proposal], turn_id="t", at_ms=1, words="เเพ้ยาเพนิซิล\u200bลิน  นํ้า ค่ะ")
    assert fact.value == "เพนิซิลลิน"
    blank = ProposedFact("allergy", "x", "\u200b")
    assert merge((), [blank], turn_id="t", at_ms=1, words="แพ้\u200bยา") == ()
