"""The clinics file: what a model could not answer, what would leak, what YAML would guess."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core.domain.clinic import Mode
from core.domain.errors import InvalidInputError
from core.domain.prices import load_prices
from core.domain.providers import Provider, Providers
from core.ops.clinics_file import ENTRY, EXAMPLE, Rules, read_clinics_file
from core.ops.clinics_file_lines import ClinicsFile
from tests.support.clock import FakeClock

SECRET = "8c570fa6dd201bb328f1c1eac23a96d8"
BOT = "U8e742f61d673b39c7fff3cecb7536ef0"
LINE = f'{{bot_user_id: {BOT}, channel_id: "1650000001", channel_secret: {SECRET}}}'
Read = Callable[[str], ClinicsFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> ClinicsFile:
        path = tmp_path / "clinics.yaml"
        path.write_text(text, "utf-8")
        return read_clinics_file(path, Rules(load_prices(), FakeClock().now_ms(), 15))

    return read


def one(more: str = "", line: str = LINE) -> str:
    return f"clinics:\n  - org_id: a\n    name: A\n    line: {line}\n{more}"


def refused(read: Read, text: str) -> str:
    with pytest.raises(InvalidInputError) as error:
        read(text)
    return str(error.value)


def test_the_example_shows_every_field_of_a_clinic() -> None:
    assert [field for field in ENTRY if not re.search(rf"\b{field}: ?", EXAMPLE)] == []


@pytest.mark.parametrize(
    "line",
    [
        f'{{bot_user_id: {BOT}, channel_id: "1", channel_secret:{SECRET}}}',
        f'{{bot_user_id: {BOT}, channel_id: "1", chanel_secret:{SECRET}}}',
        f'{{bot_user_id: {BOT}, channel_id: "1", channel_secret: , {SECRET}}}',
        f'{{bot_user_id: {BOT}, channel_id: "1", channel_secret: x, {SECRET.upper()}: 1}}',
    ],
)
def test_a_key_that_may_be_a_secret_is_not_shown(read: Read, line: str) -> None:
    complaint = refused(read, one(line=line))
    assert SECRET not in complaint.lower()
    assert "clinics.yaml:4: a: line" in complaint


def test_a_blank_forgotten_after_a_colon_is_named(read: Read) -> None:
    complaint = refused(read, one(line=f'{{bot_user_id: {BOT}, channel_id: "1", channel_secret:{SECRET}}}'))
    assert "clinics.yaml:4: a: line.channel_secret: a blank is missing after the colon" in complaint


@pytest.mark.parametrize(
    ("head", "value"),
    [("", "!!bool yes"), ("", "!!bool 1"), ("%YAML 1.1\n---\n", "yes"), ("%YAML 1.1\n---\n", "on")],
)
def test_only_true_and_false_are_flags_whatever_the_yaml_version(read: Read, head: str, value: str) -> None:
    line = 5 + head.count("\n")
    complaint = refused(read, head + one(f"    budget: {{hard_stop_enabled: {value}}}\n"))
    assert f"clinics.yaml:{line}: a: budget.hard_stop_enabled: " in complaint
    assert "expected true or false" in complaint


@pytest.mark.parametrize(("value", "meant"), [("true", True), ("false", False), ("True", True)])
def test_a_flag_is_what_it_says(read: Read, value: str, meant: bool) -> None:
    (wanted,) = read(one(f"    budget: {{hard_stop_enabled: {value}}}\n")).wanted.clinics
    assert wanted.budget == {"hard_stop_enabled": meant}


def test_what_two_clinics_share_by_an_anchor_is_refused_where_the_alias_stands(read: Read) -> None:
    text = one(line=f"&shared {LINE}") + "  - org_id: b\n    name: B\n    line: *shared\n"
    complaint = refused(read, text)
    assert "clinics.yaml:7: b: line.bot_user_id: " in complaint
    assert "stands in line 4 too" in complaint


@pytest.mark.parametrize("head", ["", "defaults: {budget: {daily_budget_baht: 1}}\n"])
def test_clinics_with_nothing_below_is_a_mistake(read: Read, head: str) -> None:
    complaint = refused(read, f"{head}clinics:\n")
    assert (
        f"clinics.yaml:{1 + head.count(chr(10))}: clinics: is empty: put `- org_id: …` below it" in complaint
    )


@pytest.mark.parametrize("text", ["[" * 5_000, "clinics: " + "{a: " * 5_000])
def test_a_file_nested_too_deeply_is_refused_in_words(read: Read, text: str) -> None:
    assert "YAML: is nested too deeply" in refused(read, text)


def test_too_few_tokens_for_an_answer_are_refused(read: Read) -> None:
    complaint = refused(read, one("    model: {max_tokens: 99}\n"))
    assert "5: a: model.max_tokens: '99': expected a whole number from 100 to" in complaint


@pytest.mark.parametrize(
    ("model", "most"),
    [("gpt-6.1-terra", 128_000), ("gpt-4o-mini", 16_384), ("gpt-4.1-mini-2025-04-14", 32_768)],
)
def test_a_model_answers_at_most_so_many_tokens(model: str, most: int) -> None:
    prices = load_prices()
    assert prices.too_long_for(model, most) is None
    assert prices.too_long_for(model, most + 1) == most
    assert prices.too_long_for("of nobody's", most + 1) is None


HOURS = """\
    hours: {mon-fri: "10:00-12:00, 13:00-20:00", sat: 22:00-02:00, sun: closed}
    holidays: ["2026-12-31", 2027-01-01]
