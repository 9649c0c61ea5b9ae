"""A customer is shown, exported and forgotten, on both document stores and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from core.adapters.redis_connection import connect
from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.domain import memory
from core.domain.booking import Booking, BookingState
from core.domain.clinic import Retention
from core.domain.event import Conversation, EventKind, InboundEvent
from core.domain.memory import CustomerMemory, Fact
from core.domain.session import Session
from core.domain.turn import FORGOTTEN, Money, TurnRecord, TurnState
from core.ports.documents import Create, DocumentStore, Key
from core.ports.mailbox import AlreadyDone, Held, Lead
from core.ports.shaper import Arrival
from core.usecases.bookings.records import BookingRecords, booking_key
from core.usecases.operate.customer_rights import ConversationBusyError, CustomerRights
from tests.support.clock import FakeClock
from tests.support.everything_kept import documents_text, redis_text
from tests.support.turn_samples import CUSTOMER, sample, store, stored

CANARY = "Canary-7Q"
GROUP = Conversation(CUSTOMER.org_id, "line", "C" + "2" * 32)
OTHER = Conversation(CUSTOMER.org_id, "line", "U" + "3" * 32)


def words(turn_id: str, canary: str = CANARY, **fields: Any) -> TurnRecord:
    turn = sample(turn_id, state=TurnState.DELIVERED, failure=None, **fields)
    events = tuple(replace(event, text=f"{canary} said") for event in turn.events)
    updates = {"service": f"{canary} service", "stage": "advising"}
    quick = (f"{canary} quick",)
    return replace(turn, events=events, reply=f"{canary} reply", quick_replies=quick, updates=updates)


def message(event_id: str, chat: Conversation = CUSTOMER, text: str = f"{CANARY} waits") -> InboundEvent:
    return InboundEvent(
        event_id, chat.org_id, chat.chat_id, EventKind.TEXT, 1, 1, text=text, user_id=chat.chat_id
    )


class Scene:
    """`lease_ms` is short, so that a leader that has gone costs the tests nothing."""

    def __init__(
        self, documents: DocumentStore, redis_url: str, clock: FakeClock, lease_ms: int, wait_s: float = 1e9
    ) -> None:
        self.documents = documents
        self.redis = connect(redis_url)
        self.redis_url = redis_url
        self.clock = clock
        self.mailbox = RedisMailbox(self.redis, lease_ms=lease_ms, session_ttl_s=600)
        conversations = RedisConversations(self.redis, lease_ms=lease_ms)
        # By a clock that stands still: how long is waited is how often Redis is asked.
        self.rights = CustomerRights(documents, conversations, self.mailbox, clock, wait_s=wait_s)

    async def session(self, conversation: Conversation, *exchanges: tuple[str, str]) -> None:
        session = Session(service=f"{exchanges[0][1]} wish")
        for turn_id, canary in exchanges:
            session = session.with_turn(turn_id, at_ms=1, customer_text=canary, reply=canary)
        lead = await self.mailbox.begin(message(f"before-{conversation.chat_id}", conversation, ""))
        assert isinstance(lead, Lead)
        ids = [event.event_id for event in lead.waiting.events]
        await self.mailbox.finish(conversation, lead.fence, ids, session=session.encode())

    async def remember(self, conversation: Conversation, *facts: tuple[str, str]) -> None:
        known = CustomerMemory(tuple(Fact(k, v, f"turn-{k}", 1, v) for k, v in facts), 9**15, f"{CANARY} why")
        key = Key(memory.COLLECTION, memory.document_id(conversation))
        await self.documents.commit([Create(key, known.encode(self.clock.now_ms(), Retention()))])

    async def everything(self) -> str:
        return await documents_text(self.documents) + await redis_text(self.redis_url)


@pytest.fixture
async def scene(documents: DocumentStore, redis_url: str, clock: FakeClock) -> AsyncIterator[Scene]:
    scene = Scene(documents, redis_url, clock, lease_ms=60)
    yield scene
    await scene.redis.aclose()


async def planted(scene: Scene) -> None:
    """The customer's words in every place that can hold them."""
    held = Money(day="20261124", model="big", held_micro_baht=500)
    paid = Money(day="20261124", model="big", cost_micro_baht=1234, usage={"input": 10, "output": 5})
    await store(
        scene.documents,
        words("done", money=paid, replayed_as="done-r1"),
        replace(words("unsent"), state=TurnState.ANSWERED),
        replace(words("running", money=held), state=TurnState.RESERVED),
    )
    day = {"org_id": CUSTOMER.org_id, "day": "20261124", "held": 500, "spent": 1234}
    hold = {"amount": 500, "expires_ms": 9**15, "model": "big"}
    await scene.documents.commit(
        [Create(Key("org_ai_spend", f"{CUSTOMER.org_id}:20261124"), {**day, "holds": {"running": hold}})]
    )
    await scene.remember(CUSTOMER, ("allergy", f"{CANARY} fact"))
    await scene.session(CUSTOMER, ("done", f"{CANARY} exchange"))
    assert isinstance(await scene.mailbox.begin(message("waits")), Lead)
    shaper = RedisShaper(scene.redis, timeout_s=2)
    await shaper.shape([Arrival(message("rated"), 30)])
    await shaper.close()


