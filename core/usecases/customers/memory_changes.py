"""Change a customer's memory on somebody's word, beside the turns that change it too."""

from __future__ import annotations

import random
from collections.abc import Callable

from core.domain import memory
from core.domain.clinic import Retention
from core.domain.event import Conversation
from core.domain.memory import CustomerMemory
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, DocumentStore, Key, Merge, Write

MAX_TRIES = 20


class MemoryChanges:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def read(self, customer: Conversation) -> CustomerMemory:
        (document,) = await self._documents.get_many([memory_key(customer)])
        return CustomerMemory.decode(document.data if document else None, self._clock.now_ms())

    async def change(
        self,
        customer: Conversation,
        retention: Retention,
        change: Callable[[CustomerMemory], CustomerMemory],
        *,
        prolong: bool = True,
    ) -> tuple[CustomerMemory, CustomerMemory]:
        """What is remembered before and after; nothing is written if that is the same. `prolong` False: what
        is there is kept no longer, and no shorter, for it. Raises ConflictError if it changes each time,
        UnavailableError."""
        key = memory_key(customer)
        for _ in range(MAX_TRIES):
            (document,) = await self._documents.get_many([key])
            now_ms = self._clock.now_ms()
            before = CustomerMemory.decode(document.data if document else None, now_ms)
            after = change(before)
            if after == before:
                return before, after
            data = after.encode(now_ms, retention)
            if document and not prolong:
                del data["expire_at"]
            write: Write = Merge(key, data, if_version=document.version) if document else Create(key, data)
            try:
                await self._documents.commit([write])
            except ConflictError:  # a turn has learnt something: read again
                await self._clock.sleep(random.uniform(0.005, 0.05))
            else:
                return before, after
        raise ConflictError(f"what is remembered of {customer.chat_id} keeps changing: try again")


def memory_key(conversation: Conversation) -> Key:
    return Key(memory.COLLECTION, memory.document_id(conversation))
