"""Questions that clinics' words do not answer: listed, answered, dismissed, erased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from core.domain.clinic_prices import ApprovedAnswer, compact
from core.domain.errors import InvalidInputError
from core.domain.event import Conversation
from core.domain.questions import (
    ANSWERED,
    COLLECTION,
    DISMISSED,
    Asked,
    Question,
    document_id,
    question_from,
)
from core.ports.clock import Clock
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
from core.usecases.clinics.documents import ORGS
from core.usecases.clinics.price_documents import answers_document, answers_from
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_state import ClinicState

MAX_TRIES = 20


class NoSuchQuestionError(InvalidInputError):
    def __init__(self, org_id: str, question: str) -> None:
        super().__init__(f"ID {question!r}: no such question; `fairlane questions list {org_id}` shows them")


class Questions:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def of_clinic(self, org_id: str) -> list[Question]:
        """The most asked first."""
        found = [question for question, _ in await self._read(org_id)]
        return sorted(found, key=lambda question: (-question.count, -question.last_ms))

    async def dismiss(self, org_id: str, question: str) -> Question:
        """It is listed no more, however often it is asked. Raises NoSuchQuestionError, UnavailableError."""
        document = await self._document(org_id, question)
        closed = {"closed": DISMISSED, "closed_ms": self._clock.now_ms()}
        await self._documents.commit([Merge(document.key, closed)])
        return question_from(document.key.id, {**document.data, **closed})

    async def answer(self, change: ChangeClinic, org_id: str, question: str, text: str) -> ApprovedAnswer:
        """The clinic's answer from now on, also instead of an earlier one to the same question: a version of
        the clinic. Raises NoSuchQuestionError, and as ChangeClinic does."""
        document = await self._document(org_id, question)
        latest = question_from(document.key.id, document.data).latest
        if latest is None:
            raise NoSuchQuestionError(org_id, question)
        approved = ApprovedAnswer(latest.question, text)

        def answered(state: ClinicState) -> ClinicState:
            org = state.org or {}
            answers = answers_from(f"{ORGS}/{org_id}", org.get("answers"))
            others = [each for each in answers if compact(each.question) != compact(approved.question)]
            return replace(state, org={**org, "answers": answers_document([*others, approved])})

        closed = {"closed": ANSWERED, "closed_ms": self._clock.now_ms()}
        await change(org_id, "questions answer", answered, also=[Merge(document.key, closed)])
        return approved

    async def asked_by(self, customer: Conversation) -> list[Asked]:
        """What is kept of a customer here, in their chat and in groups."""
        found = [question for question, _ in await self._read(customer.org_id)]
        return [asked for each in found for asked in each.asked.values() if _is_by(customer, asked)]

    async def forget(self, customer: Conversation) -> None:
        """Erase a customer's words; a question that nobody else is known to have asked goes as a whole."""
        await self._keep(customer.org_id, lambda asked: not _is_by(customer, asked))

    async def forget_turns(self, org_id: str, turn_ids: Sequence[str]) -> None:
        """The same for what was asked in these turns."""
        if turn_ids:
            await self._keep(org_id, lambda asked: asked.turn_id not in turn_ids)

    async def _keep(self, org_id: str, keeps: Callable[[Asked], bool]) -> None:
        for _ in range(MAX_TRIES):
            left = [(q, d) for q, d in await self._read(org_id) if len(q.left(keeps)) < len(q.asked)]
            if not left:
                return
            for question, document in left:
                try:
                    await self._documents.commit([_without(question, document, keeps)])
                except ConflictError:  # it is asked at this moment: read again
                    continue
        raise ConflictError(f"the questions of {org_id} keep changing: try again")

    async def _read(self, org_id: str) -> list[tuple[Question, Document]]:
        found = await self._documents.query(COLLECTION, [Where("org_id", "==", org_id)])
        return [(question_from(document.key.id, document.data), document) for document in found]

    async def _document(self, org_id: str, question: str) -> Document:
        (document,) = await self._documents.get_many([Key(COLLECTION, document_id(org_id, question))])
        if document is None:
            raise NoSuchQuestionError(org_id, question)
        return document


def _without(question: Question, document: Document, keeps: Callable[[Asked], bool]) -> Write:
    left = question.left(keeps)
    if not left:
        return Delete(document.key, if_version=document.version)
    gone = {place: DELETE_FIELD for place in question.asked if place not in left}
    return Merge(document.key, {"asked": gone}, if_version=document.version)


def _is_by(customer: Conversation, asked: Asked) -> bool:
    return customer.chat_id in {asked.chat_id, asked.user_id}
