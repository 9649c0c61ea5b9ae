"""A pulse beats at the earliest time that anybody asked for, on every loop, also if that time has come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import pytest
import uvloop

from core.adapters.pulse import Pulse

LOOPS: Sequence[Callable[[], asyncio.AbstractEventLoop]] = (asyncio.SelectorEventLoop, uvloop.new_event_loop)
DELAYS_S = (-1.0, 0.0, 0.0004, 0.02, 60.0)


async def beats_after(delays_s: Sequence[float]) -> float:
    """Ask once for each delay, without a pause; the seconds until the first beat."""
    loop, beaten = asyncio.get_running_loop(), asyncio.Event()

    async def beat() -> None:
        beaten.set()

    pulse, began = Pulse(beat), loop.time()
    for delay_s in delays_s:
        pulse.ask(delay_s)
    await asyncio.wait_for(beaten.wait(), 5)
    await pulse.stop()
    return loop.time() - began


@pytest.mark.parametrize("new_loop", LOOPS)
def test_it_beats_when_the_earliest_of_all_wishes_is_due(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for delays_s in itertools.permutations(DELAYS_S, 2):
            waited_s = runner.run(beats_after(delays_s))
            assert max(0, min(delays_s)) - 0.002 <= waited_s < max(0, min(delays_s)) + 1, delays_s


async def test_a_wish_during_a_beat_is_made_up_for_after_it() -> None:
    beats, go_on = 0, asyncio.Event()

    async def beat() -> None:
        nonlocal beats
        beats += 1
        await go_on.wait()

    pulse = Pulse(beat)
    pulse.ask(0)
    await asyncio.sleep(0.01)
    pulse.ask(-1)
    pulse.ask(0)
    await asyncio.sleep(0.01)
    assert beats == 1
    go_on.set()
    await asyncio.sleep(0.01)
    assert beats == 2
    await pulse.stop()
