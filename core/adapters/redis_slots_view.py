"""What an operator sees of the slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self


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
    clinic. `attempts` and `failures`: what the circuit counts at the moment."""

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
        )
