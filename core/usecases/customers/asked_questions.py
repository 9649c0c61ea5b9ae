"""What customers have asked and clinics' words did not answer: their words are theirs to take back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from core.domain.event import Conversation
from core.domain.questions import COLLECTION, Asked, Question, document_id, question_from
from core.domain.turn import TurnRecord
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Delete,
    Document,
    DocumentStore,
    Key,
    Merge,
    Where,
    Write,
)

MAX_TRIES = 20


class AskedQuestions:
    """Methods raise DocumentsUnavailableError, and ConflictError if a question changes each time."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def by(self, customer: Conversation) -> list[Asked]:
        """What is kept of a customer here, in their chat and in groups."""
        found = await self.of_clinic(customer.org_id)
        asked = [asked for question, _ in found for asked in question.asked.values()]
        return [each for each in asked if _is_by(customer, each)]

    async def of_clinic(self, org_id: str) -> list[tuple[Question, Document]]:
        found = await self._documents.query(COLLECTION, [Where("org_id", "==", org_id)])
        return [(question_from(document.key.id, document.data), document) for document in found]

    async def forget(self, customer: Conversation) -> None:
        """Erase a customer's words; a question that nobody else is known to have asked goes as a whole."""
        for _ in range(MAX_TRIES):
            found = await self.of_clinic(customer.org_id)
            keys = [d.key for q, d in found if any(_is_by(customer, asked) for asked in q.asked.values())]
            if not keys:
                return
            for key in keys:
                await self._keep(key, lambda asked: not _is_by(customer, asked))

    async def forget_turns(self, turns: Iterable[TurnRecord]) -> None:
        """The same for what was asked in these turns. No trip for those in which nothing was."""
        for turn in turns:
            if turn.question_id is not None:
                key = Key(COLLECTION, document_id(turn.org_id, turn.question_id))
                await self._keep(key, partial(_is_not_in, turn.id))

    async def _keep(self, key: Key, keeps: Callable[[Asked], bool]) -> None:
        for _ in range(MAX_TRIES):
            (document,) = await self._documents.get_many([key])
            if document is None:
                return
            question = question_from(key.id, document.data)
            if len(question.left(keeps)) == len(question.asked):
                return
            try:
                await self._documents.commit([_without(question, document, keeps)])
            except ConflictError:  # it is asked at this moment: read again
                continue
            return
        raise ConflictError(f"the question {key.id} keeps changing: try again")


def _without(question: Question, document: Document, keeps: Callable[[Asked], bool]) -> Write:
    left = question.left(keeps)
    if not left:
        return Delete(document.key, if_version=document.version)
    gone = {place: DELETE_FIELD for place in question.asked if place not in left}
    return Merge(document.key, {"asked": gone}, if_version=document.version)


def _is_not_in(turn_id: str, asked: Asked) -> bool:
    return asked.turn_id != turn_id


def _is_by(customer: Conversation, asked: Asked) -> bool:
    return customer.chat_id in {asked.chat_id, asked.user_id}
