"""What models cost when, and what may be sent to them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from core.domain.prices import Price, PriceTableError, UnpricedModelError, load_prices


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOW_MS = ms("2026-11-24")
ROW = {"from": "2026-01-01", "input": "1", "output": "2"}


@pytest.mark.parametrize(
    ("model", "input_usd", "cached", "written", "output"),
    [
        ("gpt-6.1-terra", "1", "0.05", "1.25", "5"),
        ("gpt-6-luna", "0.10", "0.01", "0.125", "0.50"),
        ("gpt-4o-mini", "0.15", "0.075", None, "0.60"),
    ],
)
def test_the_table_has_the_providers_prices(
    model: str, input_usd: str, cached: str, written: str | None, output: str
) -> None:
    price = load_prices().price_at(model, NOW_MS)
    assert (price.input, price.cached_input, price.output) == tuple(map(Decimal, (input_usd, cached, output)))
    assert price.cache_write == (None if written is None else Decimal(written))
    assert price.version == load_prices().version


def test_a_dated_snapshot_is_priced_as_its_family() -> None:
    prices = load_prices()
    assert prices.price_at("gpt-4o-mini-2024-07-18", NOW_MS) == prices.price_at("gpt-4o-mini", NOW_MS)
    assert prices.capabilities("gpt-4o-2024-08-06").shutdown == date(2027, 1, 14)


def test_a_model_without_a_price_is_named_with_the_remedy() -> None:
    with pytest.raises(UnpricedModelError, match=r"'gpt-9' has no price: use one of .*ai_model_prices/gpt-9"):
        load_prices().price_at("gpt-9", NOW_MS)
    assert not load_prices().is_priced("gpt-9", NOW_MS)
    assert not load_prices().is_priced("gpt-6.1-terra", ms("2026-10-25")), "not sold yet on that day"


def test_a_shutdown_is_seen_sixty_days_ahead() -> None:
    prices = load_prices()
    assert prices.shuts_down_within("gpt-4o-mini", NOW_MS) == date(2027, 1, 14)
    assert prices.shuts_down_within("gpt-4o-mini", ms("2026-11-14")) is None
    assert prices.shuts_down_within("gpt-4o-mini", ms("2027-06-01")) == date(2027, 1, 14)
    assert prices.shuts_down_within("gpt-6.1-terra", NOW_MS) is None


def test_a_temperature_is_sent_only_to_models_that_take_one() -> None:
    prices = load_prices()
    assert prices.capabilities("gpt-4o-mini").temperature_to_send(0.4) == 0.4
    assert prices.capabilities("gpt-4o-mini").reasoning_effort is None
    assert prices.capabilities("gpt-6.1-terra").temperature_to_send(0.4) is None
    assert prices.capabilities("gpt-6-luna").reasoning_effort == "none"


def test_a_price_may_change_at_noon() -> None:
    rows = [ROW, {"from": "2026-11-24T12:00:00+07:00", "input": "3", "output": "4"}]
    prices = load_prices().overridden({"gpt-6-luna": {"prices": rows, "version": "contract 7"}})
    assert prices.price_at("gpt-6-luna", ms("2026-11-24T04:59:59")).input == 1
    noon = prices.price_at("gpt-6-luna", ms("2026-11-24T05:00:00"))
    assert (noon.input, noon.version) == (Decimal(3), "contract 7")


def test_a_document_overrides_what_it_says_and_nothing_else() -> None:
    prices = load_prices().overridden(
        {"gpt-6.1-terra": {"temperature": True}, "house-model": {"prices": [ROW]}}
    )
    assert prices.capabilities("gpt-6.1-terra").temperature
    assert prices.capabilities("gpt-6.1-terra").reasoning_effort == "none"
    assert prices.price_at("gpt-6.1-terra", NOW_MS).output == 5
    assert prices.price_at("house-model", NOW_MS).cached_input == 1, "no discount for cached input is known"
    assert not load_prices().is_priced("house-model", NOW_MS), "the shipped table is never changed"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"prices": []}, "prices: expected a list"),
        ({"prices": [{**ROW, "input": "free"}]}, r"prices\[0\].input: expected USD"),
        ({"prices": [{**ROW, "input": -1}]}, r"prices\[0\].input: expected USD"),
        ({"prices": [{**ROW, "output": True}]}, r"prices\[0\].output: expected USD"),
        ({"prices": [{**ROW, "from": "soon"}]}, r"prices\[0\].from: expected a date"),
        ({"prices": [{**ROW, "cached_input": "2"}]}, r"prices\[0\].cached_input: expected at most"),
        ({"prices": [{**ROW, "imput": "2"}]}, r"prices\[0\]: unknown field 'imput'"),
        ({"prices": ["1"]}, r"prices\[0\]: expected from, input"),
        ({"prices": [ROW], "temprature": True}, "unknown field 'temprature'"),
        ({"temperature": "yes", "prices": [ROW]}, "temperature: expected true or false"),
        ({"output_limit": "max", "prices": [ROW]}, "output_limit: expected max_completion_tokens"),
        ({"reasoning_effort": 1, "prices": [ROW]}, "reasoning_effort: expected a text"),
        ({"temperature": True}, "prices is missing"),
    ],
)
def test_a_document_that_cannot_be_read_is_named_by_field(document: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PriceTableError, match=rf"price of new-model: .*{complaint}|{complaint}"):
        load_prices().overridden({"new-model": document})


def test_numbers_in_a_document_mean_the_decimals_that_are_written() -> None:
    row = {"from": "2026-01-01", "input": 0.1, "output": 2}
    price = load_prices().overridden({"m": {"prices": [row]}}).price_at("m", NOW_MS)
    assert (price.input, price.output) == (Decimal("0.1"), Decimal(2))


def test_a_charge_keeps_its_price_row() -> None:
    for model in load_prices().models:
        price = load_prices().price_at(model, NOW_MS)
        assert Price.of_record(model, price.record()) == price
