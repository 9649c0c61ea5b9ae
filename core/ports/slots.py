"""The slots: how many calls may be at the LLM provider at once, over all instances, and whose turn it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from core.domain.errors import FairlaneError

SPARE = "*spare"
"""Stands for a clinic in requests of the lowest class: work that no customer waits for. They are granted at
once or refused (WAITED), never while somebody waits, and leave half of the slots and of the rates free."""


class Refusal(StrEnum):
    ROOM_FULL = "room_full"  # the clinic has ORG_ROOM waiters already
    WAITED = "waited"  # no slot came free before the deadline
    CIRCUIT = "circuit"  # the provider's circuit is open past the deadline
    COOLDOWN = "cooldown"  # a 429's Retry-After lasts past the deadline
    RATE = "rate"  # requests or tokens per minute are used up past the deadline
    TOO_LARGE = "too_large"  # it asks for more tokens than a minute has: it never can run
    TAKEN = "taken"  # the ticket waits or runs on behalf of another request
    DRAINING = "draining"  # this process is shutting down


class NoSlotError(FairlaneError):
    """No slot in time. Come back in `retry_after_ms`, which follows from what this very request was refused
    for; `place` keeps the position in the clinic's FIFO."""

    def __init__(self, reason: Refusal, retry_after_ms: int, place: int | None = None) -> None:
        super().__init__(f"no slot: {reason.value}, try again in {retry_after_ms} ms")
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.place = place


class SlotLostError(FairlaneError):
    """The lease was lost while the body ran (paused process, failover); the body was cancelled."""


class OutcomeKind(StrEnum):
    """What the provider's state learns from a call."""

    OK = "ok"
    FAILED = "failed"  # 5xx, time-out, connection lost: counts towards opening the circuit
    RATE_LIMITED = "rate_limited"  # 429: cools all instances down
    QUOTA = "quota"  # 429 or 403 with a quota or spend-limit code: opens the circuit at once
    NEUTRAL = "neutral"  # 4xx of ours, never sent, cancelled: says nothing about the provider


@dataclass(frozen=True, slots=True)
class Outcome:
    """`retry_after_ms`: the provider's own wish with a 429. `tokens`: what was really used, if known."""

    kind: OutcomeKind
    retry_after_ms: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """`ticket` makes acquiring idempotent (the turn id, with the attempt). `wait_s`: longest wait.
    `org_cap`: the clinic's own cap, None for the deployment's. `tokens`: estimate, for tokens per minute.
    `place`: a sequence number kept from an earlier wait. `provider`: whose slot; "": the first one's.
    `can_go_elsewhere`: rather than wait for a circuit, it is refused: another provider can be asked.
    `planned`: its task has waited for its time, so that others of its clinic may wait, too."""

    org_id: str
    ticket: str
    wait_s: float
    org_cap: int | None = None
    tokens: int = 0
    place: int | None = None
    provider: str = ""
    can_go_elsewhere: bool = False
    planned: bool = False

    @property
    def is_spare(self) -> bool:
        return self.org_id == SPARE


class Slot(Protocol):
    """A held slot. Set `outcome` before leaving the block; unset means NEUTRAL."""

    outcome: Outcome | None

    @property
    def waited_ms(self) -> int: ...

    @property
    def place(self) -> int:
        """The sequence number under which this ticket waited."""
        ...


class Slots(Protocol):
    def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AbstractAsyncContextManager[Slot]:
        """Wait for a slot and hold it for the block; `on_wait` is called once if it is not granted at once.

        Raises NoSlotError when there is none in time, RedisUnavailableError when Redis is down (fail
        closed), and SlotLostError, after cancelling the block, when the lease is lost.
        """
        ...

    def check_now(self) -> None:
        """Redis is known to have lost its data: begin now what a loss takes, not only with the next wait."""
        ...

    async def drain(self) -> None:
        """Refuse new waits and hand all waiters back (NoSlotError DRAINING); holders go on."""
        ...

    async def close(self) -> None: ...
