"""What opening hours and mode mean for a turn, and how an opening is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from core.domain.clinic import Clinic, Mode
from core.domain.hours import opening_hours
from core.domain.memory import CustomerMemory
from core.domain.moment import Moment
from core.domain.opening import MODE_AFTER_HOURS, MODE_OFF, handed_over, silence_of, state_of
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.domain.spoken_days import spoken_in_full
from core.domain.texts import text

HOURS = opening_hours(
    {"mon-fri": "10:00-20:00", "sat": "10:00-18:00", "sun": "closed"}, ["2026-12-31", "2027-01-01"]
)
CLINIC = Clinic("bkk", "Bangkok Smile", "U1", "1", hours=HOURS)


def moment(text: str) -> Moment:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Bangkok"))
    return Moment(round(local.timestamp() * 1000))


@pytest.mark.parametrize(
    ("now", "thai", "english"),
    [
        ("2026-11-30 08:59", "วันนี้ 10.00 น.", "today at 10:00"),
        ("2026-11-30 20:00", "พรุ่งนี้ 10.00 น.", "tomorrow at 10:00"),
        ("2026-11-28 18:00", "วันจันทร์นี้ 10.00 น.", "on Monday at 10:00"),
        ("2026-12-30 23:30", "วันเสาร์นี้ 10.00 น.", "on Saturday at 10:00"),
    ],
)
def test_while_closed_a_customer_reads_when_the_clinic_opens(now: str, thai: str, english: str) -> None:
    assert f"เมื่อคลินิกเปิด {thai} นะคะ" in handed_over(CLINIC, moment(now))
    assert f"opens {english}." in handed_over(replace(CLINIC, language="en"), moment(now))


def test_an_opening_more_than_a_week_away_is_said_with_its_date() -> None:
    days = [f"2026-12-{day:02}" for day in range(25, 32)] + [f"2027-01-{day:02}" for day in range(1, 4)]
    clinic = replace(CLINIC, hours=opening_hours(HOURS.written(), days))
    assert "เมื่อคลินิกเปิด วันจันทร์ที่ 4 มกราคม 10.00 น. นะคะ" in handed_over(clinic, moment("2026-12-24 21:00"))


def test_a_day_in_full_has_weekday_and_date() -> None:
    at = moment("2026-12-05 14:00").local
    assert spoken_in_full(at, "th") == "วันเสาร์ที่ 5 ธันวาคม 14.00 น."
    assert spoken_in_full(at, "en") == "on Saturday 5 December at 14:00"


@pytest.mark.parametrize("clinic", [CLINIC, replace(CLINIC, hours=opening_hours({}))])
def test_while_open_or_without_hours_it_is_the_plain_text(clinic: Clinic) -> None:
    assert handed_over(clinic, moment("2026-11-30 12:00")) == text(clinic, "handoff")


def test_a_clinic_that_never_opens_promises_no_hour() -> None:
    clinic = replace(CLINIC, hours=opening_hours({"mon": "closed"}))
    assert handed_over(clinic, moment("2026-11-30 12:00")) == text(clinic, "handoff")


def test_a_clinic_can_say_it_in_its_own_words() -> None:
    clinic = replace(CLINIC, messages={"handoff_closed": "{clinic} เปิด {opens}"})
    assert handed_over(clinic, moment("2026-11-30 20:00")) == "Bangkok Smile เปิด พรุ่งนี้ 10.00 น."


@pytest.mark.parametrize(
    ("mode", "now", "reason"),
    [
        (Mode.LIVE, "2026-11-30 12:00", ""),
        (Mode.LIVE, "2026-11-30 21:00", ""),
        (Mode.OFF, "2026-11-30 12:00", MODE_OFF),
        (Mode.OFF, "2026-11-30 21:00", MODE_OFF),
        (Mode.AFTER_HOURS, "2026-11-30 09:59", ""),
        (Mode.AFTER_HOURS, "2026-11-30 10:00", MODE_AFTER_HOURS),
        (Mode.AFTER_HOURS, "2026-11-30 19:59", MODE_AFTER_HOURS),
        (Mode.AFTER_HOURS, "2026-11-30 20:00", ""),
    ],
)
def test_the_mode_says_when_the_bot_is_silent(mode: Mode, now: str, reason: str) -> None:
    assert silence_of(replace(CLINIC, mode=mode), moment(now)) == reason


def test_the_prompt_says_whether_the_clinic_is_open_and_its_beginning_stays_the_same() -> None:
    prompts = {
        now: build_prompt(CLINIC, Session(), CustomerMemory(), ["?"], moment(now)).messages
        for now in ("2026-11-30 12:00", "2026-11-28 18:00", "2026-12-30 20:00")
    }
    assert len({messages[0].content for messages in prompts.values()}) == 1
    (stable, *_), *_ = prompts.values()
    assert "Opening hours: mon-fri 10:00-20:00; sat 10:00-18:00; sun closed" in stable.content
    assert "Closed on: 2026-12-31, 2027-01-01" in stable.content
    assert '"clinic":"open"' in prompts["2026-11-30 12:00"][1].content
    assert '"clinic":"closed","opens":"Monday 2026-11-30 10:00"' in prompts["2026-11-28 18:00"][1].content
    assert '"clinic":"closed","opens":"Saturday 2027-01-02 10:00"' in prompts["2026-12-30 20:00"][1].content


def test_without_hours_nothing_is_said_of_them() -> None:
    assert state_of(replace(CLINIC, hours=opening_hours({})), moment("2026-11-30 12:00")) == {}
