"""A worker keeps nothing of the turns that it answered; `python -m tests.bench.leak` counts more of them."""

from __future__ import annotations

import pytest

from tests.bench.leak import grown_mb


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_worker_does_not_grow_with_the_turns_that_it_answers() -> None:
    assert await grown_mb(4_000) < 4  # a kilobyte a turn would be seen
