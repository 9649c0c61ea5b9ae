"""The slots' Lua operations as typed calls (lua/slots_*.lua), and the options that they run with."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from core.adapters import redis_keys
from core.domain.errors import RedisUnavailableError
from core.ports.slots import Outcome, OutcomeKind, SlotRequest

KEYS = [
    redis_keys.slots(part)
    for part in (
        "leases", "queue", "waits", "orgs", "tickets", "state", "caps", "calls", "starts",
    )
]  # fmt: skip
_LUA = resources.files("core.adapters").joinpath("lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """`org_room`: waiters a clinic may have. A rate of None is none. A grant is a claim for `claim_ms` until
    its first renewal, then a lease for `lease_ms`; nobody holds a slot for longer than `max_hold_ms`.

    The circuit opens when `circuit_share` of at least `circuit_attempts` calls in `circuit_window_ms` failed,
    for `circuit_open_ms`, then for twice as long each time up to `circuit_longest_ms`; after a quota code for
    `quota_open_ms`. `cooldown_ms`: after a 429 without Retry-After. A call to Redis may take `call_ms`.
    """

    global_limit: int = 15
    per_org_limit: int = 5
    lease_ms: int = 10_000
    org_room: int = 20
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    claim_ms: int = 5_000
    max_hold_ms: int = 120_000
    circuit_window_ms: int = 30_000
    circuit_attempts: int = 20
    circuit_share: float = 0.5
    circuit_open_ms: int = 15_000
    circuit_longest_ms: int = 120_000
    quota_open_ms: int = 600_000
    cooldown_ms: int = 1_000
    call_ms: int = 2_000

    @property
    def first_lease_ms(self) -> int:
        """A claim is never longer than the lease that it becomes."""
        return min(self.claim_ms, self.lease_ms)


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the room stands after an operation. `again_ms`: when time alone may let a waiter run, None if
    nobody waits. `shut_ms`: how long the provider's state certainly forbids any grant, and `reason` why.
    `now_ms`: Redis' clock."""

    again_ms: int | None
    shut_ms: int
    reason: str
    used: int
    waiting: int
    limit: int
    now_ms: int

    @classmethod
    def of(cls, reply: Sequence[Any]) -> Self:
        again_ms, shut_ms, reason, used, waiting, limit, now_ms = reply
        return cls(None if again_ms < 0 else again_ms, shut_ms, reason.decode(), used, waiting, limit, now_ms)


_OUTLOOK = 7  # fields of an outlook in a reply


@dataclass(frozen=True, slots=True)
class Acquired:
    """`status` is granted, waiting, or the value of a Refusal."""

    status: str
    place: int
    fence: int
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Renewed:
    """In the order of the arguments: was each lease prolonged; each waiter's fence (0 waits, -1 unknown)."""

    leases: list[bool]
    waiters: list[int]
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class Released:
    """`circuit`: "opened" or "closed" if this outcome did it, with the reason and for how long."""

    circuit: str
    reason: str
    open_ms: int
    outlook: Outlook


@dataclass(frozen=True, slots=True)
class _Script:
    source: str
    sha: str

    @classmethod
    def of(cls, *parts: str) -> Self:
        """One script of several files: what all operations share is written once."""
        source = "\n".join(_LUA.joinpath(f"slots_{part}.lua").read_text() for part in parts)
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


