"""The order of a conversation's messages: what was acknowledged first is answered first, also when its task
comes late, when it never comes, and when Redis comes back empty."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.domain.event import Conversation, EventKind, InboundEvent
from core.ports.conversations import Led
from core.ports.mailbox import AlreadyDone, Held, Lead, NotYet, Waiting
from core.ports.shaper import Arrival

HERE = Conversation("bkk-smile", "line", "U1")
LEASE_MS = 10_000
NOW_MS = round(time.time() * 1000)


def an_event(n: int, **changes: Any) -> InboundEvent:
    event = InboundEvent(f"E{n:04}", "bkk-smile", "U1", EventKind.TEXT, NOW_MS + n, 1, message_id=f"M{n}")
    return replace(event, **changes)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def a_mailbox(redis: Redis, lease_ms: int = LEASE_MS, overdue_ms: int = 60_000) -> RedisMailbox:
    """As a process of its own has it."""
    return RedisMailbox(redis, lease_ms=lease_ms, session_ttl_s=1800, overdue_ms=overdue_ms)


@pytest.fixture
def mailbox(redis: Redis) -> RedisMailbox:
    return a_mailbox(redis)


@pytest.fixture
def shaper(redis: Redis) -> RedisShaper:
    return RedisShaper(redis, timeout_s=5)


async def announce(
    shaper: RedisShaper, *events: InboundEvent, rate: int = 0, gather_ms: int | None = 0
) -> list[int]:
    return (await shaper.shape([Arrival(event, rate, gather_ms) for event in events])).delays_ms


def ids(waiting: Waiting) -> list[str]:
    return [event.event_id for event in waiting.events]


async def lead(mailbox: RedisMailbox, event: InboundEvent) -> Lead:
    begun = await mailbox.begin(event)
    assert isinstance(begun, Lead)
    return begun


async def wait_of(mailbox: RedisMailbox, event: InboundEvent, reason: str) -> int:
    begun = await mailbox.begin(event)
    assert isinstance(begun, NotYet)
    assert begun.reason == reason
    return begun.wait_ms


async def test_whoever_begins_first_takes_along_what_was_announced_in_its_order(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, *(an_event(n) for n in (3, 1, 4, 2)))
    begun = await lead(mailbox, an_event(4))
    assert ids(begun.waiting) == ["E0001", "E0002", "E0003", "E0004"]
    await mailbox.finish(HERE, begun.fence, ids(begun.waiting))
    for n in (1, 2, 3):
        assert isinstance(await mailbox.begin(an_event(n)), AlreadyDone)


async def test_the_age_of_what_is_taken_along_is_measured_by_redis_clock(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1, text='ราคา|เท่าไหร่ "ฟอก" }'))
    taken, _ = (await lead(mailbox, an_event(2))).waiting.events
    assert taken == an_event(1, text='ราคา|เท่าไหร่ "ฟอก" }', arrived_ms=taken.arrived_ms)
    seconds, _ = await redis.time()
    assert taken.arrived_ms == pytest.approx(seconds * 1000, abs=5000)


async def test_what_its_senders_rate_delays_goes_into_the_turn_that_waits(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    *_, delay_ms = await announce(shaper, *(an_event(n) for n in range(1, 7)), rate=30)
    assert delay_ms == 2000
    begun = await lead(mailbox, an_event(1))
    assert ids(begun.waiting) == [f"E{n:04}" for n in range(1, 7)]
    await mailbox.finish(HERE, begun.fence, ids(begun.waiting))
    assert isinstance(await mailbox.begin(an_event(6)), AlreadyDone)


async def test_a_leader_goes_on_with_what_is_due_and_takes_the_rest_along(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, *(an_event(n, timestamp_ms=NOW_MS - n) for n in range(1, 6)), rate=30)
    begun = await lead(mailbox, an_event(0))
    await announce(shaper, an_event(6), rate=30)
    left = await mailbox.finish(HERE, begun.fence, ids(begun.waiting), go_on=True)
    assert left == Waiting(()), "its sender has no more than so many answers in ten seconds"
    begun = await lead(mailbox, an_event(7))
    assert ids(begun.waiting) == ["E0006", "E0007"]
    await announce(shaper, an_event(8), rate=30)
    await announce(shaper, an_event(9))
    left = await mailbox.finish(HERE, begun.fence, ids(begun.waiting), go_on=True)
    assert left is not None
    assert ids(left) == ["E0008", "E0009"]


async def test_one_whose_task_was_never_enqueued_does_not_wait_for_a_later_conversation(
    redis: Redis, shaper: RedisShaper
) -> None:
    mailbox = a_mailbox(redis, overdue_ms=50)
    await announce(shaper, an_event(1))
    await asyncio.sleep(0.1)
    begun = await lead(mailbox, an_event(2))
    assert ids(begun.waiting) == ["E0002"]
    assert isinstance(await mailbox.begin(an_event(1)), Held)
    assert await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True) == Waiting((an_event(1),))


async def test_nor_does_one_that_the_mailboxs_bounds_have_left_as_an_id(
    redis: Redis, shaper: RedisShaper
) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=1, overdue_ms=50)
    await announce(shaper, an_event(1))
    begun = await lead(mailbox, an_event(2))
    assert begun.waiting == Waiting((an_event(2),), ("E0001",))
    await mailbox.finish(HERE, begun.fence, ["E0002"])
    await asyncio.sleep(0.1)
    assert (await lead(mailbox, an_event(3))).waiting == Waiting((an_event(3),))


async def test_one_that_is_late_by_far_may_have_been_answered_and_is_not_taken_along(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    old = an_event(1, timestamp_ms=NOW_MS - 3_600_000)
    await announce(shaper, old, an_event(2))
    begun = await lead(mailbox, an_event(2))
    assert ids(begun.waiting) == ["E0002"]
    assert isinstance(await mailbox.begin(old), Held)
    assert await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True) == Waiting((old,))


async def test_a_redelivery_of_what_was_answered_is_not_taken_along(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    begun = await lead(mailbox, an_event(1))  # its announcement failed
    await announce(shaper, an_event(1))
    await mailbox.finish(HERE, begun.fence, ["E0001"])
    await announce(shaper, an_event(1))
    assert (await lead(mailbox, an_event(2))).waiting.events == (an_event(2),)


async def test_an_unsent_message_is_not_taken_along_whatever_comes_first(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    unsending = an_event(3, kind="unsend", message_id="M1")
    await announce(shaper, an_event(1), an_event(2), unsending)
    assert await mailbox.remove(HERE, "M1")
    await mailbox.remove(HERE, "M4")
    await announce(shaper, an_event(4))
    begun = await lead(mailbox, unsending)
    assert ids(begun.waiting) == ["E0002", "E0003"]
    for n in (1, 4):
        assert isinstance(await mailbox.begin(an_event(n)), AlreadyDone)


async def test_a_begin_that_is_repeated_leads_although_another_was_announced_meanwhile(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    send: Any = redis.execute_command
    await lead(mailbox, an_event(1, chat_id="U2"))  # the script is there now

    async def twice(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await send(*args, **options)
        await announce(shaper, an_event(1), gather_ms=900)
        return await send(*args, **options)

    monkeypatch.setattr(redis, "execute_command", twice)
    assert ids((await lead(mailbox, an_event(2))).waiting) == ["E0001", "E0002"]


async def test_whoever_leads_finds_something_to_answer_however_full_the_mailbox_is(
    redis: Redis, shaper: RedisShaper
) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=1)
    await announce(shaper, an_event(1), an_event(2), an_event(3))
    waiting = (await lead(mailbox, an_event(1))).waiting
    assert (ids(waiting), waiting.overflow_ids) == (["E0003"], ("E0001", "E0002"))


async def test_what_is_announced_is_bounded_and_forgotten_with_the_customer(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, *(an_event(n) for n in range(500)))
    announced, events = (redis_keys.mailbox(HERE, part) for part in ("announced", "events"))
    assert await redis.zcard(announced) == await redis.hlen(events) == 100
    for n in range(300):
        await mailbox.begin(an_event(n))
    assert await redis.zcard(redis_keys.mailbox(HERE, "known")) == 200
    await announce(shaper, an_event(501))
    conversations = RedisConversations(redis, lease_ms=LEASE_MS)
    await redis.delete(redis_keys.mailbox(HERE, "lead"))
    led = await conversations.lead(HERE)
    assert isinstance(led, Led)
    await conversations.erase(HERE, led.fence, sender="U1")
    assert not await redis.exists(announced)
    assert isinstance(await mailbox.begin(an_event(501)), AlreadyDone)


# A conversation whose newest message looks unfinished waits for another.


async def test_one_that_looks_unfinished_is_due_when_its_wait_is_over(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    (delay_ms,) = await announce(shaper, an_event(1), gather_ms=300)
    assert delay_ms == 300
    assert 200 < await wait_of(mailbox, an_event(1), "gathering") <= 300
    await asyncio.sleep(0.3)
    await lead(mailbox, an_event(1))


async def test_one_that_stands_by_itself_takes_along_what_waits_at_once(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1), gather_ms=300)
    assert await announce(shaper, an_event(2), gather_ms=0) == [0]
    assert ids((await lead(mailbox, an_event(2))).waiting) == ["E0001", "E0002"]


async def test_each_further_one_prolongs_the_wait_up_to_three_times_since_the_oldest(
    shaper: RedisShaper,
) -> None:
    delays = []
    for n in range(7):
        delays += await announce(shaper, an_event(n), gather_ms=400)
        await asyncio.sleep(0.2)
    assert delays[:4] == [400] * 4
    for n, delay_ms in enumerate(delays[5:], start=5):
        assert delay_ms == pytest.approx(1200 - 200 * n, abs=80)


async def test_whoever_is_dispatched_in_the_wait_comes_back_after_the_newest_which_leads(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1), gather_ms=300)
    await asyncio.sleep(0.1)
    await announce(shaper, an_event(2), gather_ms=300)
    assert LEASE_MS < await wait_of(mailbox, an_event(1), "gathering") <= LEASE_MS + 300
    await asyncio.sleep(0.3)
    begun = await lead(mailbox, an_event(2))
    assert ids(begun.waiting) == ["E0001", "E0002"]


async def test_what_comes_while_a_turn_runs_is_gathered_anew(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1), gather_ms=100)
    await asyncio.sleep(0.4)
    begun = await lead(mailbox, an_event(1))
    assert await announce(shaper, an_event(2), gather_ms=100) == [100]
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True) == Waiting(())
    await asyncio.sleep(0.1)
    begun = await lead(mailbox, an_event(2))
    await announce(shaper, an_event(3), gather_ms=100)
    await announce(shaper, an_event(4), gather_ms=0)
    left = await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True)
    assert left is not None
    assert ids(left) == ["E0003", "E0004"]


async def test_what_is_not_the_gatherings_concern_neither_ends_nor_begins_it(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    left = an_event(2, kind="unfollow")
    assert await announce(shaper, left, gather_ms=None) == [0]
    await announce(shaper, an_event(1), gather_ms=300)
    assert await announce(shaper, an_event(3, kind="unfollow"), gather_ms=None) == [0]
    assert await wait_of(mailbox, an_event(3, kind="unfollow"), "gathering") > LEASE_MS


async def test_a_stopped_gathering_takes_no_time_from_the_next(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1), gather_ms=100)
    await mailbox.remove(HERE, "M1")
    await asyncio.sleep(0.4)
    assert await announce(shaper, an_event(2), gather_ms=100) == [100]


async def test_forgetting_somebody_in_an_empty_redis_is_taken_for_no_loss(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    conversations = RedisConversations(redis, lease_ms=LEASE_MS)
    led = await conversations.lead(HERE)
    assert isinstance(led, Led)
    await conversations.erase(HERE, led.fence, sender="U1")
    assert await mailbox.finish(HERE, led.fence, ()) is None
    await lead(mailbox, an_event(1))


async def test_an_empty_redis_costs_whoever_is_new_nothing(redis: Redis, mailbox: RedisMailbox) -> None:
    await lead(mailbox, an_event(1))
    await redis.flushall()
    await lead(a_mailbox(redis), an_event(2))


async def test_who_led_when_redis_lost_its_data_leads_on_and_is_not_overtaken(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    begun = await lead(mailbox, an_event(1))
    other = a_mailbox(redis)
    await lead(other, an_event(1, chat_id="U2"))
    await redis.flushall()
    await redis.script_flush()
    wait_ms = await wait_of(other, an_event(3), "redis_lost")
    assert LEASE_MS / 3 < wait_ms < LEASE_MS / 2, "until the leader must have renewed"
    assert await mailbox.renew(HERE, begun.fence)
    assert await wait_of(other, an_event(3), "redis_lost") > LEASE_MS * 0.9, "now something was lost for sure"
    await wait_of(other, an_event(2), "redis_lost")
    conversations = RedisConversations(redis, lease_ms=LEASE_MS)
    assert isinstance(await conversations.lead(replace(HERE, chat_id="U3")), Held)
    # What waited is not all there yet, so the leader does not go on with what is.
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"s", go_on=True) == Waiting(())
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)
    await redis.hset(redis_keys.GENERATION, "lost", "long ago")
    after = await lead(other, an_event(3))
    assert after.waiting.events == (an_event(2), an_event(3))
    assert after.session == b"s"
    assert after.fence > begun.fence


async def test_a_leader_that_only_finishes_after_the_loss_has_led_until_then(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    begun = await lead(mailbox, an_event(1))
    await redis.flushall()
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"s") == Waiting(())
    assert not await mailbox.renew(HERE, begun.fence)
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"late") is None


async def test_a_leader_that_was_overtaken_after_the_loss_has_lost(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    begun = await lead(mailbox, an_event(1))
    await redis.flushall()
    after = await lead(a_mailbox(redis), an_event(2))
    assert after.fence > begun.fence
    assert not await mailbox.renew(HERE, begun.fence)
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], session=b"lost") is None


async def test_the_loss_is_noticed_at_an_acknowledgement_too(redis: Redis, shaper: RedisShaper) -> None:
    await announce(shaper, an_event(1))
    await redis.flushall()
    await announce(shaper, an_event(2))
    await wait_of(a_mailbox(redis), an_event(2), "redis_lost")


async def test_after_a_loss_it_goes_on_by_itself(redis: Redis) -> None:
    mailbox = a_mailbox(redis, lease_ms=150)
    await lead(mailbox, an_event(1))
    await redis.flushall()
    await asyncio.sleep(await wait_of(mailbox, an_event(2), "redis_lost") / 1000)
    await lead(mailbox, an_event(2))
