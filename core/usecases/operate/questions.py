"""Questions that clinics' words do not answer: listed, answered, dismissed."""

from __future__ import annotations

from dataclasses import replace

from core.domain.clinic_prices import ApprovedAnswer, compact
from core.domain.errors import InvalidInputError
from core.domain.questions import (
    ANSWERED,
    COLLECTION,
    DISMISSED,
    Question,
    document_id,
    question_from,
)
from core.ports.clock import Clock
from core.ports.documents import (
    Document,
    DocumentStore,
    Key,
    Merge,
)
from core.usecases.clinics.documents import ORGS
from core.usecases.clinics.price_documents import answers_document, answers_from
from core.usecases.customers.asked_questions import AskedQuestions
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_state import ClinicState


class NoSuchQuestionError(InvalidInputError):
    def __init__(self, org_id: str, question: str) -> None:
        super().__init__(f"ID {question!r}: no such question; `fairlane questions list {org_id}` shows them")


class Questions:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def of_clinic(self, org_id: str) -> list[Question]:
        """The most asked first."""
        found = [question for question, _ in await AskedQuestions(self._documents).of_clinic(org_id)]
        return sorted(found, key=lambda question: (-question.count, -question.last_ms))

    async def of_all(self) -> list[Question]:
        """Of all clinics, the most asked first."""
        found = await self._documents.query(COLLECTION)
        questions = [question_from(document.key.id, document.data) for document in found]
        return sorted(questions, key=lambda question: (-question.count, -question.last_ms))

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

    async def _document(self, org_id: str, question: str) -> Document:
        (document,) = await self._documents.get_many([Key(COLLECTION, document_id(org_id, question))])
        if document is None:
            raise NoSuchQuestionError(org_id, question)
        return document
