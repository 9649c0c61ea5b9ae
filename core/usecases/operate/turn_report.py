"""The journal of turns, for operators. Reads only."""

from __future__ import annotations

from datetime import UTC, datetime

from core.domain.errors import InvalidInputError
from core.domain.notice import Notice
from core.domain.task import EffectKind
from core.domain.turn import COLLECTION, TurnRecord, TurnState
from core.ports.documents import Document, DocumentStore, Key, Where
from core.usecases.desk.records import notice_from
from core.usecases.journal.notices import notice_key


async def list_turns(
    documents: DocumentStore,
    *,
    since_ms: int,
    state: TurnState | None = None,
    org_id: str | None = None,
    failure: str | None = None,
    limit: int | None = None,
) -> list[TurnRecord]:
    """Turns begun since, newest first. `failure`: how the reason begins; the limit counts before it."""
    where = [Where("created_at", ">=", datetime.fromtimestamp(since_ms / 1000, UTC))]
    if state is not None:
        where.append(Where("state", "==", state.value))
    if org_id is not None:
        where.append(Where("org_id", "==", org_id))
    found = await documents.query(COLLECTION, where, order_by="created_at", descending=True, limit=limit)
    turns = [turn_of(document) for document in found]
    return [turn for turn in turns if failure is None or (turn.failure or "").startswith(failure)]


async def turns_of_chat(documents: DocumentStore, org_id: str, chat_id: str) -> list[TurnRecord]:
    """All that the journal keeps of a chat, oldest first."""
    found = await documents.query(
        COLLECTION, [Where("org_id", "==", org_id), Where("chat_id", "==", chat_id)]
    )
    return sorted(map(turn_of, found), key=lambda turn: (turn.created_ms, turn.id))


async def find_turn(documents: DocumentStore, turn_id: str) -> TurnRecord:
    """Raises InvalidInputError if there is no such turn."""
    (document,) = await documents.get_many([Key(COLLECTION, turn_id)])
    if document is None:
        raise InvalidInputError(f"turn {turn_id!r}: not in the journal; `fairlane turns list` shows turns")
    return turn_of(document)


async def notices_of(documents: DocumentStore, turn: TurnRecord) -> list[Notice]:
    """Those that the turn has caused, as they are now."""
    keys = [notice_key(effect.id) for effect in turn.effects if effect.kind == EffectKind.NOTICE]
    return [notice_from(document) for document in await documents.get_many(keys) if document]


def turn_of(document: Document) -> TurnRecord:
    return TurnRecord.decode(document.key.id, document.data)
