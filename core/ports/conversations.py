"""What Redis keeps of a conversation, for the customer's rights over it: see it, and erase it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from core.domain.event import Conversation, InboundEvent
from core.ports.mailbox import Held


@dataclass(frozen=True, slots=True)
class Kept:
    """`session` as stored; `waiting`: messages that nobody has answered yet, oldest first."""

    session: bytes | None
    waiting: tuple[InboundEvent, ...]


@dataclass(frozen=True, slots=True)
class Led:
    """The conversation is led under `fence`. `now_ms`: Redis' clock, by which messages have arrived."""

    fence: int
    now_ms: int


class Conversations(Protocol):
    """Methods raise RedisUnavailableError when Redis does not answer."""

    async def look(self, conversation: Conversation) -> Kept: ...

    async def lead(self, conversation: Conversation) -> Led | Held:
        """Lead it without an event of one's own, so that no turn runs meanwhile.

        Mailbox.renew and Mailbox.finish take the fence.
        """
        ...

    async def erase(
        self, conversation: Conversation, fence: int, *, sender: str, also_done: Sequence[str] = ()
    ) -> int | None:
        """Drop the session and all of the mailbox, with the lease, what the shaper knows of `sender`, and
        their name.

        How many waiting messages were dropped; None if the fence no longer holds (nothing was erased). Their
        ids, and `also_done`, stay for a day as marks, so that tasks on their way end without an answer.
        """
        ...
