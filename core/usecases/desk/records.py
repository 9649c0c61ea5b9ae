"""The documents of desks and notices."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from core.domain import desk, notice
from core.domain.desk import Desk
from core.domain.notice import Notice, NoticeState
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, Document, DocumentStore, Key, Merge, Where, Write
from core.usecases.journal.notices import notice_key
from core.usecases.journal.stats import counting

MAX_TRIES = 20


def desk_key(org_id: str) -> Key:
    return Key(desk.COLLECTION, org_id)


def desk_from(org_id: str, document: Document | None) -> Desk:
    return Desk.decode(org_id, document.data if document else None)


def notice_from(document: Document) -> Notice:
    return Notice.decode(document.key.id, document.data)


class DeskRecords:
    """Methods raise DocumentsUnavailableError, and ConflictError if a document changes each time."""

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def desk(self, org_id: str) -> Desk:
        (document,) = await self._documents.get_many([desk_key(org_id)])
        return desk_from(org_id, document)

    async def change_desk(self, org_id: str, change: Callable[[Desk], Desk]) -> tuple[Desk, Desk]:
        """Before and after; nothing is written if that is the same."""
        key = desk_key(org_id)
        for _ in range(MAX_TRIES):
            (document,) = await self._documents.get_many([key])
            before = desk_from(org_id, document)
            after = change(before)
            if after == before or await self._written(key, document, after.encode()):
                return before, after
        raise ConflictError(f"the desk of {org_id} keeps changing: try again")

    async def notice(self, notice_id: str) -> Notice | None:
        (document,) = await self._documents.get_many([notice_key(notice_id)])
        return notice_from(document) if document else None

    async def change_notice(self, notice_id: str, change: Callable[[Notice], Notice]) -> Notice | None:
        """As it is afterwards; None if there is none of that id."""
        key = notice_key(notice_id)
        for _ in range(MAX_TRIES):
            (document,) = await self._documents.get_many([key])
            if document is None:
                return None
            before = notice_from(document)
            after = change(before)
            if after == before:
                return before
            known, data = before.encode(), after.encode()
            changes = {name: value for name, value in data.items() if known[name] != value}
            counts = {after.sent_day: {"pushes": 1}} if after.sent_day and not before.sent_day else {}
            if await self._written(key, document, changes, counting(after.org_id, counts)):
                return after
        raise ConflictError(f"notice {notice_id} keeps changing: try again")

    async def open_notices(self, org_id: str) -> list[Notice]:
        """What staff have not dealt with, oldest first."""
        where = [Where("org_id", "==", org_id), Where("is_open", "==", True)]
        found = [notice_from(d) for d in await self._documents.query(notice.COLLECTION, where)]
        now_ms = self._clock.now_ms()
        waiting = [n for n in found if n.is_due_to_staff(now_ms)]
        return sorted(waiting, key=lambda n: n.created_ms)

    async def undone(self, org_id: str | None = None) -> list[Notice]:
        """Notices that have not been sent and may still be, oldest first."""
        org = [Where("org_id", "==", org_id)] if org_id else []
        found: list[Notice] = []
        for state in (NoticeState.PENDING, NoticeState.KEPT):
            where = [Where("state", "==", state.value), *org]
            found += [notice_from(d) for d in await self._documents.query(notice.COLLECTION, where)]
        return sorted(found, key=lambda n: n.created_ms)

    async def _written(
        self, key: Key, document: Document | None, data: dict[str, object], also: Sequence[Write] = ()
    ) -> bool:
        write: Write = Merge(key, data, if_version=document.version) if document else Create(key, data)
        try:
            await self._documents.commit([write, *also])
        except ConflictError:
            await self._clock.sleep(random.uniform(0.005, 0.05))
            return False
        return True
