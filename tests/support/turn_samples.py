"""Turns as the journal keeps them, for tests of what operators do with them."""

from __future__ import annotations

from typing import Any

from core.domain.event import Conversation, EventKind
from core.domain.turn import CLAIMS, COLLECTION, Money, TurnEvent, TurnRecord, TurnState, claim
from core.ports.documents import Create, DocumentStore, Key

CUSTOMER = Conversation("bkk-smile", "line", "U" + "1" * 32)
BEGUN_MS = 1_795_478_400_000


def sample(turn_id: str, **fields: Any) -> TurnRecord:
    """A failed turn about one message, begun at BEGUN_MS unless `created_ms` says otherwise."""
    created_ms = fields.setdefault("created_ms", BEGUN_MS)
    user_id = fields.get("user_id", CUSTOMER.chat_id)
    event = TurnEvent(
        turn_id, EventKind.TEXT, f"words of {turn_id}", created_ms - 900, created_ms - 500, "m1", user_id
    )
    values: dict[str, Any] = {
        "org_id": CUSTOMER.org_id,
        "channel": "line",
        "chat_id": CUSTOMER.chat_id,
        "chat_type": "user",
        "user_id": CUSTOMER.chat_id,
        "state": TurnState.FAILED,
        "failure": "patience",
        "events": (event,),
        "fence": 7,
        "trace": "a" * 32,
        "reply_token": "secret-token",
        "reply": "busy",
        "answered_ms": created_ms + 100,
        "delivered_ms": created_ms + 200,
        "delivered_how": "reply",
        "money": Money(day="20261124"),
    }
    return TurnRecord(turn_id, **{**values, **fields})


async def store(documents: DocumentStore, *turns: TurnRecord) -> None:
    writes = [Create(Key(COLLECTION, turn.id), turn.encode()) for turn in turns]
    claims = [Create(Key(CLAIMS, event_id), claim(turn)) for turn in turns for event_id in turn.event_ids]
    await documents.commit([*writes, *claims])


async def stored(documents: DocumentStore, turn_id: str) -> TurnRecord:
    (document,) = await documents.get_many([Key(COLLECTION, turn_id)])
    assert document is not None
    return TurnRecord.decode(turn_id, document.data)
