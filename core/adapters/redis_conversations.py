"""What Redis keeps of a conversation (lua/conversation_*.lua, beside the mailbox's operations)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.adapters import redis_keys
from core.adapters.redis_mailbox import RETENTION_MS, call, keys_of, mailbox_script, waiting_of
from core.domain.errors import RedisUnavailableError
from core.domain.event import Conversation
from core.ports.conversations import Kept, Led
from core.ports.mailbox import Held


class RedisConversations:
    """`redis` returns bytes and is the caller's to close. `lease_ms`: of a conversation that is led."""

    def __init__(self, redis: Redis, *, lease_ms: int) -> None:
        self._redis = redis
        self._lease_ms = lease_ms
        self._lead = mailbox_script(redis, "conversation_lead.lua", when_full=True)
        self._erase = mailbox_script(redis, "conversation_erase.lua", when_full=True)

    async def look(self, conversation: Conversation) -> Kept:
        """See the port."""
        try:
            session: Any = await self._redis.get(redis_keys.session(conversation))
            values: Any = await self._redis.hvals(redis_keys.mailbox(conversation, "events"))
        except (RedisError, OSError) as exc:
            raise RedisUnavailableError(f"Redis: {type(exc).__name__}: {exc}") from exc
        return Kept(session, waiting_of(values, ()).events)

    async def lead(self, conversation: Conversation) -> Led | Held:
        """See the port. The client may repeat the call when a connection breaks: a leader stays leader."""
        keys = [redis_keys.mailbox(conversation, "lead"), redis_keys.GENERATION]
        kind, now_ms, last = await call(self._lead, keys, [uuid.uuid4().hex, self._lease_ms, RETENTION_MS])
        return Held(lease_ms=last, now_ms=now_ms) if kind == b"held" else Led(int(last), now_ms)

    async def erase(
        self, conversation: Conversation, fence: int, *, sender: str, also_done: Sequence[str] = ()
    ) -> int | None:
        """See the port. The other keys lie in other hash slots, hence further calls."""
        dropped = await call(self._erase, keys_of(conversation), [fence, RETENTION_MS, *also_done])
        if dropped is None:
            return None
        try:
            await self._redis.delete(redis_keys.shaper_sender(conversation.org_id, sender))
            await self._redis.delete(redis_keys.display_name(conversation.org_id, sender))
        except (RedisError, OSError) as exc:
            raise RedisUnavailableError(f"Redis: {type(exc).__name__}: {exc}") from exc
        return int(dropped)
