"""Questions that a clinic does not answer: counted without a read, grouped, answered, erased; both stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from core.domain.event import Conversation
from core.domain.questions import Missing, question_id
from core.ports.documents import Create, DocumentStore, Key
from core.usecases.clinics.price_documents import answers_from
from core.usecases.customers.asked_questions import AskedQuestions
from core.usecases.journal.commits import writes_of
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.questions import NoSuchQuestionError, Questions
from core.usecases.turn.effects import counted
from tests.support.clock import FakeClock
from tests.support.everything_kept import documents_text
from tests.support.turn_samples import CUSTOMER, sample

ORG = CUSTOMER.org_id
OTHER = Conversation(ORG, "line", "U" + "3" * 32)
PARKING = "มีที่จอดรถไหมคะ"


async def ask(
    documents: DocumentStore, turn_id: str, question: str, who: Conversation = CUSTOMER, at_ms: int = 1
) -> None:
    record = replace(sample(turn_id), chat_id=who.chat_id, user_id=who.chat_id)
    await documents.commit(writes_of([counted(record, Missing("บริการ", question), at_ms)], None))


@pytest.mark.parametrize(
    "other",
    ["มีที่จอดรถไหม", "คลินิกมีที่จอดรถมั้ย", "มีที่จอดรถหรือเปล่าคะ", "อยากทราบว่ามีที่จอดรถไหมครับ", " มี ที่จอดรถ ? "],
)
def test_questions_that_differ_in_form_alone_are_one(other: str) -> None:
    assert question_id(other) == question_id(PARKING)


@pytest.mark.parametrize("other", ["มีที่จอดมอเตอร์ไซค์ไหมคะ", "รับบัตรเครดิตไหมคะ", "ไหมคะ", "?"])
def test_questions_that_differ_in_meaning_are_not(other: str) -> None:
    assert question_id(other) != question_id(PARKING)


async def test_askings_at_the_same_time_are_all_counted(documents: DocumentStore) -> None:
    await asyncio.gather(*(ask(documents, f"t{n}", PARKING, at_ms=n) for n in range(8)))
    await ask(documents, "u", "รับบัตรเครดิตไหม", at_ms=9)
    parking, cards = await Questions(documents, FakeClock()).of_clinic(ORG)
    assert (parking.count, cards.count) == (8, 1)
    assert parking.latest
    assert (parking.latest.question, parking.last_ms >= 0, parking.is_open) == (PARKING, True, True)


async def test_an_answer_is_the_clinics_from_now_on_and_closes_the_question(documents: DocumentStore) -> None:
    await documents.commit(
        [Create(Key("orgs", ORG), {"name": "A", "answers": [{"q": "มีที่จอดรถ ไหมคะ", "a": "old"}]})]
    )
    await ask(documents, "t", PARKING)
    clock = FakeClock()
    questions = Questions(documents, clock)
    given = await questions.answer(
        ChangeClinic(documents, clock, "me"), ORG, question_id(PARKING), "มีค่ะ 10 คัน"
    )
    (org,) = await documents.get_many([Key("orgs", ORG)])
    assert org
    assert answers_from("orgs", org.data["answers"]) == (given,), "instead of the earlier one"
    assert (given.question, given.answer) == (PARKING, "มีค่ะ 10 คัน")
    (closed,) = await questions.of_clinic(ORG)
    assert (closed.is_open, closed.closed) == (False, "answered")
    await ask(documents, "t2", PARKING, at_ms=clock.now_ms() + 10_000)
    assert not (await questions.of_clinic(ORG))[0].is_open, "instances may not have read it yet"
    await ask(documents, "t3", PARKING, at_ms=clock.now_ms() + 600_000)
    assert (await questions.of_clinic(ORG))[0].is_open, "the answer does not answer it"


async def test_a_dismissed_question_stays_closed_and_is_counted(documents: DocumentStore) -> None:
    await ask(documents, "t", PARKING)
    questions = Questions(documents, FakeClock())
    await questions.dismiss(ORG, question_id(PARKING))
    await ask(documents, "t2", PARKING, at_ms=2 * 10**12)
    (found,) = await questions.of_clinic(ORG)
    assert (found.is_open, found.closed, found.count) == (False, "dismissed", 2)


async def test_what_is_not_there_is_named(documents: DocumentStore) -> None:
    questions = Questions(documents, FakeClock())
    with pytest.raises(NoSuchQuestionError, match="'x': no such question"):
        await questions.dismiss(ORG, "x")
    with pytest.raises(NoSuchQuestionError):
        await questions.answer(ChangeClinic(documents, FakeClock(), "me"), ORG, "x", "y")


async def test_a_customers_words_are_erased_and_nobody_elses(documents: DocumentStore) -> None:
    await ask(documents, "t", f"{PARKING} canary", at_ms=5)
    await ask(documents, "t2", "Canary alone ไหม")
    await ask(documents, "t3", PARKING + " canary", OTHER, at_ms=4)
    asked = AskedQuestions(documents)
    assert len(await asked.by(CUSTOMER)) == 2
    await asked.forget(CUSTOMER)
    assert await asked.by(CUSTOMER) == []
    (left,) = await Questions(documents, FakeClock()).of_clinic(ORG)
    assert [asked.chat_id for asked in left.asked.values()] == [OTHER.chat_id]
    everything = await documents_text(documents)
    assert CUSTOMER.chat_id not in everything
    assert "Canary alone" not in everything
    assert OTHER.chat_id in everything


async def test_what_was_asked_in_a_turn_that_was_taken_back_is_erased(documents: DocumentStore) -> None:
    await ask(documents, "t", PARKING)
    await ask(documents, "t2", PARKING)
    taken_back = [replace(sample(turn), question_id=question_id(PARKING)) for turn in ("t", "t")]
    await AskedQuestions(documents).forget_turns([*taken_back, sample("t2")])
    (left,) = await Questions(documents, FakeClock()).of_clinic(ORG)
    assert [asked.turn_id for asked in left.asked.values()] == ["t2"]


async def test_many_askings_keep_a_bounded_number_of_words(documents: DocumentStore) -> None:
    for n in range(40):
        await ask(documents, f"t{n}", PARKING, at_ms=n)
    (found,) = await Questions(documents, FakeClock()).of_clinic(ORG)
    assert (found.count, len(found.asked) < 40) == (40, True)
