"""A provider that takes fewer calls at once than the configured limit: the limit that finds itself beside the
fixed one, over the real scripts, in time that does not pass by itself."""

from __future__ import annotations

from dataclasses import dataclass

import uvloop

from core.adapters.redis_slots_scripts import SlotOptions
from core.local.redis_server import RedisServer
from tests.bench.table import Row, show
from tests.support.limited_provider import LimitedProvider, jain, lognormal
from tests.support.slots_scene import client

TAKES, CEILING = 8, 15
MEDIAN_MS = 800.0
LEARN_S, MEASURE_S, AGAIN_S = 10, 60, 12


@dataclass(frozen=True, slots=True)
class Result:
    """`back_s`: until the limit was above 10 after the provider took all again; None: not within AGAIN_S."""

    refused: float
    busy: float
    fair: float
    back_s: float | None


async def measure(url: str, *, adaptive: bool) -> Result:
    redis = client(url)
    await redis.flushall()
    options = SlotOptions(
        global_limit=CEILING, lease_ms=600_000, claim_ms=500_000, max_hold_ms=10**9, adaptive=adaptive
    )
    provider = LimitedProvider(redis, options, allowed=TAKES, latency_ms=lognormal(MEDIAN_MS))
    await provider.start()
    await provider.run_until(LEARN_S)
    seen = await provider.run_until(LEARN_S + MEASURE_S)
    provider.allowed = CEILING
    began_s, back_s = provider.at_s, None
    while back_s is None and provider.at_s < began_s + AGAIN_S:
        await provider.run_until(provider.at_s + 0.1)
        back_s = provider.at_s - began_s if provider.limit > 10 else None
    await provider.close()
    await redis.aclose(close_connection_pool=True)
    busy = seen.busy_s.total() / MEASURE_S / TAKES
    return Result(seen.refused_share, busy, jain(seen.busy_s), back_s)


async def rows() -> list[Row]:
    async with RedisServer() as server:
        learnt = await measure(server.url, adaptive=True)
        fixed = await measure(server.url, adaptive=False)
    base = f"takes {TAKES} of {CEILING}"
    back = "never" if learnt.back_s is None else f"{learnt.back_s:.1f} s"
    few, busy, fair = learnt.refused <= 0.02, learnt.busy >= 0.9, learnt.fair >= 0.99
    at_fixed = f"{fixed.refused:.0%} at a fixed limit"
    return [
        Row(f"{base}: calls refused, after {LEARN_S} s", f"{learnt.refused:.1%}", "≤ 2 %", at_fixed, few),
        Row("  busy of what it takes", f"{learnt.busy:.3f}", "≥ 0.9", f"{fixed.busy:.3f}", busy),
        Row("  Jain's index of slot-seconds", f"{learnt.fair:.4f}", "≥ 0.99", f"{fixed.fair:.4f}", fair),
        Row("  takes all again: limit above 10", back, f"≤ {AGAIN_S} s", "", learnt.back_s is not None),
    ]


if __name__ == "__main__":
    if not show("providers", uvloop.run(rows())):
        raise SystemExit(1)
