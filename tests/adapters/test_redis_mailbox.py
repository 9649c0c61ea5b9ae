from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.adapters import redis_keys
from core.adapters.redis_clinic_marks import RedisClinicMarks
from core.adapters.redis_mailbox import RedisMailbox
from core.domain.errors import RedisUnavailableError
from core.domain.event import Conversation, EventKind, InboundEvent
from core.ports.mailbox import AlreadyDone, Held, Lead, Waiting

LEASE_MS = 10_000
HERE = Conversation("bkk-smile", "line", "U1")


def an_event(n: int, *, at: int | None = None, text: str = "", **fields: object) -> InboundEvent:
    values: dict[str, object] = {
        "org_id": "bkk-smile",
        "chat_id": "U1",
        "kind": "text",
        "arrived_ms": 1,
        **fields,
    }
    return InboundEvent(
        event_id=f"E{n:04}",
        timestamp_ms=n if at is None else at,
        text=text or f"ข้อความ {n}",
        message_id=f"M{n}",
        **values,  # type: ignore[arg-type]
    )


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def mailbox(redis: Redis) -> RedisMailbox:
    return RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800)


async def lead(mailbox: RedisMailbox, event: InboundEvent) -> Lead:
    begun = await mailbox.begin(event)
    assert isinstance(begun, Lead)
    return begun


async def test_the_first_leads_with_its_event_as_it_was(mailbox: RedisMailbox) -> None:
    event = an_event(1, text="ฟันผุ 🦷 | 5|x", reply_token="token", redelivered=True, user_id="U1")
    begun = await lead(mailbox, event)
    assert begun.waiting == Waiting((event,))
    assert begun.session is None
    assert abs(begun.now_ms - time.time() * 1000) < 5000


async def test_others_are_held_until_the_leader_finishes(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    held = await mailbox.begin(an_event(2))
    assert isinstance(held, Held)
    assert LEASE_MS - 1000 < held.lease_ms <= LEASE_MS
    assert isinstance(await mailbox.begin(an_event(1)), Held)
    assert await mailbox.finish(HERE, begun.fence, ["E0001"]) == Waiting(())
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)
    assert (await lead(mailbox, an_event(2))).waiting == Waiting((an_event(2),))


async def test_of_twenty_at_once_exactly_one_leads(mailbox: RedisMailbox) -> None:
    begun = await asyncio.gather(*(mailbox.begin(an_event(n)) for n in range(20)))
    assert sum(isinstance(b, Lead) for b in begun) == 1
    assert sum(isinstance(b, Held) for b in begun) == 19


async def test_the_same_task_on_two_instances_is_led_once(redis_url: str, mailbox: RedisMailbox) -> None:
    async with Redis.from_url(redis_url) as client:
        other = RedisMailbox(client, lease_ms=LEASE_MS, session_ttl_s=1800)
        begun = await asyncio.gather(mailbox.begin(an_event(1)), other.begin(an_event(1)))
    assert sorted(type(b).__name__ for b in begun) == ["Held", "Lead"]


async def test_a_leader_gets_all_that_wait_in_lines_order(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(5))
    for event in (an_event(3, at=7), an_event(9, at=2), an_event(2, at=7)):
        assert isinstance(await mailbox.begin(event), Held)
    waiting = await mailbox.finish(HERE, begun.fence, ["E0005"], go_on=True)
    assert waiting == Waiting((an_event(9, at=2), an_event(2, at=7), an_event(3, at=7)))


async def test_going_on_keeps_the_lease_and_ends_when_nothing_waits(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True) == Waiting((an_event(2),))
    assert isinstance(await mailbox.begin(an_event(3)), Held)
    assert await mailbox.finish(HERE, begun.fence, ["E0002", "E0003"], go_on=True) == Waiting(())
    assert not await mailbox.renew(HERE, begun.fence)
    assert (await lead(mailbox, an_event(4))).waiting == Waiting((an_event(4),))


async def test_when_a_lease_runs_out_the_next_leads_with_everything(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=60, session_ttl_s=1800)
    first = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    await asyncio.sleep(0.08)
    second = await lead(mailbox, an_event(3))
    assert second.waiting.events == (an_event(1), an_event(2), an_event(3))
    assert second.fence > first.fence