class SlotScripts:
    """One method an operation. All raise RedisUnavailableError when Redis does not answer in time; whether
    the operation happened is then not known, and doing it again does no harm."""

    def __init__(self, redis: Redis, options: SlotOptions) -> None:
        self._redis = redis
        self._options = options
        self._common = (
            options.global_limit,
            options.per_org_limit,
            options.lease_ms,
            options.first_lease_ms,
            options.requests_per_minute or 0,
            options.tokens_per_minute or 0,
        )
        tuning = (
            options.circuit_attempts,
            options.circuit_share,
            options.circuit_open_ms,
            options.circuit_longest_ms,
            options.quota_open_ms,
        )
        self._tuning = " ".join(map(str, tuning))
        self._acquire = _Script.of("state", "pump", "acquire")
        self._renew = _Script.of("state", "pump", "renew")
        self._release = _Script.of("state", "pump", "release")
        self._cancel = _Script.of("state", "pump", "cancel")
        self._limit = _Script.of("state", "operator", "pump", "limit")
        self._reset = _Script.of("state", "operator", "pump", "reset")
        self._close = _Script.of("state", "operator", "pump", "close")
        self._view = _Script.of("state", "operator", "pump", "view")
        self._lost = _Script.of("state", "pump", "lost")
        self._known_to_redis: set[str] = set()

    async def acquire(
        self, request: SlotRequest, *, nonce: str, channel: str, wait_ms: int, place: int | None
    ) -> Acquired:
        status, place, fence, _, *outlook = await self._call(
            self._acquire,
            request.org_id,
            request.ticket,
            nonce,
            channel,
            wait_ms,
            request.org_cap or 0,
            request.tokens,
            place or 0,
            self._options.org_room,
        )
        return Acquired(status.decode(), place, fence, Outlook.of(outlook))

    async def renew(
        self, leases: Sequence[tuple[str, str, int]], waiters: Sequence[tuple[str, str, str]]
    ) -> Renewed:
        """`leases`: org, ticket, fence; `waiters`: org, ticket, nonce."""
        args: list[str | int] = [self._options.max_hold_ms, len(leases)]
        for lease in leases:
            args.extend(lease)
        for waiter in waiters:
            args.extend(waiter)
        reply = await self._call(self._renew, *args)
        results = reply[_OUTLOOK:]
        return Renewed(
            [result == 1 for result in results[: len(leases)]],
            results[len(leases) :],
            Outlook.of(reply[:_OUTLOOK]),
        )

    async def release(self, org_id: str, ticket: str, fence: int, outcome: Outcome) -> Released:
        options = self._options
        retry_after_ms = options.cooldown_ms if outcome.retry_after_ms is None else outcome.retry_after_ms
        _, circuit, reason, open_ms, *outlook = await self._call(
            self._release,
            org_id,
            ticket,
            fence,
            OutcomeKind(outcome.kind).value,
            retry_after_ms,
            -1 if outcome.tokens is None else outcome.tokens,
            options.circuit_window_ms,
            self._tuning,
        )
        return Released(circuit.decode(), reason.decode(), open_ms, Outlook.of(outlook))

    async def cancel(self, org_id: str, ticket: str, nonce: str) -> Outlook:
        return Outlook.of(await self._call(self._cancel, org_id, ticket, nonce))

    async def limit(self, org_id: str | None, slots: int | None) -> Outlook:
        return Outlook.of(await self._call(self._limit, org_id or "", slots or 0))

    async def reset(self) -> Outlook:
        return Outlook.of(await self._call(self._reset))

    async def close_circuit(self) -> bool:
        """Was it open?"""
        was, *_ = await self._call(self._close)
        return bool(was)

    async def view(self) -> list[Any]:
        return list(await self._call(self._view, self._options.circuit_window_ms))

    async def _call(self, script: _Script, *args: Any) -> list[Any]:
        keys_and_args = (len(KEYS), *KEYS, *self._common, *args)
        try:
            async with asyncio.timeout(self._options.call_ms / 1000):
                try:
                    reply: list[Any] = await self._redis.evalsha(script.sha, *keys_and_args)
                except NoScriptError:
                    # New to Redis; or forgotten, and with it perhaps who holds slots.
                    if script.sha in self._known_to_redis:
                        await self._redis.eval(self._lost.source, len(KEYS), *KEYS, *self._common)
                    reply = await self._redis.eval(script.source, *keys_and_args)
        except (RedisError, OSError, TimeoutError) as exc:
            raise RedisUnavailableError(f"slots: Redis: {type(exc).__name__}: {exc}") from exc
        self._known_to_redis.add(script.sha)
        return reply
