from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.domain.messages import clusters, reply_messages, retry_key, split_text, units

FAMILY = "👨‍👩‍👧‍👦"
THAI_FLAG = "🇹🇭"
LIMIT = 80

THAI_WORDS = ["สวัสดีค่ะ", "น้ำ", "เก็บ", "ผู้ป่วย", "ที่นี่", "ทันตแพทย์", "เปิด", "กี่โมง", "ครับ", "ขูดหินปูน", "คะ"]
SIGNS = [" ", "\n", "\n\n", ". ", "? ", FAMILY, THAI_FLAG, "👍🏽", "❤️", "e\u0301", "1️⃣", "abc", "🦷", "\r\n"]
PIECES = THAI_WORDS + SIGNS

pieces = st.sampled_from(PIECES)
prose = (st.lists(pieces) | st.lists(pieces, min_size=40, max_size=200)).map("".join)
anything = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=100).map("".join)


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


JOINED = re.compile(r"[เแโใไ][ก-ฮ]|.[ะาำ\u200d\U0001f3fb-\U0001f3ff]|\u200d.|\r\n", re.DOTALL)
FLAGS = re.compile("[\U0001f1e6-\U0001f1ff]*$")


def cut_is_visible(before: str, after: str) -> bool:
    """An independent judgement: would a reader see that the text was cut between these two?"""
    inside_a_flag = len("".join(FLAGS.findall(before))) % 2 == 1 and FLAGS.fullmatch(after[0])
    is_mark = unicodedata.category(after[0]).startswith("M")
    return bool(is_mark or inside_a_flag or JOINED.fullmatch(before[-1] + after[0]))


@given(anything)
def test_counts_as_line_counts(text: str) -> None:
    assert units(text) == utf16_units(text)


@given(anything)
def test_clusters_are_the_text_in_pieces(text: str) -> None:
    pieces = list(clusters(text))
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    "whole", ["น้ำ", "ที่", "เก็", "แม่", "ไทย"[:2], FAMILY, THAI_FLAG, "👍🏽", "❤️", "1️⃣", "\r\n", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "한"]
)
def test_one_character_to_a_reader_is_one_cluster(whole: str) -> None:
    assert list(clusters(whole)) == [whole]
    assert list(clusters(f"ก {whole} ข"))[2] == whole


def test_flags_in_a_row_are_cut_between_flags() -> None:
    assert list(clusters(THAI_FLAG * 3)) == [THAI_FLAG] * 3


@given(prose)
@example(("ก" * 79 + " ") * 4 + "ก" * 60)
@example("ที่" * 120)
def test_what_fits_is_delivered_in_full_and_never_cut_inside_a_character(text: str) -> None:
    parts = split_text(text, LIMIT, most=40)
    if utf16_units(text) <= 40 * (LIMIT - 32):
        assert "".join(parts) == text
    assert len(parts) <= 40
    assert all(parts)
    assert all(utf16_units(part) <= LIMIT for part in parts)
    for before, after in pairwise(parts):
        assert not cut_is_visible(before, after)


@given(prose)
def test_what_is_too_long_ends_with_an_ellipsis(start: str) -> None:
    text = start + "ที่นี่เปิดกี่โมงคะ " * 20
    parts = split_text(text, LIMIT, most=3)
    assert len(parts) == 3
    assert parts[-1].endswith("…")
    assert all(utf16_units(part) <= LIMIT for part in parts)
    kept = "".join(parts)[:-1]
    assert text.startswith(kept)
    assert not cut_is_visible(kept, text[len(kept) :])


@given(st.text(alphabet=st.characters(categories=["Mn", "Cs", "So"]), max_size=200))
def test_a_character_longer_than_a_message_is_cut_nevertheless(text: str) -> None:
    parts = split_text(text, 20, most=400)
    assert all(utf16_units(part) <= 20 for part in parts)
    assert "".join(parts) == text


def test_a_short_reply_is_one_message_as_it_is() -> None:
    assert reply_messages(" สวัสดีค่ะ\n") == ({"type": "text", "text": "สวัสดีค่ะ"},)


def test_a_blank_reply_is_no_message() -> None:
    assert reply_messages(" \n ") == ()


@pytest.mark.parametrize(
    ("first", "border", "second"),
    [
        ("ก" * 3000, "\n\n", "ข" * 1000 + "\n" + "ค" * 3000),
        ("ก" * 3000, "\n", "ข" * 1000 + "ค่ะ " + "ค" * 3000),
        ("ก" * 3000, "ค่ะ ", "ข" * 1000 + " " + "ค" * 3000),
        ("ก" * 4900, " ", "ข" * 3000),
    ],
)
def test_long_text_is_split_where_a_reader_would_stop(first: str, border: str, second: str) -> None:
    texts = [message["text"] for message in reply_messages(first + border + second)]
    assert texts == [first + border, second]


def test_a_border_is_given_up_rather_than_the_end_of_the_text() -> None:
    text = ("ก" * 2600 + " " + "ข" * 2400) * 5
    parts = split_text(text[:24_800])
    assert len(parts) == 5
    assert "".join(parts) == text[:24_800]


def test_emoji_count_twice() -> None:
    assert [len(part) for part in split_text("🦷" * 5000)] == [2500, 2500]


def test_half_a_surrogate_pair_is_replaced_and_two_halves_are_joined() -> None:
    (message,) = reply_messages("ก\ud83d ข \ud83e\uddb7")
    assert message["text"] == "ก\ufffd ข 🦷"


def test_quick_replies_stand_under_the_last_message() -> None:
    first, second = reply_messages("ก" * 6000, ["จองคิว", " ราคา ", "จองคิว", ""])
    assert "quickReply" not in first
    actions = [item["action"] for item in second["quickReply"]["items"]]
    assert actions == [
        {"type": "message", "label": "จองคิว", "text": "จองคิว"},
        {"type": "message", "label": "ราคา", "text": "ราคา"},
    ]


@given(prose)
def test_a_quick_replys_label_fits_its_button(text: str) -> None:
    for message in reply_messages("ได้ค่ะ", [text]):
        for item in message.get("quickReply", {}).get("items", ()):
            assert 0 < utf16_units(item["action"]["label"]) <= 20
            assert 0 < utf16_units(item["action"]["text"]) <= 300
            assert item["action"]["text"].rstrip("…").startswith(item["action"]["label"].removesuffix("…"))


def test_the_retry_key_belongs_to_the_turn() -> None:
    assert retry_key("turn-1") == retry_key("turn-1")
    assert retry_key("turn-1") != retry_key("turn-2")
