"""The far sides of a rehearsed turn: nothing is sent, enqueued or led, and a slot is free at any time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.domain.event import Conversation, InboundEvent
from core.domain.media import MediaState
from core.domain.prompt import Picture
from core.domain.task import Task
from core.ports.content import ContentError
from core.ports.line import ChannelCredentials, LineMessage, Sent
from core.ports.mailbox import AlreadyDone, Held, Lead, NotYet, Waiting
from core.ports.slots import Outcome, Slot, SlotRequest
from core.ports.tasks import Scheduled
from core.ports.transcriber import Transcript


class Unsent:
    """See core.ports.line: takes everything, tells nobody."""

    async def reply(
        self, channel: ChannelCredentials, reply_token: str, messages: Sequence[LineMessage]
    ) -> Sent:
        return Sent()

    async def push(
        self, channel: ChannelCredentials, to: str, messages: Sequence[LineMessage], *, retry_key: str
    ) -> Sent:
        return Sent()

    async def show_loading(self, channel: ChannelCredentials, chat_id: str, seconds: int) -> None: ...

    async def mark_as_read(self, channel: ChannelCredentials, read_token: str) -> None: ...

    async def display_name(
        self, channel: ChannelCredentials, user_id: str, *, chat_id: str, chat_type: str
    ) -> str:
        return ""

    async def bot_info(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        return {}

    async def get_webhook(self, channel: ChannelCredentials) -> Mapping[str, Any]:
        return {}

    async def set_webhook(self, channel: ChannelCredentials, url: str) -> None: ...

    async def test_webhook(self, channel: ChannelCredentials, url: str | None = None) -> Mapping[str, Any]:
        return {}

    async def close(self) -> None: ...


class NothingSent:
    """See core.ports.content, pictures and transcriber: a rehearsed customer has words only."""

    async def fetch(self, channel: ChannelCredentials, message_id: str, *, max_bytes: int) -> bytes:
        raise ContentError(MediaState.LOST, "a rehearsal has no content")

    async def scaled(self, data: bytes) -> Picture:
        raise ContentError(MediaState.LOST, "a rehearsal has no content")

    async def transcribe(self, model: str, audio: bytes, *, timeout_s: float) -> Transcript:
        raise ContentError(MediaState.LOST, "a rehearsal has no content")

    async def close(self) -> None: ...


class Unqueued:
    """See core.ports.tasks: what a turn causes is stored with it, and nobody does it."""

    async def create(self, task: Task, *, delay_ms: int = 0, timeout_s: float = 5.0) -> bool:
        return True

    async def run(self, name: str, *, timeout_s: float = 5.0) -> bool:
        return False

    async def scheduled(self, *, timeout_s: float = 10.0) -> list[Scheduled]:
        return []

    async def close(self) -> None: ...


class Unnamed:
    """See core.ports.names."""

    async def get(self, org_id: str, user_id: str) -> str | None:
        return None

    async def put(self, org_id: str, user_id: str, name: str) -> None: ...


class Alone:
    """See core.ports.mailbox: nobody else leads a rehearsed conversation, or ever did."""

    async def begin(self, event: InboundEvent) -> Lead | Held | NotYet | AlreadyDone:
        return Lead(1, Waiting((event,)), None, event.arrived_ms)

    async def renew(self, conversation: Conversation, fence: int, *, calling: str | None = None) -> bool:
        return True

    async def may_have_called(self, conversation: Conversation, turn_id: str, fence: int) -> bool:
        return False

    async def finish(
        self,
        conversation: Conversation,
        fence: int,
        done_ids: Sequence[str],
        *,
        session: bytes | None = None,
        go_on: bool = False,
    ) -> Waiting | None:
        return Waiting(())

    async def remove(self, conversation: Conversation, message_id: str) -> bool:
        return False


@dataclass(slots=True)
class _FreeSlot:
    outcome: Outcome | None = None
    waited_ms: int = 0
    place: int = 0


class FreeSlots:
    """See core.ports.slots: how many cases run at once is limited elsewhere."""

    @asynccontextmanager
    async def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[Slot]:
        yield _FreeSlot()

    def check_now(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...
