"""Charges are exact to the micro-baht, and never above their worst case."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import InvalidInputError
from core.domain.money import charge, format_baht, share_of, to_micro_baht, worst_case
from core.domain.prices import Price, load_prices
from core.ports.llm import Usage

NOW_MS = 1_795_500_000_000  # 2026-11-24
TERRA = load_prices().price_at("gpt-6.1-terra", NOW_MS)
MINI = load_prices().price_at("gpt-4o-mini", NOW_MS)
THB = Decimal(36)

usd = st.decimals("0", "100", places=4)
rates = st.decimals("0.01", "99", places=5)
counts = st.integers(0, 200_000)


@st.composite
def price_rows(draw: st.DrawFn) -> Price:
    plain = draw(usd)
    cached = draw(st.decimals("0", plain, places=4))
    return Price("m", "v", plain, cached, draw(usd), draw(st.none() | usd))


def test_a_call_costs_each_kind_of_token_at_its_own_price() -> None:
    cost = charge(TERRA, Usage(input=1000, cached=200, cache_write=300, output=100), THB)
    # 500 × 1 + 200 × 0.05 + 300 × 1.25 + 100 × 5 = 1385 USD per million, × 36
    assert cost.micro_baht == 49_860
    assert [(line.kind, line.tokens) for line in cost.lines] == [
        ("input", 500),
        ("cached input", 200),
        ("cache write", 300),
        ("output", 100),
    ]


def test_cache_writes_cost_plain_input_where_the_model_has_no_price_for_them() -> None:
    assert charge(MINI, Usage(1000, 0, cache_write=400), THB) == charge(MINI, Usage(1000, 0), THB)


def test_a_call_is_rounded_up_once_and_not_line_by_line() -> None:
    row = Price("m", "v", Decimal("0.01"), Decimal("0.01"), Decimal("0.01"))
    # 0.01 + 0.01 micro-baht is one micro-baht; rounded by line it would be two.
    assert charge(row, Usage(input=1, output=1), Decimal(1)).micro_baht == 1
    assert charge(row, Usage(input=0, output=0), Decimal(1)).micro_baht == 0


def test_the_returned_service_tier_changes_the_charge() -> None:
    usage = Usage(1000, 100)
    flex = charge(TERRA, usage, THB, multiplier=load_prices().tier_multiplier("flex"))
    assert flex.micro_baht * 2 == charge(TERRA, usage, THB).micro_baht
    assert load_prices().tier_multiplier(None) == load_prices().tier_multiplier("never heard of") == 1


@given(row=price_rows(), rate=rates, bound=counts, max_tokens=counts, data=st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    row: Price, rate: Decimal, bound: int, max_tokens: int, data: st.DataObject
) -> None:
    usage = Usage(
        input=data.draw(st.integers(0, bound)),
        output=data.draw(st.integers(0, max_tokens)),
        # Beyond the input too: a provider that contradicts itself must not break the bound.
        cached=data.draw(st.integers(0, bound)),
        cache_write=data.draw(st.integers(0, bound)),
    )
    assert 0 <= charge(row, usage, rate).micro_baht <= worst_case(row, bound, max_tokens, rate)


@given(row=price_rows(), rate=rates, usage=st.builds(Usage, counts, counts))
def test_a_charge_is_the_exact_product_rounded_up(row: Price, rate: Decimal, usage: Usage) -> None:
    exact = (usage.input * Fraction(row.input) + usage.output * Fraction(row.output)) * Fraction(rate)
    assert charge(row, usage, rate).micro_baht == -(-exact.numerator // exact.denominator)


@given(row=price_rows(), rate=rates, usage=st.builds(Usage, counts, counts))
def test_the_lines_of_a_charge_add_up_to_it(row: Price, rate: Decimal, usage: Usage) -> None:
    cost = charge(row, usage, rate)
    exact = sum((line.micro_baht for line in cost.lines), Decimal(0))
    assert cost.micro_baht == int(exact.to_integral_value(ROUND_CEILING))


def test_baht_become_micro_baht_exactly_or_not_at_all() -> None:
    assert to_micro_baht(Decimal("300.5")) == 300_500_000
    assert to_micro_baht(Decimal("0.000001")) == 1
    for impossible in ("0.0000001", "NaN", "Infinity"):
        with pytest.raises(InvalidInputError, match="six decimals"):
            to_micro_baht(Decimal(impossible))


def test_a_share_is_rounded_down_so_that_a_limit_never_grows() -> None:
    assert share_of(3, Decimal("0.5")) == 1
    assert share_of(300_000_000, Decimal("0.8")) == 240_000_000


def test_amounts_are_shown_in_baht() -> None:
    assert format_baht(12_340_000) == "฿12.34"
    assert format_baht(1_234_567_890_000) == "฿1,234,567.89"
    assert format_baht(49_860, decimals=6) == "฿0.049860"
    assert format_baht(-5_000_000) == "-฿5.00"