async def test_forgotten_customer_leaves_no_word_in_any_store(scene: Scene) -> None:
    await planted(scene)
    assert (await scene.everything()).count(CANARY) >= 15
    forgotten = await scene.rights.forget(CUSTOMER)
    assert (forgotten.turns, forgotten.dropped, forgotten.had_memory, forgotten.had_session) == (
        3,
        1,
        True,
        True,
    )
    left = await scene.everything()
    assert CANARY not in left
    assert f"conv:{CUSTOMER.key}" not in [line.split()[0] for line in left.splitlines()]
    assert "rate:sender" not in left


async def test_journal_keeps_ids_and_money_and_the_books_close(scene: Scene) -> None:
    await planted(scene)
    await scene.rights.forget(CUSTOMER)
    done = await stored(scene.documents, "done")
    assert (done.state, done.money.cost_micro_baht) == (TurnState.DELIVERED, 1234)
    assert (done.event_ids, done.chat_id) == (("done",), CUSTOMER.chat_id)
    running, unsent = [await stored(scene.documents, name) for name in ("running", "unsent")]
    assert (running.state, running.failure) == (unsent.state, unsent.failure) == (TurnState.FAILED, FORGOTTEN)
    assert (running.money.held_micro_baht, running.money.cost_micro_baht) == (0, 500)
    (books,) = await scene.documents.get_many([Key("org_ai_spend", f"{CUSTOMER.org_id}:20261124")])
    assert books is not None
    assert (books.data["held"], books.data["spent"]) == (0, 1734)


async def test_messages_that_waited_and_replays_on_their_way_are_not_answered_any_more(scene: Scene) -> None:
    await planted(scene)
    await scene.rights.forget(CUSTOMER)
    assert isinstance(await scene.mailbox.begin(message("waits")), AlreadyDone)
    assert isinstance(await scene.mailbox.begin(message("done-r1")), AlreadyDone)
    assert isinstance(await scene.mailbox.begin(message("new")), Lead)


async def all_but_memory(scene: Scene) -> list[str]:
    lines = (await documents_text(scene.documents)).splitlines()
    return [line for line in lines if not line.startswith(memory.COLLECTION)]


async def test_forgetting_twice_changes_nothing(scene: Scene) -> None:
    await planted(scene)
    await scene.rights.forget(CUSTOMER)
    before = await all_but_memory(scene)
    again = await scene.rights.forget(CUSTOMER)
    assert (again.dropped, again.had_memory, again.had_session) == (0, False, False)
    assert await all_but_memory(scene) == before
    assert (await scene.rights.kept(CUSTOMER)).memory_document is None


