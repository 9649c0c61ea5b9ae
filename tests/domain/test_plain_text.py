from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.plain_text import plain

URL = "https://clinic.example/a_b_c?x=1*2*3&y=(z)"


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("**ฟอกสีฟัน** [จองคิว](https://x.example/q)", "ฟอกสีฟัน จองคิว https://x.example/q"),
        (f"[จองคิว]({URL})ค่ะ", f"จองคิว {URL} ค่ะ"),
        (f"[{URL}]({URL})", URL),
        (f"[]({URL})", URL),
        (f'ดู [แผนที่](<{URL}> "แผนที่"), ค่ะ', f"ดู แผนที่ {URL}, ค่ะ"),
        (f"![รูป]({URL})", f"รูป {URL}"),
        (f"**[จอง]({URL})**", f"จอง {URL}"),
        (f"**[จอง]({URL})**ค่ะ *{URL}*", f"จอง {URL} ค่ะ {URL}"),
        ("**https://x.example/a__b**ค่ะ", "https://x.example/a__bค่ะ"),
        (f"[**จอง**]({URL})", f"จอง {URL}"),
        (f"<{URL}>", URL),
        (f'<a href="{URL}">จอง</a><br>ได้<b>เลย</b>', f"จอง {URL}\nได้เลย"),
        (f"ราคา[1]\n\n[1]: {URL}", f"ราคา[1]\n\n[1] {URL}"),
        (URL, URL),
        ("[จอง](ถึง 31 ธ.ค.)", "[จอง] (ถึง 31 ธ.ค.)"),
        ("[โทร](tel:021234567)", "โทร tel:021234567"),
        ("# บริการ\n## ราคา ##\nบริการ\n=====", "บริการ\nราคา\nบริการ"),
        ("- ขูด\n* ฟอก\n  + ใส\n- [x] แล้ว\n1. หนึ่ง", "• ขูด\n• ฟอก\n  • ใส\n• แล้ว\n1. หนึ่ง"),
        ("> เปิด 9 โมง\n>> ค่ะ", "เปิด 9 โมง\nค่ะ"),
        ("ก\n\n---\n\nข\n* * *\n", "ก\n\nข"),
        ("```json\nได้ค่ะ\n```", "ได้ค่ะ"),
        ("`จอง` ~~900~~ 500", "จอง (900) 500"),
        ("__หนา__ _เอียง_ *เอียง*ค่ะ ***ทั้งคู่***ค่ะ", "หนา เอียง เอียงค่ะ ทั้งคู่ค่ะ"),
        ("| บริการ | ราคา |\n|---|--:|\n| ขูด | **900** |", "บริการ · ราคา\nขูด · 900"),
        ("บริการ | ราคา\n--|--\nขูด | 900\nจบ", "บริการ · ราคา\nขูด · 900\nจบ"),
        (r"\*\*หนา\*\* 5\. &amp; &lt;3", "หนา 5. & <3"),
        ("ก\n\n\n\n\nข   \n", "ก\n\nข"),
    ],
)
def test_markdown_becomes_text(markdown: str, text: str) -> None:
    assert plain(markdown) == text


@pytest.mark.parametrize(
    "text",
    [
        *[
            "900 บาท* (*ไม่รวมค่าแพทย์)",
            "2*3*4 = 24",
            "081-***-1234",
            "a_b_c @bkk_smile_1",
            "#ฟอกฟัน #1",
            "3 < 5 > 2",
        ],
        *[
            "ราคา 39,000-65,000 บาท",
            "A|B",
            "> 500 บาท",
            "+66 2 123 4567",
            "-10%",
            "[ว่าง]",
            "(ปกติ)",
            "a & b",
            "1) ก",
        ],
        *["C:\\คลินิก", "m_e@clinic.example", "https://x.example/_a_/~~b~~/*c*d__e"],
    ],
)
def test_what_is_no_markdown_stays(text: str) -> None:
    assert plain(text) == text


MARKS = [
    *[
        "*",
        "**",
        "_",
        "__",
        "~~",
        "`",
        "```",
        "#",
        "# ",
        ">",
        "- ",
        "+ ",
        "|",
        "|--|",
        "[",
        "]",
        "(",
        ")",
        "](",
        "![",
    ],
    *[
        "<",
        ">",
        "<b>",
        "<a href=",
        "https://a.b",
        "\\",
        "&amp;",
        "&lt;",
        "=",
        "---",
        ":",
        '"',
        "\u200b",
        "👩\u200d👧",
    ],
    *["ก", "a", "1", " ", "\n", "\n\n", "    "],
]
written = st.lists(st.sampled_from(MARKS), max_size=40).map("".join)


@given(written | st.text())
def test_no_link_is_left_and_nothing_changes_the_second_time(text: str) -> None:
    cleaned = plain(text)
    assert "](" not in cleaned
    assert plain(cleaned) == cleaned


@given(written, st.sampled_from(["/x_y_z", "/*a*", "/~a", "/a(b)c", "?q=1&r=[2", "#a-b"]), written)
def test_a_links_address_stays_whole(before: str, path: str, after: str) -> None:
    address = f"https://clinic.example{path.replace('[', '%5B')}"
    assert f"จอง {address}" in plain(f"ดู\n\n[จอง]({address})\n\n{after}")


@pytest.mark.parametrize(
    "mark", [*MARKS, "**a ", "~~a ", "[a](b ", '[a](b "', "](  ", "[a]: x", "- - ", "_ _ ", "<a ", "[\n"]
)
def test_a_flood_of_marks_takes_no_time(mark: str) -> None:
    began = time.process_time()
    plain(f"x{mark * (20_000 // len(mark))}y)")
    assert time.process_time() - began < 1.0
