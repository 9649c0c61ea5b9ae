"""The mailbox in Redis: one script call an operation (lua/mailbox_*.lua).

A conversation's keys: who leads, the newest events, the ids of those beyond the bounds, what is done, the
session, and whose task is still to begin. All of them expire, since Redis runs with `noeviction`: what is
forgotten costs a coalescing, or the order, but never a message, for every event has its own task and the
journal its claim.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import fields
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.adapters.redis_connection import ALLOWED_WHEN_FULL, REFUSED_WHEN_FULL
from core.domain.errors import RedisUnavailableError
from core.domain.event import MAX_WAITING, MAX_WAITING_CHARS, Conversation, EventKind, InboundEvent
from core.ports.mailbox import AlreadyDone, Delay, Held, Lead, NotYet, Waiting

RETENTION_MS = 24 * 3600 * 1000  # as long as the queue remembers a task's name
KNOWN_MS = 300_000  # how long an event that was announced is known, so that a redelivery is none
MAX_KNOWN = 200  # of a conversation; beyond it, order and rate are a flood's least concern
_MAX_OVERFLOW = 500
_MAX_DONE = 1000
_FIELDS = frozenset(field.name for field in fields(InboundEvent))


class RedisMailbox:
    """`redis` returns bytes (no decode_responses) and is the caller's to close.

    `max_events` and `max_chars` bound what of a conversation is kept verbatim: the newest events, but one
    at least. Several of LINE's longest messages (5,000 characters) fit, and a flurry of short ones; what they
    may cost is bounded where the prompt is built. `overdue_ms`: for how long an event that was acknowledged
    and is due is taken along although its own task has not begun; one whose task was never enqueued must not
    age there, for it would be answered with what is said the next day.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        lease_ms: int,
        session_ttl_s: int,
        max_events: int = MAX_WAITING,
        max_chars: int = MAX_WAITING_CHARS,
        overdue_ms: int = 60_000,
    ) -> None:
        self._redis = redis
        self._lease_ms = lease_ms
        self._session_ttl_ms = session_ttl_s * 1000
        self._max_events = max_events
        self._max_chars = max_chars
        self._overdue_ms = overdue_ms
        self._generation: bytes = b""
        self._begin = mailbox_script(redis, "mailbox_begin.lua")
        self._renew = mailbox_script(redis, "mailbox_renew.lua", when_full=True)
        self._finish = mailbox_script(redis, "mailbox_finish.lua", when_full=True)
        self._remove = mailbox_script(redis, "mailbox_remove.lua", when_full=True)

    async def begin(self, event: InboundEvent) -> Lead | Held | NotYet | AlreadyDone:
        """See the port. The client may repeat the call when a connection breaks: a leader stays leader."""
        call_id = uuid.uuid4().hex
        args = [
            event.event_id,
            own_message_id(event),
            event.timestamp_ms,
            len(event.text),
            encode_event(event),
            call_id,
            self._lease_ms,
            self._session_ttl_ms,
            RETENTION_MS,
            self._max_events,
            self._max_chars,
            _MAX_OVERFLOW,
            self._overdue_ms,
            KNOWN_MS,
            MAX_KNOWN,
            self._generation,
        ]
        kind, now_ms, self._generation, *rest = await call(self._begin, _with_mark(event.conversation), args)
        match kind:
            case b"done":
                return AlreadyDone(now_ms)
            case b"held":
                return Held(lease_ms=rest[0], now_ms=now_ms)
            case b"gathering" | b"redis_lost":
                return NotYet(wait_ms=rest[0], reason=Delay(kind.decode()), now_ms=now_ms)
        fence, session, values, overflow, mark = rest
        return Lead(fence, waiting_of(values, overflow, mark), session, now_ms)

    async def renew(self, conversation: Conversation, fence: int, *, calling: str | None = None) -> bool:
        """See the port. A lease that ran out is prolonged too, unless somebody else has led since."""
        lead, done = (redis_keys.mailbox(conversation, part) for part in ("lead", "done"))
        note = _note(calling) if calling else ""
        args = [fence, self._lease_ms, RETENTION_MS, note]
        return bool(await call(self._renew, [lead, redis_keys.GENERATION, done], args))

    async def may_have_called(self, conversation: Conversation, turn_id: str, fence: int) -> bool:
        """See the port. A fence is the time (µs) at which its leader began, and so is a generation."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zscore(redis_keys.mailbox(conversation, "done"), _note(turn_id))
            pipe.hget(redis_keys.GENERATION, "id")
            pipe.time()
            try:
                noted, generation, (now_s, _) = await pipe.execute()
            except (RedisError, OSError) as exc:
                raise RedisUnavailableError(f"the mailbox in Redis: {type(exc).__name__}: {exc}") from exc
        kept = fence >= int(generation or now_s * 1_000_000)
        return noted is not None or not kept or now_s * 1000 - fence // 1000 > RETENTION_MS

    async def finish(
        self,
        conversation: Conversation,
        fence: int,
        done_ids: Sequence[str],
        *,
        session: bytes | None = None,
        go_on: bool = False,
    ) -> Waiting | None:
        """See the port."""
        args = [
            fence,
            int(go_on),
            int(session is not None),
            session or b"",
            self._lease_ms,
            self._session_ttl_ms,
            RETENTION_MS,
            _MAX_DONE,
            *done_ids,
        ]
        found = await call(self._finish, _with_mark(conversation), args)
        return None if found is None else waiting_of(*found)

    async def remove(self, conversation: Conversation, message_id: str) -> bool:
        """See the port. The message is also kept out if its task begins later: it is done then."""
        keys = [redis_keys.mailbox(conversation, part) for part in ("events", "done", "announced")]
        return bool(await call(self._remove, keys, [message_id, RETENTION_MS, _MAX_DONE]))


def _note(turn_id: str) -> str:
    """That LINE is being called for a turn: among the done ids, which no event id can be."""
    return f"line:{turn_id}"


def mailbox_script(redis: Redis, *names: str, when_full: bool = False) -> AsyncScript:
    """What the scripts share stands at their head. `when_full`: also for a Redis without memory left."""
    lua = resources.files("core.adapters").joinpath("lua")
    source = "".join(lua.joinpath(n).read_text() for n in ("mailbox_order.lua", *names))
    return redis.register_script((ALLOWED_WHEN_FULL if when_full else REFUSED_WHEN_FULL) + source)


async def call(script: AsyncScript, keys: Sequence[str], args: Sequence[Any]) -> Any:
    try:
        return await script(keys=keys, args=args)
    except (RedisError, OSError) as exc:
        raise RedisUnavailableError(f"the mailbox in Redis: {type(exc).__name__}: {exc}") from exc


def own_message_id(event: InboundEvent) -> str:
    """An unsend event names the message that it is about, and must itself be dealt with."""
    return (event.message_id or "") if event.kind != EventKind.UNSEND else ""


def keys_of(conversation: Conversation) -> list[str]:
    """As mailbox_begin.lua names them."""
    lead, events, overflow, done, announced, known = (
        redis_keys.mailbox(conversation, part)
        for part in ("lead", "events", "overflow", "done", "announced", "known")
    )
    session = redis_keys.session(conversation)
    return [lead, events, overflow, done, session, announced, known, redis_keys.GENERATION]


def _with_mark(conversation: Conversation) -> list[str]:
    return [*keys_of(conversation), redis_keys.clinic_mark(conversation.org_id)]


def encode_event(event: InboundEvent) -> bytes:
    # By name, since asdict copies every value deeply.
    values = {name: value for name in event.__slots__ if (value := getattr(event, name)) is not None}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def waiting_of(values: Sequence[bytes], overflow: Sequence[bytes], mark: bytes | None = None) -> Waiting:
    """Oldest first by LINE's timestamp. Fields that a newer version of fairlane wrote are left out."""
    events = []
    for value in values:
        stored = json.loads(value.split(b"|", 2)[2])
        events.append(InboundEvent(**{name: stored[name] for name in stored.keys() & _FIELDS}))
    events.sort(key=lambda event: (event.timestamp_ms, event.event_id))
    overflow_ids = tuple(event_id.decode() for event_id in overflow)
    return Waiting(tuple(events), overflow_ids, mark.decode() if mark else "")