async def test_a_renewed_lease_lasts(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=150, session_ttl_s=1800)
    begun = await lead(mailbox, an_event(1))
    for _ in range(3):
        await asyncio.sleep(0.07)
        assert await mailbox.renew(HERE, begun.fence)
    assert isinstance(await mailbox.begin(an_event(2)), Held)


async def test_a_lease_that_nobody_took_is_still_its_holders(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=30, session_ttl_s=1800)
    begun = await lead(mailbox, an_event(1))
    await asyncio.sleep(0.05)
    assert await mailbox.renew(HERE, begun.fence)
    await asyncio.sleep(0.05)
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"s") == Waiting(())


async def test_an_overtaken_leader_writes_nothing(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=30, session_ttl_s=1800)
    first = await lead(mailbox, an_event(1))
    await asyncio.sleep(0.05)
    second = await lead(mailbox, an_event(2))
    assert not await mailbox.renew(HERE, first.fence)
    assert await mailbox.finish(HERE, first.fence, ["E0001", "E0002"], session=b"old") is None
    assert await mailbox.finish(HERE, second.fence, ["E0002"], session=b"new") == Waiting(())
    third = await lead(mailbox, an_event(3))
    assert third.session == b"new"
    assert third.waiting.events == (an_event(1), an_event(3))


async def test_a_lease_that_was_given_up_is_lost(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.finish(HERE, begun.fence, ["E0001"])
    assert not await mailbox.renew(HERE, begun.fence)
    assert await mailbox.finish(HERE, begun.fence, ["E0001"]) is None


async def test_fences_rise_although_a_failover_sets_the_clock_back(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    begun = await lead(mailbox, an_event(1))
    ahead = begun.fence + 3_600_000_000
    await redis.hset(redis_keys.mailbox(HERE, "lead"), mapping={"fence": ahead, "until": 0})
    assert (await lead(mailbox, an_event(2))).fence == ahead + 1


async def test_the_newest_events_are_kept_verbatim_and_the_rest_as_ids(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=3)
    begun = await lead(mailbox, an_event(0))
    for n in (3, 1, 5, 4, 2):
        await mailbox.begin(an_event(n))
    waiting = await mailbox.finish(HERE, begun.fence, ["E0000"], go_on=True)
    assert waiting == Waiting((an_event(3), an_event(4), an_event(5)), ("E0001", "E0002"))
    assert await mailbox.finish(HERE, begun.fence, [f"E000{n}" for n in range(1, 6)]) == Waiting(())
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)


async def test_characters_are_bounded_but_the_newest_event_is_always_kept(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_chars=10)
    begun = await lead(mailbox, an_event(0))
    for n, text in ((1, "ก" * 4), (2, "ข" * 4), (3, "ค" * 4)):
        await mailbox.begin(an_event(n, text=text))
    waiting = await mailbox.finish(HERE, begun.fence, ["E0000"], go_on=True)
    assert waiting is not None
    assert [e.event_id for e in waiting.events] == ["E0002", "E0003"]
    assert waiting.overflow_ids == ("E0001",)
    await mailbox.begin(an_event(4, text="ง" * 50))
    waiting = await mailbox.finish(HERE, begun.fence, [], go_on=True)
    assert waiting == Waiting((an_event(4, text="ง" * 50),), ("E0001", "E0002", "E0003"))


@pytest.mark.parametrize("texts", [["ก" * 5000] * 3, ["ขอถามราคาหน่อยค่ะ"] * 30])
async def test_long_messages_and_a_flurry_are_kept_whole(mailbox: RedisMailbox, texts: list[str]) -> None:
    events = [an_event(n, text=text) for n, text in enumerate(texts)]
    begun = await lead(mailbox, events[0])
    for event in events[1:]:
        await mailbox.begin(event)
    assert await mailbox.finish(HERE, begun.fence, [], go_on=True) == Waiting(tuple(events))


async def test_a_leader_does_not_stay_for_ids_alone(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=1)
    begun = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    assert await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True) == Waiting(())
    assert (await lead(mailbox, an_event(1))).waiting == Waiting((an_event(1),))