async def test_others_keep_what_is_theirs(scene: Scene) -> None:
    own = {"chat_id": OTHER.chat_id, "user_id": OTHER.chat_id}
    same_id = {"org_id": "another-clinic"}
    await store(scene.documents, words("theirs", "Other-1", **own), words("elsewhere", "Other-2", **same_id))
    await scene.session(OTHER, ("theirs", "Other-3"))
    await scene.remember(OTHER, ("name", "Other-4"))
    await planted(scene)
    await scene.rights.forget(CUSTOMER)
    left = await scene.everything()
    assert all(f"Other-{i}" in left for i in range(1, 5))


async def test_in_a_group_only_the_customers_turns_are_erased(scene: Scene) -> None:
    group = {"chat_id": GROUP.chat_id, "chat_type": "group"}
    theirs = words("theirs", "Other-1", **group, user_id=OTHER.chat_id)
    await store(scene.documents, words("mine", **group), theirs)
    await scene.session(GROUP, ("mine", CANARY), ("theirs", "Other-2"))
    known = CustomerMemory(
        (Fact("a", f"{CANARY} fact", "mine", 1), Fact("b", "Other-3", "theirs", 1)), None, ""
    )
    key = Key(memory.COLLECTION, memory.document_id(GROUP))
    await scene.documents.commit([Create(key, known.encode(scene.clock.now_ms(), Retention()))])
    assert (await scene.rights.forget(CUSTOMER)).turns == 1
    left = await scene.everything()
    assert CANARY not in left
    assert all(f"Other-{i}" in left for i in range(1, 4))


def said_in_group(turn_id: str, **said: str) -> TurnRecord:
    """A group's turn about what each of these has said (by name); the last one lent the reply token."""
    base = sample(turn_id, chat_id=GROUP.chat_id, chat_type="group", state=TurnState.DELIVERED, failure=None)
    members = {"me": CUSTOMER.chat_id, "other": OTHER.chat_id}
    events = tuple(
        replace(base.events[0], id=f"{turn_id}-{name}", text=text, user_id=members[name])
        for name, text in said.items()
    )
    return replace(base, events=events, user_id=events[-1].user_id, reply=" ".join(said.values()))


async def test_words_that_were_answered_together_with_anothers_are_found_and_erased(scene: Scene) -> None:
    await store(scene.documents, said_in_group("both", me=f"{CANARY} asks", other="Other-1 asks"))
    await scene.session(GROUP, ("both", CANARY))
    kept = await scene.rights.kept(CUSTOMER)
    assert [[event.text for event in turn.events] for turn in kept.turns] == [[f"{CANARY} asks", ""]]
    assert (await scene.rights.forget(CUSTOMER)).turns == 1
    left = await scene.everything()
    assert CANARY not in left
    assert "Other-1 asks" in left
    assert (await stored(scene.documents, "both")).reply == ""


async def test_what_waits_in_a_group_goes_too_and_what_others_said_there_is_answered(scene: Scene) -> None:
    await store(scene.documents, said_in_group("before", me="x"))
    mine = replace(message("mine", GROUP), user_id=CUSTOMER.chat_id)
    theirs = replace(message("theirs", GROUP, "Other-1 waits"), user_id=OTHER.chat_id)
    for event in (mine, theirs):
        await scene.mailbox.begin(event)
    await asyncio.sleep(0.07)
    assert [event.event_id for event in (await scene.rights.kept(CUSTOMER)).waiting] == ["mine"]
    assert (await scene.rights.forget(CUSTOMER)).dropped == 1
    assert CANARY not in await scene.everything()
    assert isinstance(await scene.mailbox.begin(mine), AlreadyDone)
    lead = await scene.mailbox.begin(theirs)
    assert isinstance(lead, Lead)
    assert [event.event_id for event in lead.waiting.events] == ["theirs"]


async def test_same_member_of_another_clinics_group_is_left_alone(scene: Scene) -> None:
    await store(scene.documents, replace(said_in_group("elsewhere", me="Other-1"), org_id="another-clinic"))
    assert (await scene.rights.kept(CUSTOMER)).nothing
    assert (await scene.rights.forget(CUSTOMER)).turns == 0
    assert "Other-1" in await scene.everything()


