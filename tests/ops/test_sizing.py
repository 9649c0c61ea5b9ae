"""The planner predicts what a simulation of the same rules shows, and names what gives out first."""

from __future__ import annotations

import math

import pytest

from core.domain.dispatching import MAX_PER_S
from core.domain.prices import load_prices
from core.ops.sizing.cost import monthly_usd
from core.ops.sizing.demand import Demand, Latency
from core.ops.sizing.plan import Provider, plan
from core.ops.sizing.queueing import erlang_c, turn_latency_s
from core.ops.sizing.simulation import simulate


def test_erlangs_formula_agrees_with_its_published_values() -> None:
    # Cooper, Introduction to Queueing Theory: 10 servers at 5 erlangs; one server waits with its load.
    assert erlang_c(10, 5.0) == pytest.approx(0.0361, abs=1e-4)
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(3, 3.0) == 1.0


@pytest.mark.parametrize("slots", [13, 15, 20])
@pytest.mark.parametrize("sigma", [0.2, 0.5])
def test_prediction_and_simulation_agree_within_a_fifth(slots: int, sigma: float) -> None:
    demand = Demand(500, latency=Latency(2.5, sigma))
    seen = simulate(demand, slots, 5, seconds=40_000)
    assert turn_latency_s(demand, slots, 5, 0.5) == pytest.approx(seen.p50_s, rel=0.2)
    assert turn_latency_s(demand, slots, 5, 0.95) == pytest.approx(seen.p95_s, rel=0.2)
    assert seen.busy == pytest.approx(demand.load / slots, rel=0.05)


def test_an_overload_is_never_answered() -> None:
    demand = Demand(500)
    assert math.isinf(turn_latency_s(demand, 10, 5, 0.5))
    assert plan(demand, Provider(concurrent=10)).bottlenecks[0].part == "slots"


def test_no_clinic_has_more_than_its_shaper_lets_through() -> None:
    for clinics in (5, 500, 5_000):
        demand = Demand(clinics, messages=300)
        shares = demand.shares()
        assert sum(shares) == pytest.approx(1)
        assert len(shares) == clinics
        assert shares == sorted(shares, reverse=True)
        assert shares[0] * demand.messages_per_s <= max(30 / 60, demand.messages_per_s / clinics) + 1e-9


def test_a_plan_keeps_waiting_rare_and_grows_with_the_clinics() -> None:
    plans = [plan(Demand(clinics), Provider()) for clinics in (50, 500, 5_000, 50_000)]
    assert all(found.delayed <= 0.05 and found.utilisation <= 0.81 for found in plans)
    assert [found.slots for found in plans] == sorted(found.slots for found in plans)
    assert [p.bottlenecks[0].part for p in plans][-1] == "queue"


def test_where_one_queue_ends_cells_go_on() -> None:
    demand = Demand(50_000)
    found = plan(demand, Provider())
    assert found.cells == 3
    one, cells = (
        simulate(demand, found.slots, found.per_org, cells=cells, dispatches_per_s=MAX_PER_S, seconds=120)
        for cells in (1, found.cells)
    )
    assert (
        one.queued_s > 60
    )  # 833 dispatches a second wanted, 500 allowed: it grows as long as the peak lasts
    assert cells.queued_s < 0.1
    assert cells.p95_s == pytest.approx(found.p95_s, rel=0.2)
    assert plan(Demand(500), Provider()).cells == 1


def test_the_providers_rates_are_a_bottleneck_like_any_other() -> None:
    found = plan(Demand(5_000), Provider(requests_per_minute=500, tokens_per_minute=10**6))
    parts = {limit.part: limit.reached for limit in found.bottlenecks}
    assert parts["provider's requests"] == pytest.approx(37.5 * 60 / 500)
    assert parts["provider's tokens"] > 1


def test_cost_follows_the_number_of_turns() -> None:
    price = load_prices().price_at("gpt-6.1-terra", 1_795_478_400_000)
    small, big = (monthly_usd(plan(Demand(clinics), Provider()), price) for clinics in (500, 5_000))
    llm = "LLM, gpt-6.1-terra"
    assert big[llm] == pytest.approx(10 * small[llm])
    assert all(usd > 0 for usd in small.values())
