"""A clinic's last real questions as cases: from its journal, with what was once answered to them."""

from __future__ import annotations

from collections.abc import Sequence

from core.domain.event import EventKind
from core.domain.session import Session
from core.domain.turn import COLLECTION, TurnRecord
from core.ports.documents import DocumentStore, Where
from core.usecases.rehearse.cases import Case
from core.usecases.turn.context import session_after, words_of

READ_AHEAD = 4
"""How many times more turns are read than questions are wanted: fixed texts are among them, and what was said
before in the same conversations."""


async def last_questions(
    documents: DocumentStore, org_id: str, count: int, session_ttl_s: float
) -> Sequence[Case]:
    """The newest `count` that a model has answered in 1:1 chats, oldest first; each goes on the conversation
    as the journal has it. What is remembered of customers is not read. Raises UnavailableError."""
    found = await documents.query(
        COLLECTION,
        [Where("org_id", "==", org_id)],
        order_by="created_at",
        descending=True,
        limit=READ_AHEAD * count,
    )
    turns = [TurnRecord.decode(document.key.id, document.data) for document in reversed(found)]
    asked = [turn for turn in turns if _is_question(turn)][-count:]
    return [_case(turn, turns, round(session_ttl_s * 1000)) for turn in asked]


def _is_question(turn: TurnRecord) -> bool:
    by_model = turn.state.final and bool(turn.money.model and turn.reply) and not turn.failure
    worded = bool(words_of(turn)) and all(event.kind == EventKind.TEXT for event in turn.events if event.text)
    return by_model and worded and turn.chat_type == "user"


def _case(turn: TurnRecord, turns: Sequence[TurnRecord], ttl_ms: int) -> Case:
    session = Session()
    for earlier in turns:
        if earlier.chat_id == turn.chat_id and earlier.created_ms < turn.created_ms:
            session = session_after(session, earlier, turn.created_ms - ttl_ms)
    return Case(turn.id, ("\n".join(words_of(turn)),), before=session, old_reply=turn.reply)
