"""One clinic's campaign through the queue as deployed; the stand-ins judge."""

from __future__ import annotations

import pytest

from tests.bench.campaign import Campaign, run


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_campaign_takes_neither_the_queue_from_other_clinics_nor_slots_from_its_own() -> None:
    seen = await run(Campaign(messages=300, over_s=30.0, quiet_s=40.0, speed=5.0))
    assert seen.unanswered == 0
    assert seen.dispatches <= 3
    assert seen.overdue <= 40, "tasks that are due and not dispatched: others wait behind them"
    assert seen.busy >= 0.5, "on a busy machine; the bench says how much it is"