async def test_running_turn_is_waited_for(documents: DocumentStore, redis_url: str, clock: FakeClock) -> None:
    scene = Scene(documents, redis_url, clock, lease_ms=30_000, wait_s=2)
    await store(documents, words("done"))
    lead = await scene.mailbox.begin(message("runs"))
    assert isinstance(lead, Lead)
    with pytest.raises(ConversationBusyError, match="still runs"):
        await scene.rights.forget(CUSTOMER)
    assert CANARY in await documents_text(documents)
    patient = Scene(documents, redis_url, clock, lease_ms=30_000)
    forgetting = asyncio.create_task(patient.rights.forget(CUSTOMER))
    await asyncio.sleep(0.1)
    assert not forgetting.done()
    await scene.mailbox.finish(CUSTOMER, lead.fence, ["runs"], session=Session(service=CANARY).encode())
    await forgetting
    assert CANARY not in await scene.everything()
    await scene.redis.aclose()
    await patient.redis.aclose()


async def test_no_turn_begins_while_a_customer_is_forgotten(
    documents: DocumentStore, redis_url: str, clock: FakeClock
) -> None:
    scene = Scene(documents, redis_url, clock, lease_ms=30_000)
    async with scene.rights._leading(CUSTOMER) as led:
        assert isinstance(await scene.mailbox.begin(message("m1")), Held)
        assert await scene.mailbox.renew(CUSTOMER, led.fence)
    assert isinstance(await scene.mailbox.begin(message("m2")), Lead)
    await scene.redis.aclose()


async def test_export_has_everything_and_show_knows_when_there_is_nothing(scene: Scene) -> None:
    assert (await scene.rights.kept(CUSTOMER)).nothing
    await planted(scene)
    kept = await scene.rights.kept(CUSTOMER)
    assert kept.session is not None
    assert [event.event_id for event in kept.waiting] == ["waits"]
    assert [fact.key for fact in kept.memory.facts] == ["allergy"]
    assert sorted(turn.id for turn in kept.turns) == ["done", "running", "unsent"]
    assert kept.claims == {"done": "done", "running": "running", "unsent": "unsent"}


async def test_a_customers_bookings_are_shown_and_forgotten_and_cancelled(scene: Scene) -> None:
    """Those of the chat, and what the customer asked for in a group; nobody else's."""

    def booking(booking_id: str, user: Conversation, chat: Conversation, **fields: Any) -> Booking:
        asked = Booking(
            booking_id,
            CUSTOMER.org_id,
            user.chat_id,
            chat.chat_id,
            service=f"{CANARY} service",
            date="2030-01-05",
            time="14:00",
            timezone="Asia/Bangkok",
            created_ms=1,
            name=f"{CANARY} name",
            phone=f"{CANARY} phone",
            note=f"{CANARY} note",
        )
        return replace(asked, **fields)

    theirs = [
        booking("asked", CUSTOMER, CUSTOMER),
        booking("confirmed", CUSTOMER, CUSTOMER, state=BookingState.CONFIRMED, remind_ms=9**12),
        booking("in a group", CUSTOMER, GROUP, state=BookingState.DECLINED),
    ]
    said = {"service": "ขูดหินปูน", "name": "", "phone": "", "note": ""}
    others = [
        booking("another's", OTHER, OTHER, **said),
        booking("in the same group", OTHER, GROUP, **said),
        replace(booking("elsewhere", CUSTOMER, CUSTOMER, **said), org_id="another"),
    ]
    for each in (*theirs, *others):
        await scene.documents.commit([Create(booking_key(each.id), each.encode())])
    assert {b.id for b in (await scene.rights.kept(CUSTOMER)).bookings} == {b.id for b in theirs}
    assert (await scene.rights.forget(CUSTOMER)).bookings == 3
    assert CANARY not in await scene.everything()
    records = BookingRecords(scene.documents, scene.clock)
    assert [(await records.get(b.id)).state for b in theirs] == ["cancelled", "cancelled", "declined"]
    assert [await records.get(b.id) for b in others] == others
    assert (await scene.rights.forget(CUSTOMER)).bookings == 0
