"""The slots' Lua operations as typed calls (lua/slots_*.lua), and the options that they run with."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from core.adapters import redis_keys
from core.adapters.redis_connection import ALLOWED_WHEN_FULL, REFUSED_WHEN_FULL
from core.domain.errors import RedisUnavailableError
from core.domain.providers import DEFAULT_PROVIDER
from core.domain.settings import default
from core.ports.slots import Outcome, OutcomeKind, SlotRequest

_PARTS = (
    "leases", "queue", "waits", "orgs", "tickets", "state", "caps", "calls", "starts", "tokens",
)  # fmt: skip


def keys_of(provider: str = DEFAULT_PROVIDER) -> list[str]:
    return [redis_keys.slots(part, provider) for part in _PARTS]


KEYS = keys_of()
_LUA = resources.files("core.adapters").joinpath("lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """`org_room`: waiters a clinic may have. A rate of None is none. A grant is a claim for `claim_ms` until
    its first renewal, then a lease for `lease_ms`; nobody holds a slot for longer than `max_hold_ms`.

    The circuit opens when `circuit_share` of at least `circuit_attempts` calls in `circuit_window_ms` failed,
    for `circuit_open_ms`, then for twice as long each time up to `circuit_longest_ms`; after a quota code for
    `quota_open_ms`. `cooldown_ms`: after a 429 without Retry-After; with one at most `cooldown_longest_ms`,
    since one strange header must not stop everybody. A call to Redis may take `call_ms`.

    `provider`: whose slots these are. `adaptive`: the limit follows what the provider takes, below
    `global_limit`. `probe_ms`: how long an open circuit waits for its next probe while there is another
    provider to go to; 0: there is none.
    """

    global_limit: int = default("CHAT_MAX_CONCURRENT")
    per_org_limit: int = default("CHAT_MAX_CONCURRENT_PER_ORG")
    lease_ms: int = round(1000 * default("SLOT_LEASE_S"))
    org_room: int = default("ORG_ROOM")
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
    cooldown_longest_ms: int = 120_000
    call_ms: int = 2_000
    provider: str = DEFAULT_PROVIDER
    adaptive: bool = default("LLM_ADAPTIVE")
    probe_ms: int = 0

    @property
    def first_lease_ms(self) -> int:
        """A claim is never longer than the lease that it becomes."""
        return min(self.claim_ms, self.lease_ms)


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the room stands after an operation. `again_ms`: when time alone may let a waiter run, None if
    nobody waits. `shut_ms`: how long the provider's state certainly forbids any grant, and `reason` why.
    `now_ms`: Redis' clock. `generation`: another one than before if Redis has lost its data."""

    again_ms: int | None
    shut_ms: int
    reason: str
    used: int
    waiting: int
    limit: int
    now_ms: int
    generation: int

    @classmethod
    def of_quiet(cls, packed_numbers: bytes) -> tuple[Self, list[int]]:
        """From the reply of an operation that concerned nobody but its caller; also its own numbers."""
        used, limit, now_ms, generation, *own = map(int, unpacked(packed_numbers))
        return cls(None, 0, "", used, 0, limit, now_ms, generation), own

    @classmethod
    def of(cls, reason: bytes, packed_numbers: bytes) -> tuple[Self, list[int]]:
        """From the end of a reply; also the operation's own numbers."""
        again_ms, shut_ms, used, waiting, limit, now_ms, generation, *own = map(int, unpacked(packed_numbers))
        shown = None if again_ms < 0 else again_ms
        return cls(shown, shut_ms, reason.decode(), used, waiting, limit, now_ms, generation), own


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
    def of(cls, *parts: str, when_full: bool = True) -> Self:
        """One script of several files: what all operations share is written once. `when_full`: also for a
        Redis without memory left."""
        first = ALLOWED_WHEN_FULL if when_full else REFUSED_WHEN_FULL
        source = first + "\n".join(_LUA.joinpath(f"slots_{part}.lua").read_text() for part in parts)
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def packed(*numbers: float) -> bytes:
    """Numbers as one argument, which Lua's `struct.unpack` reads at a fraction of an argument's cost."""
    return struct.pack(f"<{len(numbers)}d", *numbers)


