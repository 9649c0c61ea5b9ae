"""Prices and approved answers in the clinics file: what would be wrong in writing is refused with a line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.errors import InvalidInputError
from core.domain.prices import load_prices
from core.ops.clinics_file import Rules, read_clinics_file
from core.ops.clinics_file_lines import ClinicsFile
from tests.support.clock import FakeClock

HEAD = """\
clinics:
  - org_id: a
    name: A
    line: {bot_user_id: U8e742f61d673b39c7fff3cecb7536ef0, channel_id: "1", channel_secret: s}
"""
Read = Callable[[str], ClinicsFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> ClinicsFile:
        path = tmp_path / "clinics.yaml"
        path.write_text(text, "utf-8")
        return read_clinics_file(path, Rules(load_prices(), FakeClock().now_ms(), 15))

    return read


def one(more: str = "") -> str:
    return HEAD + more


def refused(read: Read, text: str) -> str:
    with pytest.raises(InvalidInputError) as error:
        read(text)
    return str(error.value)


def priced(*prices: str, more: str = "") -> str:
    return one("    prices:\n" + "".join(f"      - {price}\n" for price in prices) + more)


def test_prices_and_answers_are_read_as_they_stand(read: Read) -> None:
    text = priced(
        "{item: ขูดหินปูน, baht: 900}",
        "{item: ฟอกสีฟัน, baht: 3900.50, from: 2026-12-01, until: 2026-12-31, note: โปรปลายปี}",
        "{item: จัดฟัน, baht: [39000, 65000]}",
        more="    answers: [{q: มีที่จอดรถไหม, a: มีค่ะ หน้าคลินิก 10 คัน}]\n    price_guard: false\n",
    )
    (wanted,) = read(text).wanted.clinics
    assert wanted.clinic.prices == (
        ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900)),
        ListedPrice(
            "ฟอกสีฟัน",
            Decimal("3900.50"),
            Decimal("3900.50"),
            date(2026, 12, 1),
            date(2026, 12, 31),
            "โปรปลายปี",
        ),
        ListedPrice("จัดฟัน", Decimal(39000), Decimal(65000)),
    )
    assert wanted.clinic.answers == (ApprovedAnswer("มีที่จอดรถไหม", "มีค่ะ หน้าคลินิก 10 คัน"),)
    assert not wanted.clinic.guards_prices


@pytest.mark.parametrize(("more", "guards"), [("", True), ("    price_guard: false\n", False)])
def test_prices_are_guarded_unless_the_clinic_says_no(read: Read, more: str, guards: bool) -> None:
    (wanted,) = read(priced("{item: ขูดหินปูน, baht: 900}", more=more)).wanted.clinics
    assert wanted.clinic.guards_prices is guards
    (bare,) = read(one()).wanted.clinics
    assert not bare.clinic.guards_prices


SCALING = "{item: ขูดหินปูน, baht: 900}"


@pytest.mark.parametrize(
    ("prices", "complaint"),
    [
        ([SCALING, SCALING], "7: a: prices[1].item: 'ขูดหินปูน' has the same price in line 6, valid at"),
        (
            [SCALING, "{item: ขูด หินปูน, baht: 800}"],
            "7: a: prices[1].item: 'ขูด หินปูน' has a price of 900 baht in",
        ),
        (
            [SCALING, "{item: ขูดหินปูน, baht: 800, from: 2027-01-01}"],
            "7: a: prices[1].item: 'ขูดหินปูน' has a price",
        ),
        (
            [
                "{item: ฟอกสีฟัน, baht: 1, until: 2026-12-31}",
                "{item: อุดฟัน, baht: 1}",
                "{item: ฟอกสีฟัน, baht: 2, from: 2026-12-31}",
            ],
            "8: a: prices[2].item: 'ฟอกสีฟัน' has a price of 1 baht in line 6",
        ),
        (
            ["{item: a, baht: 1, from: 2026-12-02, until: 2026-12-01}"],
            "6: a: prices[0].until: 2026-12-01 is before",
        ),
        (
            ["{item: a, baht: 1, from: 2026-02-30}"],
            "6: a: prices[0].from: '2026-02-30': there is no such day",
        ),
        (
            ["{item: a, baht: 1, until: tomorrow}"],
            "6: a: prices[0].until: 'tomorrow': expected a day such as",
        ),
        (["{item: a, baht: -1}"], "6: a: prices[0].baht: expected an amount such as 900"),
        (["{item: a, baht: 1.005}"], "6: a: prices[0].baht: expected an amount such as 900"),
        (["{item: a, baht: [1, 2, 3]}"], "6: a: prices[0].baht: expected an amount such as 900"),
        (["{item: a, baht: [2, 1]}"], "6: a: prices[0].baht: expected the lower amount of a range first"),
        (["{item: a}"], "6: a: prices[0].baht: expected an amount such as 900"),
        (["{baht: 1}"], "6: a: prices[0].item: is missing: expected the name of what is priced"),
        (["{item: a, bath: 1}"], "6: a: prices[0].bath: unknown field: did you mean baht?"),
        (["900"], "6: a: prices[0]: expected fields: item, baht, from, until, note"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_price_that_can_not_hold_is_named_with_its_line(
    read: Read, prices: list[str], complaint: str
) -> None:
    assert f"clinics.yaml:{complaint}" in refused(read, priced(*prices))


def test_every_price_that_is_wrong_is_named_at_once(read: Read) -> None:
    complaint = refused(read, priced(SCALING, SCALING, "{item: a, baht: x}", "{item: b, baht: 1, until: x}"))
    assert complaint.startswith("3 problems")


def test_prices_one_after_another_hold(read: Read) -> None:
    text = priced(
        "{item: ฟอกสีฟัน, baht: 5900, until: 2026-11-30}",
        "{item: ฟอกสีฟัน, baht: 3900, from: 2026-12-01, until: 2026-12-31}",
        "{item: ฟอกสีฟัน, baht: 5900, from: 2027-01-01}",
    )
    assert len(read(text).wanted.clinics[0].clinic.prices) == 3


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ("[{q: a, a: b}, {q: A, a: c}]", "5: a: answers[1].q: 'A' is answered in line 5 too"),
        ("[{q: a}]", "5: a: answers[0].a: is missing: expected its answer"),
        ('[{q: a, a: "\\u200b"}]', "5: a: answers[0].a: expected text that customers can see"),
    ],
)
def test_an_answer_that_can_not_be_given_is_named(read: Read, answers: str, complaint: str) -> None:
    assert f"clinics.yaml:{complaint}" in refused(read, one(f"    answers: {answers}\n"))


@pytest.mark.parametrize(
    ("persona", "said"),
    [
        ("ขูดหินปูน 800 บาท", "800 บาท"),
        ("ขูดหินปูนเริ่มต้น ๘๐๐ บาท", "800 บาท"),
        ("ขูดหินปูน 800", "800"),
        ("ขูดหินปูน แปดร้อยบาท", "แปดร้อยบาท"),
        ("เปิดทุกวัน ขูดหินปูนราคา 900-1,000 บาท จัดฟัน 70,000 บาท", "70,000 บาท"),
        ("จัดฟัน 38,999 บาท", "38,999 บาท"),
    ],
)
def test_a_persona_that_contradicts_the_list_is_refused(read: Read, persona: str, said: str) -> None:
    text = priced(SCALING, "{item: จัดฟัน, baht: [39000, 65000]}", more=f"    persona: {persona}\n")
    assert f"clinics.yaml:8: a: persona: says {said} of" in refused(read, text)
    answer = priced(
        SCALING, "{item: จัดฟัน, baht: [39000, 65000]}", more=f"    answers: [{{q: a, a: '{persona}'}}]\n"
    )
    assert f"clinics.yaml:8: a: answers: says {said} of" in refused(read, answer)


@pytest.mark.parametrize(
    "persona",
    [
        "ขูดหินปูน 900 บาท อุดฟัน 800 บาท",
        "ขูดหินปูนและจัดฟัน 45,000 บาท",
        "จัดฟันผ่อนเดือนละ 1,500 บาท",
        "ขูดหินปูนลด 100 บาท",
        "ขูดหินปูน 30 นาที โทร 02-123-4567 เปิด 10.00–20.00 น.",
        "รากฟันเทียม 50,000 บาท",
    ],
)
def test_a_persona_that_agrees_with_the_list_or_speaks_of_something_else_is_taken(
    read: Read, persona: str
) -> None:
    text = priced(SCALING, "{item: จัดฟัน, baht: [39000, 65000]}", more=f"    persona: {persona}\n")
    assert read(text).wanted.clinics[0].clinic.persona == persona
