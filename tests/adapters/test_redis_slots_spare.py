"""Slots of the lowest class: work that no customer waits for never makes one wait. Real Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import count

import pytest

from core.adapters.redis_slots import RedisSlots
from core.ports.slots import SPARE, NoSlotError, Outcome, OutcomeKind, Refusal
from tests.support.slots_scene import process, request


async def is_refused(slots: RedisSlots, ticket: str = "spare", **more: int) -> bool:
    try:
        async with slots.hold(request(SPARE, ticket, **more)):
            return False
    except NoSlotError as exc:
        return exc.reason is Refusal.WAITED


async def test_spare_work_takes_half_of_the_slots_and_no_more(redis_url: str) -> None:
    async with process(redis_url, global_limit=5) as slots, AsyncExitStack() as held:
        for n in range(2):
            await held.enter_async_context(slots.hold(request(SPARE, f"spare-{n}")))
        assert await is_refused(slots)
        async with slots.hold(request("a", "t")) as slot:
            assert slot.waited_ms < 500
        assert await is_refused(slots)
    async with process(redis_url, global_limit=5) as slots:
        assert not await is_refused(slots)


async def test_spare_work_uses_up_no_clinics_cap(redis_url: str) -> None:
    async with process(redis_url, global_limit=10, per_org_limit=1) as slots, AsyncExitStack() as held:
        for n in range(4):
            await held.enter_async_context(slots.hold(request(SPARE, f"spare-{n}")))
        await held.enter_async_context(slots.hold(request("a", "t")))


async def test_spare_work_gets_nothing_while_a_customer_waits(redis_url: str) -> None:
    """A clinic at its cap waits though slots are free: they are not spare."""
    async with process(redis_url, global_limit=10, per_org_limit=1) as slots:
        queued = asyncio.Event()

        async def said() -> None:
            queued.set()

        async def customer() -> None:
            async with slots.hold(request("a", "second"), on_wait=said):
                pass

        async with slots.hold(request("a", "first")):
            waiting = asyncio.create_task(customer())
            await queued.wait()
            assert await is_refused(slots)
        await waiting
        assert not await is_refused(slots)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [({"requests_per_minute": 4}, 0), ({"tokens_per_minute": 1_000}, 200)],
    ids=["requests", "tokens"],
)
async def test_spare_work_leaves_half_of_the_rates(
    redis_url: str, options: dict[str, int], tokens: int
) -> None:
    async with process(redis_url, global_limit=10, **options) as slots:
        granted = [not await is_refused(slots, f"spare-{n}", tokens=tokens) for n in range(4)]
        assert granted == [True, True, False, False]


async def test_spare_work_is_not_the_probe_of_an_open_circuit(redis_url: str) -> None:
    async with process(redis_url, global_limit=10, quota_open_ms=1) as slots:
        async with slots.hold(request("a", "t")) as slot:
            slot.outcome = Outcome(OutcomeKind.QUOTA)
        await asyncio.sleep(0.05)
        assert await is_refused(slots)
        async with slots.hold(request("a", "probe")) as slot:
            slot.outcome = Outcome(OutcomeKind.OK)
        assert not await is_refused(slots)


async def test_customers_wait_as_long_as_without_spare_work(redis_url: str) -> None:
    """Customers come in step and fill half of the slots, while spare work takes whatever it can get: each of
    them is granted a slot in the round trip in which they ask."""

    async def waits(spare_workers: int) -> tuple[int, int]:
        waited, taken, tickets = 0, 0, count()
        done = asyncio.Event()

        async def waits_in_line() -> None:
            nonlocal waited
            waited += 1

        async with process(redis_url, global_limit=8, per_org_limit=8) as slots:

            async def spare() -> None:
                nonlocal taken
                while not done.is_set():
                    try:
                        async with slots.hold(request(SPARE, f"spare-{next(tickets)}")):
                            taken += 1
                            await asyncio.sleep(0.02)
                    except NoSlotError:
                        await asyncio.sleep(0.005)

            async def customer(org: str, ticket: str) -> None:
                async with slots.hold(request(org, ticket), on_wait=waits_in_line):
                    await asyncio.sleep(0.05)

            workers = [asyncio.create_task(spare()) for _ in range(spare_workers)]
            for n in range(20):
                await asyncio.gather(*(customer("abcd"[m], f"t{n}") for m in range(4)))
            done.set()
            await asyncio.gather(*workers)
        return waited, taken

    assert await waits(0) == (0, 0)
    waited, taken = await waits(6)
    assert waited == 0
    assert taken > 10