async def test_overflow_is_bounded_and_whoever_begins_finds_itself(redis: Redis) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=2)
    await lead(mailbox, an_event(1000))
    for n in range(1001, 1520):
        await mailbox.begin(an_event(n))
    await redis.hset(redis_keys.mailbox(HERE, "lead"), "until", 0)
    begun = await lead(mailbox, an_event(1))
    assert [event.event_id for event in begun.waiting.events] == ["E1518", "E1519"]
    assert len(begun.waiting.overflow_ids) == 500
    assert begun.waiting.overflow_ids[0] == "E0001"
    assert begun.waiting.overflow_ids[-1] == "E1517"
    everything = [*begun.waiting.overflow_ids, "E1518", "E1519"]
    assert await mailbox.finish(HERE, begun.fence, everything, go_on=True) == Waiting(())
    assert await redis.zcard(redis_keys.mailbox(HERE, "done")) == 502


async def test_done_marks_are_bounded(redis: Redis, mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    await mailbox.finish(HERE, begun.fence, [f"D{n}" for n in range(1500)], go_on=True)
    await mailbox.finish(HERE, begun.fence, ["E0001", "E0002"])
    assert await redis.zcard(redis_keys.mailbox(HERE, "done")) == 1000
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)


async def test_the_session_slides_and_stays_when_none_is_given(redis: Redis, mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"\x00state")
    assert await redis.get("conv:bkk-smile:line:U1") == b"\x00state"
    await redis.expire("conv:bkk-smile:line:U1", 5)
    begun = await lead(mailbox, an_event(2))
    assert begun.session == b"\x00state"
    assert await redis.ttl("conv:bkk-smile:line:U1") > 1700
    await redis.expire("conv:bkk-smile:line:U1", 5)
    await mailbox.begin(an_event(3))
    assert await redis.ttl("conv:bkk-smile:line:U1") <= 5
    await mailbox.finish(HERE, begun.fence, ["E0002"])
    assert await redis.ttl("conv:bkk-smile:line:U1") > 1700
    assert (await lead(mailbox, an_event(4))).session == b"\x00state"


async def test_every_key_of_a_conversation_expires(redis: Redis, mailbox: RedisMailbox) -> None:
    small = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=1)
    begun = await lead(small, an_event(1))
    for n in (2, 3):
        await small.begin(an_event(n))
    await small.finish(HERE, begun.fence, ["E0001"], session=b"s", go_on=True)
    await small.remove(HERE, "M9")
    keys = set(await redis.keys("*")) - {redis_keys.GENERATION.encode()}
    assert len(keys) == 6
    assert all([0 < await redis.pttl(key) <= 24 * 3600 * 1000 for key in keys])


async def test_one_person_at_two_clinics_is_two_conversations(mailbox: RedisMailbox) -> None:
    here = await lead(mailbox, an_event(1))
    there = await lead(mailbox, an_event(1, org_id="cnx-skin", text="อีกที่"))
    assert [e.org_id for e in here.waiting.events] == ["bkk-smile"]
    assert [e.org_id for e in there.waiting.events] == ["cnx-skin"]
    await mailbox.finish(HERE, here.fence, ["E0001"], session=b"private")
    elsewhere = replace(HERE, org_id="cnx-skin")
    assert await mailbox.finish(elsewhere, here.fence, ["E0001"]) is None or here.fence == there.fence
    assert isinstance(await mailbox.begin(an_event(1, org_id="cnx-skin")), Held)
    await mailbox.finish(elsewhere, there.fence, ["E0001"])
    assert (await lead(mailbox, an_event(2, org_id="cnx-skin"))).session is None


async def test_an_unsent_message_leaves_the_mailbox_and_stays_out(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    assert await mailbox.remove(HERE, "M2")
    assert not await mailbox.remove(HERE, "M2")
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True) == Waiting(())
    assert isinstance(await mailbox.begin(an_event(2)), AlreadyDone)