def unpacked(data: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(data) // 8}d", data)


class SlotScripts:
    """One method an operation. All raise RedisUnavailableError when Redis does not answer in time; whether
    the operation happened is then not known, and doing it again does no harm."""

    def __init__(self, redis: Redis, options: SlotOptions) -> None:
        self._redis = redis
        self._options = options
        self._keys = keys_of(options.provider)
        self._common = packed(
            options.global_limit,
            options.per_org_limit,
            options.lease_ms,
            options.first_lease_ms,
            options.requests_per_minute or 0,
            options.tokens_per_minute or 0,
        )
        self._tuning = (
            options.circuit_attempts,
            options.circuit_share,
            options.circuit_open_ms,
            options.circuit_longest_ms,
            options.quota_open_ms,
        )
        self._acquire = _Script.of(
            "state", "acquire_free", "room", "learnt", "rates", "pump", "acquire", when_full=False
        )
        self._spare = _Script.of("state", "room", "learnt", "rates", "pump", "spare", when_full=False)
        self._renew = _Script.of("state", "room", "learnt", "rates", "pump", "renew")
        self._release = _Script.of("state", "release_free", "room", "learnt", "rates", "pump", "release")
        self._cancel = _Script.of("state", "room", "learnt", "rates", "pump", "cancel")
        self._limit = _Script.of("state", "room", "operator", "learnt", "rates", "pump", "limit")
        self._reset = _Script.of("state", "room", "operator", "learnt", "rates", "pump", "reset")
        self._close = _Script.of("state", "room", "operator", "learnt", "rates", "pump", "close")
        self._view = _Script.of("state", "room", "operator", "learnt", "rates", "pump", "view")
        self._generation = 0
        self._seen_limit = 0

    async def acquire(
        self, request: SlotRequest, *, nonce: str, channel: str, wait_ms: int, place: int | None
    ) -> Acquired:
        words, outlook, (place, fence, *_) = await self._call(
            self._spare if request.is_spare else self._acquire,
            (
                wait_ms,
                request.org_cap or 0,
                request.tokens,
                place or 0,
                self._options.org_room,
                request.can_go_elsewhere,
            ),
            request.org_id,
            request.ticket,
            nonce,
            channel,
        )
        return Acquired(words[0] if words else "granted", place, fence, outlook)

    async def renew(
        self, leases: Sequence[tuple[str, str, int]], waiters: Sequence[tuple[str, str, str]]
    ) -> Renewed:
        """`leases`: org, ticket, fence; `waiters`: org, ticket, nonce."""
        numbers = (self._options.max_hold_ms, len(leases))
        _, outlook, results = await self._call(self._renew, numbers, *chain[str | int](*leases, *waiters))
        prolonged = [result == 1 for result in results[: len(leases)]]
        return Renewed(prolonged, results[len(leases) :], outlook)

    async def release(self, org_id: str, ticket: str, fence: int, outcome: Outcome) -> Released:
        options = self._options
        asked_ms = outcome.retry_after_ms
        retry_after_ms = (
            -options.cooldown_ms if asked_ms is None else min(max(0, asked_ms), options.cooldown_longest_ms)
        )
        used_tokens = -1 if outcome.tokens is None else outcome.tokens
        words, outlook, numbers = await self._call(
            self._release,
            (fence, options.circuit_window_ms, retry_after_ms, used_tokens, *self._tuning),
            org_id,
            ticket,
            OutcomeKind(outcome.kind).value,
        )
        circuit, reason = words or ("", "")
        return Released(circuit, reason, numbers[1] if numbers else 0, outlook)

    async def cancel(self, request: SlotRequest, *, nonce: str, place: int | None) -> Outlook:
        """The outlook's reason is this request's."""
        numbers = (request.tokens, place or 0)
        _, outlook, _ = await self._call(self._cancel, numbers, request.org_id, request.ticket, nonce)
        return outlook

    async def limit(self, org_id: str | None, slots: int | None) -> Outlook:
        _, outlook, _ = await self._call(self._limit, (slots or 0,), org_id or "")
        return outlook

    async def reset(self) -> Outlook:
        _, outlook, _ = await self._call(self._reset, ())
        return outlook

    async def close_circuit(self) -> bool:
        """Was it open?"""
        *_, (was,) = await self._call(self._close, ())
        return bool(was)

    async def view(self) -> list[Any]:
        return list(await self._run(self._view, (self._options.circuit_window_ms,)))

    async def _call(
        self, script: _Script, numbers: tuple[float, ...], *words: str | int
    ) -> tuple[list[str], Outlook, list[int]]:
        """The operation's own words (none if it concerned nobody else), how the room stands, its numbers."""
        reply = await self._run(script, numbers, *words)
        own_words: list[bytes] = []
        if isinstance(reply, bytes):
            outlook, own_numbers = Outlook.of_quiet(reply)
        else:
            *own_words, reason, packed_numbers = reply
            outlook, own_numbers = Outlook.of(reason, packed_numbers)
        self._generation, self._seen_limit = outlook.generation, outlook.limit
        return [word.decode() for word in own_words], outlook, own_numbers

    async def _run(self, script: _Script, numbers: tuple[float, ...], *words: str | int) -> Any:
        options = self._options
        state = packed(self._generation, options.adaptive, options.probe_ms, self._seen_limit, *numbers)
        keys_and_args: tuple[Any, ...] = (*self._keys, self._common, state, *words)
        try:
            async with asyncio.timeout(self._options.call_ms / 1000):
                try:
                    return await self._redis.evalsha(script.sha, len(self._keys), *keys_and_args)
                except NoScriptError:
                    return await self._redis.eval(script.source, len(self._keys), *keys_and_args)
        except (RedisError, OSError, TimeoutError) as exc:
            raise RedisUnavailableError(f"slots: Redis: {type(exc).__name__}: {exc}") from exc
