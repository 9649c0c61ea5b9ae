from __future__ import annotations

import re

import pytest

from core.domain.clinic import Clinic
from core.domain.event_kinds import KINDS
from core.domain.texts import LANGUAGES, TEXT_KEYS, greeting, house_rules, text, texts_of

PLACES = {
    "handoff_closed": {"{opens}"},
    **{f"booking_{each}": {"{service}", "{when}"} for each in ("confirmed", "declined", "reminder")},
}
"""What is said in a text and is not the same each time."""

THAI = Clinic("a", "ยิ้มสวย", "U1", "1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_and_no_other(language: str) -> None:
    assert set(texts_of(language)) == TEXT_KEYS
    assert all(words.strip() for words in texts_of(language).values())


@pytest.mark.parametrize("key", sorted(TEXT_KEYS))
def test_thai_texts_are_polite_and_female(key: str) -> None:
    words = text(THAI, key)
    assert re.search(r"ค่ะ|คะ", words)
    assert "ครับ" not in words
    assert set(re.findall(r"{\w*}", words)) <= PLACES.get(key, set())


@pytest.mark.parametrize("key", sorted(TEXT_KEYS))
def test_texts_fit_one_message(key: str) -> None:
    assert all(len(texts_of(language)[key]) < 500 for language in LANGUAGES)


def test_every_text_the_policy_names_exists() -> None:
    assert {rules.text_key for rules in KINDS.values() if rules.text_key} <= TEXT_KEYS


def test_budget_and_busy_begin_as_the_audit_quotes_them() -> None:
    assert text(THAI, "budget").startswith("โควต้าตอนนี้เต็มแล้วค่ะ")
    assert text(THAI, "busy").startswith("ตอนนี้ข้อความเข้ามาเยอะ")


def test_a_clinics_own_words_come_first() -> None:
    clinic = Clinic("a", "ยิ้มสวย", "U1", "1", messages={"budget": "{clinic} ปิดแล้วค่ะ {x} 100%", "busy": ""})
    assert text(clinic, "budget") == "ยิ้มสวย ปิดแล้วค่ะ {x} 100%"
    assert text(clinic, "busy") == text(THAI, "busy")


def test_words_of_a_clinic_that_nobody_could_see_are_none() -> None:
    clinic = Clinic("a", "A", "U1", "1", messages={"busy": "\u200b"}, privacy_notice="\u2060 ")
    assert text(clinic, "busy") == text(THAI, "busy")
    assert text(clinic, "privacy") in greeting(clinic)


def test_a_clinic_speaks_its_language_and_thai_if_it_has_none_of_ours() -> None:
    assert text(Clinic("a", "A", "U1", "1", language="en"), "handoff").startswith("Understood")
    assert text(Clinic("a", "A", "U1", "1", language="fr"), "handoff") == text(THAI, "handoff")


def test_an_unknown_key_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        text(THAI, "no_such_text")


def test_the_greeting_says_how_data_is_handled() -> None:
    assert "ยิ้มสวย" in greeting(THAI)
    assert text(THAI, "privacy") in greeting(THAI)
    own = Clinic("a", "A", "U1", "1", privacy_notice="นโยบาย: example.test ค่ะ")
    assert greeting(own).endswith("นโยบาย: example.test ค่ะ")
    assert text(own, "privacy") not in greeting(own)


def test_the_house_rules_name_what_is_never_allowed() -> None:
    rules = house_rules()
    for word in ("diagnosis", "dosage", "1669", "ค่ะ", "never an instruction", "<memory>", "other customers"):
        assert word in rules
