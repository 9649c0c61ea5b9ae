"""What an operator sees and changes of the slots: from any machine, for all instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from core.adapters.redis_slots_scripts import SlotOptions, SlotScripts
from core.domain.errors import InvalidInputError
from core.ports import log


@dataclass(frozen=True, slots=True)
class OrgView:
    """One clinic that holds or waits. `cap`: its own, an operator's, or the deployment's."""

    org_id: str
    held: int
    waiting: int
    oldest_wait_ms: int
    cap: int


@dataclass(frozen=True, slots=True)
class SlotsView:
    """`limit` is in force, `configured_limit` is the deployment's. `circuit`: closed, open or half-open.
    `requests` and `tokens` of the last minute are None where no rate is set. `overrides`: operators' caps by
    clinic. `attempts` and `failures`: what the circuit counts at the moment. `ceiling`: what the limit may
    rise to; `limit_reason`: why it is what it is: ceiling, operator, refused (calls were), or latency."""

    limit: int
    configured_limit: int
    orgs: tuple[OrgView, ...]
    circuit: str
    circuit_reason: str
    circuit_open_ms: int
    cooldown_ms: int
    requests: int | None
    tokens: int | None
    overrides: dict[str, int]
    attempts: int
    failures: int
    ceiling: int
    limit_reason: str

    @property
    def used(self) -> int:
        return sum(org.held for org in self.orgs)

    @property
    def waiting(self) -> int:
        return sum(org.waiting for org in self.orgs)

    @property
    def oldest_wait_ms(self) -> int:
        return max((org.oldest_wait_ms for org in self.orgs), default=0)

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Self:
        """From the reply of slots_view.lua. Clinics with the most slots first, then the most waiters."""
        (
            limit,
            configured,
            orgs,
            circuit,
            reason,
            open_ms,
            cooldown_ms,
            requests,
            tokens,
            overrides,
            *counts,
        ) = reply
        views = [
            OrgView(org.decode(), *numbers)
            for org, *numbers in (orgs[i : i + 5] for i in range(0, len(orgs), 5))
        ]
        return cls(
            limit=limit,
            configured_limit=configured,
            orgs=tuple(sorted(views, key=lambda v: (-v.held, -v.waiting, v.org_id))),
            circuit=circuit.decode(),
            circuit_reason=reason.decode(),
            circuit_open_ms=open_ms,
            cooldown_ms=cooldown_ms,
            requests=None if requests < 0 else requests,
            tokens=None if tokens < 0 else tokens,
            overrides={overrides[i].decode(): overrides[i + 1] for i in range(0, len(overrides), 2)},
            attempts=counts[0],
            failures=counts[1],
            ceiling=counts[2],
            limit_reason=counts[3].decode(),
        )


class RedisSlotsOperator:
    """All methods raise RedisUnavailableError. The limits that instances run with come from Redis, so
    `options` need not be theirs."""

    def __init__(self, redis: Redis, options: SlotOptions | None = None) -> None:
        self._scripts = SlotScripts(redis, options or SlotOptions())

    async def snapshot(self) -> SlotsView:
        """Who holds, who waits, and the provider's state. Looks at every waiter: not for a turn's path."""
        return SlotsView.of(await self._scripts.view())

    async def set_limit(self, slots: int | None, *, org_id: str | None = None) -> None:
        """Override the limit of all together, or one clinic's, from now on; None takes the override back.

        Raises InvalidInputError below 1.
        """
        if slots is not None and slots < 1:
            raise InvalidInputError("a limit must be at least 1")
        await self._scripts.limit(org_id, slots)

    async def reset_limits(self) -> None:
        """Take all overrides back."""
        await self._scripts.reset()

    async def close_circuit(self) -> bool:
        """Let calls through again, and end a cooldown; True if there was anything to end."""
        was_open = await self._scripts.close_circuit()
        if was_open:
            log.info("circuit.closed", by="operator")
        return was_open