"""


def test_hours_and_holidays_are_read(read: Read) -> None:
    (wanted,) = read(one(HOURS)).wanted.clinics
    hours = wanted.clinic.hours
    assert hours.in_words() == "mon-fri 10:00-12:00, 13:00-20:00; sat 22:00-02:00; sun closed"
    assert {day.isoformat() for day in hours.holidays} == {"2026-12-31", "2027-01-01"}


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("    hours: 10:00-20:00\n", "5: a: hours: expected days and hours, such as {mon-fri:"),
        ("    hours: {}\n", "5: a: hours: expected days and hours, such as {mon-fri:"),
        ("    hours: {mon: }\n", "5: a: hours: expected days and hours, such as {mon-fri:"),
        ("    hours: {mon: [10, 20]}\n", "5: a: hours: expected days and hours, such as {mon-fri:"),
        ("    hours:\n      mon: 10-20\n", "6: a: hours: '10-20': expected hours such as 10:00-20:00"),
        ("    hours:\n      monday: closed\n", "6: a: hours: 'monday': expected days such as mon"),
        ("    hours:\n      mon-fri: closed\n      tue: 9:00-10:00\n", "7: a: hours: tue is named twice"),
        ("    hours:\n      mon: 9:00-12:00, 11:00-13:00\n", "6: a: hours: '9:00-12:00, 11:00-13:00': spans"),
        ("    holidays: 2026-12-31\n", "5: a: holidays: expected a list of days"),
        ("    holidays:\n      - 2026-02-30\n", "6: a: holidays: '2026-02-30': expected a day such as"),
        ("    mode: night\n", "5: a: mode: 'night': expected live, after_hours, off"),
        ("    mode: true\n", "5: a: mode: 'true': expected live, after_hours, off"),
    ],
)
def test_hours_that_cannot_be_read_are_named_with_their_line(read: Read, more: str, problem: str) -> None:
    assert f"clinics.yaml:{problem}" in refused(read, one(more))


@pytest.mark.parametrize("written", ["off", '"off"', "false", "False"])
def test_off_is_a_mode_however_yaml_takes_it(read: Read, written: str) -> None:
    (wanted,) = read(one(f"    mode: {written}\n")).wanted.clinics
    assert wanted.clinic.mode is Mode.OFF
    assert not wanted.keeps_mode


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("model: {outage_model: gone/gpt-6-luna}", "no provider of that name in LLM_PROVIDERS"),
        ("model: {outage_model: backup/unheard-of}", "has no price"),
        ("providers: [openai, mars]", "'mars': expected names in LLM_PROVIDERS"),
        (
            "providers: [openai]\n    model: {outage_model: backup/gpt-6-luna}",
            "backup/gpt-6-luna is a model of backup, which is not among them",
        ),
    ],
)
def test_models_and_providers_that_are_not_there_are_named(tmp_path: Path, more: str, problem: str) -> None:
    providers = Providers((Provider(), Provider(name="backup")))
    path = tmp_path / "clinics.yaml"
    rules = Rules(load_prices(), FakeClock().now_ms(), 15, providers)
    path.write_text(one("    model: {outage_model: backup/gpt-6-luna}\n"), "utf-8")
    (clinic,) = read_clinics_file(path, rules).wanted.clinics
    assert clinic.model == {"outage_model": "backup/gpt-6-luna"}
    path.write_text(one(f"    {more}\n"), "utf-8")
    with pytest.raises(InvalidInputError, match=re.escape(problem)):
        read_clinics_file(path, rules)
