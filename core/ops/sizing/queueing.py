"""Predicted waiting: M/G/c with the Allen-Cunneen correction, for all slots and for one clinic's cap.

Waiting is zero with probability 1 - C (Erlang's C formula) and otherwise exponential with the mean of M/M/c
times (1 + cv²) / 2, where cv is the calls' coefficient of variation. A turn waits for whichever of the two
queues, everybody's or its clinic's own, lets it go last; they are taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from core.ops.sizing.demand import Demand, Latency

_GRID = 400  # points of the calls' distribution
_ATOM = 1e-9


@dataclass(frozen=True, slots=True)
class Wait:
    """`delayed`: the share that waits at all; these wait `mean_s` on average. Overloaded: for ever."""

    delayed: float
    mean_s: float

    def within(self, seconds: float) -> float:
        """Share of turns that have waited no longer than this."""
        if seconds < 0:
            return 0.0
        if math.isinf(self.mean_s):
            return 0.0
        return 1 - self.delayed * math.exp(-seconds / max(self.mean_s, _ATOM))


def erlang_c(servers: int, load: float) -> float:
    """The share of arrivals that find all servers busy; 1 if the load exceeds them."""
    if load >= servers:
        return 1.0
    blocked = 1.0  # Erlang B by its recursion, which does not overflow
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def wait(rate: float, latency: Latency, servers: int) -> Wait:
    """For turns that arrive at `rate` a second and share `servers` slots."""
    load = rate * latency.mean_s
    if load >= servers:
        return Wait(1.0, math.inf)
    mean_s = latency.mean_s / (servers - load) * (1 + latency.cv2) / 2
    return Wait(erlang_c(servers, load), mean_s)


def turn_latency_s(
    demand: Demand, slots: int, per_org: int, share: float, *, overhead_s: float = 0.05
) -> float:
    """How long from the webhook to LINE, for `share` of all turns (0.5: the median); infinite if overloaded.

    `overhead_s`: everything but waiting and the call.
    """
    everybody = wait(demand.turns_per_s, demand.latency, slots)
    if math.isinf(everybody.mean_s):
        return math.inf
    calls = [demand.latency.quantile_s((i + 0.5) / _GRID) for i in range(_GRID)]
    groups = _clinics(demand, per_org)

    def answered(seconds: float) -> float:
        total = 0.0
        for weight, own in groups:
            inside = sum(
                everybody.within(left) * own.within(left)
                for left in (seconds - overhead_s - call for call in calls)
            )
            total += weight * inside / _GRID
        return total

    return _first(answered, share)


def _clinics(demand: Demand, per_org: int) -> list[tuple[float, Wait]]:
    """(share of all turns, waiting for the clinic's own cap); the many small ones as one group."""
    shares = demand.shares()
    big = [(s, wait(s * demand.turns_per_s, demand.latency, per_org)) for s in shares[:20]]
    rest = shares[20:]
    if rest:
        typical = sum(s * s for s in rest) / sum(rest)  # of the clinic that a turn belongs to
        big.append((sum(rest), wait(typical * demand.turns_per_s, demand.latency, per_org)))
    return big


def _first(share_by: Callable[[float], float], share: float) -> float:
    low, high = 0.0, 1.0
    while share_by(high) < share:
        high *= 2
        if high > 86_400:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if share_by(middle) >= share else (middle, high)
    return high
