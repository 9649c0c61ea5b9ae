"""Documents that operators edit by hand: read as far as they can be right, named where they can't."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.clinic import BudgetPolicy, Clinic, Handoff, Limits, Mode, ModelConfig
from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.errors import InvalidInputError
from core.domain.hours import opening_hours
from core.usecases.clinics.documents import (
    budget_document,
    channel_document,
    clinic_from,
    model_document,
    org_document,
    org_of_channel,
    stored_number,
)

FULL = Clinic(
    org_id="bkk-smile",
    name="ยิ้มสวย",
    bot_user_id="U8e742f61d673b39c7fff3cecb7536ef0",
    channel_id="0165",
    persona="อบอุ่น\n",
    language="en",
    memory=False,
    privacy_notice="…",
    model=ModelConfig("gpt-6-luna", 300, None),
    budget=BudgetPolicy(Decimal("300.10"), False, False, Decimal("0.55"), None),
    limits=Limits(3, 45),
    handoff=Handoff(("staff", "แอดมิน"), 4),
    messages={"busy": "รอสักครู่ค่ะ"},
    hours=opening_hours({"mon-fri": "10:00-12:00, 13:00-20:00", "sat": "22:00-02:00"}, ["2026-12-31"]),
    mode=Mode.AFTER_HOURS,
    prices=(
        ListedPrice("ขูดหินปูน", Decimal(900), Decimal(900)),
        ListedPrice(
            "จัดฟัน", Decimal("39000.50"), Decimal(65000), date(2026, 12, 1), date(2026, 12, 31), "โปร"
        ),
    ),
    answers=(ApprovedAnswer("มีที่จอดรถไหม", "มีค่ะ"),),
    price_guard=False,
)


def test_a_clinic_is_the_same_after_both_ways() -> None:
    model, budget = model_document(FULL.model), budget_document(FULL.budget)
    assert clinic_from(FULL.org_id, org_document(FULL), model, None, budget, None) == FULL
    assert org_of_channel(FULL.bot_user_id, channel_document(FULL.org_id)) == FULL.org_id


def test_a_clinic_that_says_nothing_follows_the_defaults_and_these_the_built_in_ones() -> None:
    bare = clinic_from("a", {}, None, None, None, None)
    assert bare == Clinic("a", "a", "", "")
    model, budget = {"max_tokens": 50, "temperature": 1}, {"daily_budget_baht": 7, "fallback_model": None}
    clinic = clinic_from("a", {}, {"max_tokens": 60}, model, {"hard_stop_enabled": False}, budget)
    assert clinic.model == ModelConfig(max_tokens=60, temperature=1.0)
    assert clinic.budget == BudgetPolicy(Decimal(7), hard_stop_enabled=False, fallback_model=None)


@pytest.mark.parametrize("amount", [300, 300.0, "300", "300.00", Decimal(300)])
def test_an_amount_may_be_a_number_or_text(amount: Any) -> None:
    clinic = clinic_from("a", {}, None, None, {"daily_budget_baht": amount}, None)
    assert clinic.budget.daily_budget_baht == 300


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        ("300", 300),
        ("300.00", 300),
        ("0.8", 0.8),
        ("250.50", 250.5),
        ("99999999.999999", 99999999.999999),
        ("123456789012.123456", "123456789012.123456"),
        ("9007199254740993", "9007199254740993"),
        ("1E+22", 1e22),
        ("1E+999999", "1E+999999"),
    ],
)
def test_an_amount_is_stored_as_a_number_where_that_is_exact(amount: str, stored: Any) -> None:
    data = budget_document(BudgetPolicy(Decimal(amount), downgrade_threshold=Decimal("0.55")))
    assert (data["daily_budget_baht"], data["downgrade_threshold"]) == (stored, 0.55)
    assert type(data["daily_budget_baht"]) is type(stored)


@given(st.decimals(0, 10**14, places=6))
def test_a_stored_amount_reads_back_exactly(amount: Decimal) -> None:
    data = {"daily_budget_baht": stored_number(amount)}
    assert clinic_from("a", {}, None, None, data, None).budget.daily_budget_baht == amount


@pytest.mark.parametrize(
    ("org", "model", "budget", "named"),
    [
        ({"limits": [3]}, {}, {}, "orgs/a, field limits:"),
        ({"limits": {"max_concurrent": 2.5}}, {}, {}, "orgs/a, field limits, field max_concurrent:"),
        ({"limits": {"messages_per_minute": float("nan")}}, {}, {}, "field messages_per_minute:"),
        ({"handoff": "staff"}, {}, {}, "orgs/a, field handoff:"),
        ({"handoff": {"keywords": "staff"}}, {}, {}, "orgs/a, field handoff, field keywords:"),
        ({"messages": {"busy": 1.5}}, {}, {}, "orgs/a, field messages, field busy:"),
        ({"persona": ["x"]}, {}, {}, "orgs/a, field persona:"),
        ({"hours": {"mon": "10-20"}}, {}, {}, "orgs/a, field hours"),
        ({"holidays": ["31.12."]}, {}, {}, "orgs/a, field hours or holidays"),
        ({"mode": "night"}, {}, {}, "orgs/a, field mode: 'night': expected live, after_hours, off"),
        ({"memory": "no"}, {}, {}, "orgs/a, field memory:"),
        ({}, {"temperature": float("inf")}, {}, "ai_model_config/a, field temperature:"),
        ({}, {"max_tokens": "600"}, {}, "ai_model_config/a, field max_tokens:"),
        ({}, {}, {"daily_budget_baht": 0.1 + 0.2}, "org_ai_budgets/a, field daily_budget_baht:"),
        ({}, {}, {"daily_budget_baht": -1}, "org_ai_budgets/a, field daily_budget_baht:"),
        ({}, {}, {"fallback_model": ["x"]}, "org_ai_budgets/a, field fallback_model:"),
    ],
)
def test_a_broken_field_is_named(
    org: dict[str, Any], model: dict[str, Any], budget: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named.replace("/", "[/]")):
        clinic_from("a", org, model, None, budget, None)


@pytest.mark.parametrize("channel", [{}, {"org_id": ""}, {"org_id": None}, {"org_id": ["a"]}])
def test_a_channel_that_leads_nowhere_is_named(channel: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="line_channels/U1, field org_id"):
        org_of_channel("U1", channel)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = sorted({*org_document(FULL), *model_document(FULL.model), *budget_document(FULL.budget)})
DOCUMENT = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4)


@given(DOCUMENT, DOCUMENT, DOCUMENT)
def test_whatever_is_in_a_document_it_is_a_clinic_or_an_error_that_names_the_field(
    org: dict[str, Any], model: dict[str, Any], budget: dict[str, Any]
) -> None:
    error = None
    try:
        clinic_from("a", org, model, None, budget, None)
    except InvalidInputError as exc:
        error = str(exc)
    assert error is None or "field " in error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prices", "900"),
        ("prices", [900]),
        ("prices", [{"item": "a", "baht": "x"}]),
        ("prices", [{"item": "a", "baht": True}]),
        ("prices", [{"item": "a", "baht": []}]),
        ("prices", [{"item": "a", "baht": -1}]),
        ("prices", [{"item": "", "baht": 1}]),
        ("prices", [{"item": "a", "baht": 1, "until": "31.12.2026"}]),
        ("prices", [{"item": "a", "baht": 1, "from": 5}]),
        ("answers", ["a"]),
        ("answers", [{"q": "a"}]),
        ("price_guard", "yes"),
    ],
)
def test_prices_that_can_not_be_read_are_named_not_left_out(field: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=rf"orgs/a, field {field}"):
        clinic_from("a", {field: value}, None, None, None, None)


@pytest.mark.parametrize("baht", [900, 900.0, "900", [900], [900, 900]])
def test_a_price_may_be_written_as_a_console_does(baht: Any) -> None:
    clinic = clinic_from("a", {"prices": [{"item": "a", "baht": baht}]}, None, None, None, None)
    assert clinic.prices == (ListedPrice("a", Decimal(900), Decimal(900)),)
