"""The mailbox: one turn at a time in a conversation, and everything that waits goes into it.

Redis only speeds this up; what makes a reply exactly-once is the journal (core.usecases.journal.journal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from core.domain.event import Conversation, InboundEvent


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a leader answers: the newest events verbatim, oldest first, and the ids of those beyond the
    mailbox's bounds (`overflow_ids`), which are claimed with them but stand in the prompt only as a count.
    `clinic_mark`: see core.ports.clinic_marks."""

    events: tuple[InboundEvent, ...]
    overflow_ids: tuple[str, ...] = ()
    clinic_mark: str = ""


@dataclass(frozen=True, slots=True)
class Lead:
    """This process leads the conversation under `fence`. `session` is the stored state, or None.

    `now_ms` is Redis' clock: ages are measured by it, so that a machine whose clock is off does no harm.
    """

    fence: int
    waiting: Waiting
    session: bytes | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """Another turn leads; its lease ends in `lease_ms` unless it is renewed."""

    lease_ms: int
    now_ms: int


class Delay(StrEnum):
    """Why an event must come again although nobody leads its conversation."""

    GATHERING = "gathering"
    """Its conversation waits for another message; whoever leads then takes this one along."""
    REDIS_LOST = "redis_lost"
    """Redis lost its data, and it is not known yet who leads and who came first."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Nobody leads, but this event may not either; it should come again in `wait_ms`."""

    wait_ms: int
    reason: Delay
    now_ms: int


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """The event was answered (fast path; the journal is the authority)."""

    now_ms: int


class Mailbox(Protocol):
    """Methods raise RedisUnavailableError when Redis does not answer."""

    async def begin(self, event: InboundEvent) -> Lead | Held | NotYet | AlreadyDone:
        """Put `event` in its conversation's mailbox and try to lead. One round trip.

        A leader gets the waiting events and the session in the same trip, with those that were announced
        (ports.shaper) and whose own tasks have not begun. Beginning twice with the same event puts it in
        once. A process that already leads gets Held like any other.
        """
        ...

    async def renew(self, conversation: Conversation, fence: int, *, calling: str | None = None) -> bool:
        """Prolong the lease; False if it was lost (the caller must stop at once). Who led when Redis lost its
        data leads on. `calling`: the turn for which LINE is called from now on."""
        ...

    async def may_have_called(self, conversation: Conversation, turn_id: str, fence: int) -> bool:
        """Whether the leader under `fence` said with a renewal that it calls LINE for the turn; True also if
        that is not known any more."""
        ...

    async def finish(
        self,
        conversation: Conversation,
        fence: int,
        done_ids: Sequence[str],
        *,
        session: bytes | None = None,
        go_on: bool = False,
    ) -> Waiting | None:
        """End a turn: mark `done_ids`, store `session` (None leaves it), and hand over.

        With `go_on`, if more events arrived meanwhile, and one of them is due, the lease is kept and they are
        returned. Otherwise the lease is given up and Waiting(()) returned. None if the fence no longer holds:
        nothing was written.
        """
        ...

    async def remove(self, conversation: Conversation, message_id: str) -> bool:
        """Take an unsent message (by LINE's message id) out of the mailbox if it is still waiting there,
        and keep it out."""
        ...
