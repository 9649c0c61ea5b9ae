from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.visible import is_damaged, looks_empty, visible

EMOJI = [
    *[
        "😀",
        "❤️",
        "☎️",
        "☎︎",
        "👍🏽",
        "☝🏽",
        "👨‍👩‍👧‍👦",
        "👩🏽‍❤️‍💋‍👨🏻",
        "🏳️‍🌈",
        "🏴‍☠️",
        "👁️‍🗨️",
        "🧑🏾‍⚕️",
        "🐻‍❄️",
        "🙂‍↕️",
    ],
    *["🇹🇭", "🇯🇵🇹🇭", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "1️⃣", "#️⃣", "*️⃣", "©️", "™️", "🦷"],
]
UNSEEN = [
    chr(i)
    for i in (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0xAD, 0x202E, 0x2067, 0x3164, 0xFE0F, 0xE0061, 0x34F)
]
CONTROLS = [chr(i) for i in (*range(0x20), *range(0x7F, 0xA0)) if chr(i) not in "\t\n\r"]

anything = st.lists(
    st.sampled_from(EMOJI + UNSEEN + CONTROLS + ["ก", "น้ำ", "a", "1", " ", "\n", "\r\n", "\u2028"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.characters(categories=["Cf", "Mn", "Cc", "Zs"])
).map("".join)


@pytest.mark.parametrize("emoji", EMOJI)
def test_an_emoji_stays_whole(emoji: str) -> None:
    assert visible(emoji) == emoji
    assert visible(f"ฟัน{emoji}ค่ะ {emoji}{emoji}") == f"ฟัน{emoji}ค่ะ {emoji}{emoji}"
    assert not looks_empty(emoji)


@pytest.mark.parametrize("unseen", UNSEEN)
def test_what_shows_nothing_goes_elsewhere(unseen: str) -> None:
    assert visible(f"แอด{unseen}มิน{unseen}") == "แอดมิน"
    assert visible(f"{unseen}a{unseen}") == "a"
    assert looks_empty(unseen * 3)


def test_pieces_of_an_emoji_sequence_show_nothing_either() -> None:
    assert visible("👩\u200d") == "👩"
    assert visible("👩\u200dก") == "👩ก"
    assert visible("\u200d👩") == "👩"
    assert visible("👩\u200d\u200d👨") == "👩👨"
    assert visible("1\ufe0f2") == "12"
    assert visible("😀\U000e0067\U000e007f") == "😀"
    assert visible("🏴\U000e0067\U000e0062") == "🏴"
    assert visible("😀" + "\u200d😀" * 50).count("\u200d") < 50


def test_every_format_character_of_unicode_shows_nothing() -> None:
    formats = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) == "Cf"]
    assert [hex(ord(char)) for char in formats if visible(f"ก{char}ข") != "กข"] == []


def test_line_ends_become_line_feeds_and_a_tab_a_space() -> None:
    assert visible("a\r\nb\rc\u2028d\u2029e\nf\tg") == "a\nb\nc\nd\ne\nf g"


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_character_is_damage_and_goes(control: str) -> None:
    assert is_damaged(f"ฟอก{control}ฟัน")
    assert visible(f"ฟอก{control}ฟัน") == "ฟอกฟัน"


def test_white_space_is_no_damage() -> None:
    assert not is_damaged("ได้ค่ะ\r\n\t \u00a0\u200b\n")


@pytest.mark.parametrize(
    "text", ["", " \n\u00a0\u3000", "\u2800", "\u115f\u1160\uffa0", "\u0e49", "\ufe0f", "\x07"]
)
def test_what_nobody_sees_looks_empty(text: str) -> None:
    assert looks_empty(text)


@given(anything)
def test_is_idempotent_and_takes_nothing_that_is_seen(text: str) -> None:
    cleaned = visible(text)
    assert visible(cleaned) == cleaned
    assert looks_empty(text) == looks_empty(cleaned)
    letters = [
        char
        for char in text
        if unicodedata.category(char)[0] in "LNPS" and char not in "\u115f\u1160\u3164\uffa0"
    ]
    assert [char for char in cleaned if unicodedata.category(char)[0] in "LNPS"] == letters