async def test_a_message_unsent_before_its_task_comes_is_not_answered(mailbox: RedisMailbox) -> None:
    assert not await mailbox.remove(HERE, "M1")
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)


async def test_the_unsending_itself_is_dealt_with(mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    await mailbox.begin(an_event(2))
    unsending = replace(an_event(3, kind="unsend"), message_id="M2")
    assert await mailbox.remove(HERE, "M2")
    assert isinstance(await mailbox.begin(unsending), Held)
    assert not await mailbox.remove(HERE, "M2")
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True) == Waiting((unsending,))


async def test_scripts_are_loaded_again_when_redis_has_forgotten_them(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    begun = await lead(mailbox, an_event(1))
    calls: list[Callable[[], object]] = [
        lambda: mailbox.begin(an_event(2)),
        lambda: mailbox.renew(HERE, begun.fence),
        lambda: mailbox.remove(HERE, "M2"),
        lambda: mailbox.finish(HERE, begun.fence, ["E0001"]),
    ]
    for call in calls:
        await redis.script_flush()
        assert await call()  # type: ignore[misc]


async def test_a_begin_whose_answer_was_lost_is_not_locked_out_by_itself(
    redis: Redis, mailbox: RedisMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client repeats a call when the connection breaks; the first one may have been carried out."""
    send: Any = redis.execute_command

    async def twice(*args: object, **options: object) -> object:
        await send(*args, **options)
        return await send(*args, **options)

    await lead(mailbox, an_event(1, chat_id="U2"))  # the script is there now
    monkeypatch.setattr(redis, "execute_command", twice)
    assert (await lead(mailbox, an_event(1))).waiting == Waiting((an_event(1),))


async def test_an_event_of_a_newer_version_is_read(redis: Redis, mailbox: RedisMailbox) -> None:
    begun = await lead(mailbox, an_event(1))
    known = b'"event_id":"E2","org_id":"o","chat_id":"U1","kind":"text","timestamp_ms":2,"arrived_ms":1'
    newer = b'2|1|{"novel":[],' + known + b"}"
    await redis.hset(redis_keys.mailbox(HERE, "events"), "E2", newer)
    waiting = await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True)
    assert waiting == Waiting((InboundEvent("E2", "o", "U1", EventKind.TEXT, 2, 1),))


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_redis_down_or_hanging_is_unavailable(hangs: bool) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if hangs:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not hangs:
        server.close()
    async with Redis(port=port, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as client:
        mailbox = RedisMailbox(client, lease_ms=LEASE_MS, session_ttl_s=1800)
        for call in (
            mailbox.begin(an_event(1)),
            mailbox.renew(HERE, 1),
            mailbox.finish(HERE, 1, []),
            mailbox.remove(HERE, "M1"),
        ):
            with pytest.raises(RedisUnavailableError):
                await call
    server.close()
    await server.wait_closed()


async def test_a_clinics_mark_comes_with_what_a_leader_is_given(redis: Redis, mailbox: RedisMailbox) -> None:
    marks = RedisClinicMarks(redis)
    begun = await lead(mailbox, an_event(1))
    assert begun.waiting.clinic_mark == ""
    await marks.renew("other")
    await mailbox.begin(an_event(2))
    going_on = await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True)
    assert going_on is not None
    assert going_on.clinic_mark == ""
    await marks.renew("bkk-smile")
    await mailbox.begin(an_event(3))
    going_on = await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True)
    assert going_on is not None
    assert going_on.clinic_mark
    await mailbox.finish(HERE, begun.fence, ["E0003"])
    assert (await lead(mailbox, an_event(4))).waiting.clinic_mark == going_on.clinic_mark
    await mailbox.finish(HERE, begun.fence, ["E0004"])
    await marks.renew("bkk-smile")
    other = Conversation("bkk-smile", "line", "U2")
    assert (await lead(mailbox, replace(an_event(5), chat_id=other.chat_id))).waiting.clinic_mark not in {
        "",
        going_on.clinic_mark,
    }
    assert 0 < await redis.ttl(redis_keys.clinic_mark("bkk-smile")) <= 120
