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
from core.domain.event import Conversation, InboundEvent
from core.ports.mailbox import AlreadyDone, Held, Lead, NotYet, Waiting
from core.ports.shaper import Arrival

HERE = Conversation("bkk-smile", "line", "U1")
LEASE_MS, EARLIER_MS = 10_000, 200
NOW_MS = round(time.time() * 1000)


def an_event(n: int, **changes: Any) -> InboundEvent:
    event = InboundEvent(f"E{n:04}", "bkk-smile", "U1", "text", NOW_MS + n, 1, message_id=f"M{n}")
    return replace(event, **changes)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


def a_mailbox(redis: Redis, lease_ms: int = LEASE_MS, earlier_ms: int = EARLIER_MS) -> RedisMailbox:
    """As a process of its own has it."""
    return RedisMailbox(redis, lease_ms=lease_ms, session_ttl_s=1800, earlier_ms=earlier_ms)


@pytest.fixture
def mailbox(redis: Redis) -> RedisMailbox:
    return a_mailbox(redis)


@pytest.fixture
def shaper(redis: Redis) -> RedisShaper:
    return RedisShaper(redis, timeout_s=5)


async def announce(shaper: RedisShaper, *events: InboundEvent, rate: int = 0) -> list[int]:
    return (await shaper.shape([Arrival(event, rate) for event in events])).delays_ms


async def lead(mailbox: RedisMailbox, event: InboundEvent) -> Lead:
    begun = await mailbox.begin(event)
    assert isinstance(begun, Lead)
    return begun


async def wait_of(mailbox: RedisMailbox, event: InboundEvent, reason: str = "earlier") -> int:
    begun = await mailbox.begin(event)
    assert isinstance(begun, NotYet)
    assert begun.reason == reason
    return begun.wait_ms


async def test_a_later_message_waits_for_an_earlier_one_and_is_answered_with_it(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1))
    await announce(shaper, an_event(2))
    assert 0 < await wait_of(mailbox, an_event(2)) <= EARLIER_MS
    assert (await lead(mailbox, an_event(1))).waiting.events == (an_event(1), an_event(2))


async def test_many_events_of_one_webhook_keep_their_order_whatever_begins_first(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, *(an_event(n) for n in (3, 1, 4, 2)))
    for n in (4, 2, 3):
        await wait_of(mailbox, an_event(n))
    assert (await lead(mailbox, an_event(1))).waiting.events == tuple(an_event(n) for n in (1, 2, 3, 4))


async def test_an_earlier_one_that_never_comes_is_waited_for_once_from_when_it_is_missed(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, an_event(1), an_event(2), an_event(3))
    await asyncio.sleep(0.1)  # a backlog: that nobody missed it takes nothing from its time
    wait_ms = await wait_of(mailbox, an_event(2))
    assert wait_ms == EARLIER_MS
    await asyncio.sleep(wait_ms / 1000)
    assert (await lead(mailbox, an_event(3))).waiting.events == (an_event(2), an_event(3))


async def test_what_is_delayed_goes_before_what_is_not(mailbox: RedisMailbox, shaper: RedisShaper) -> None:
    *_, delay_ms = await announce(shaper, *(an_event(n) for n in range(1, 7)), rate=30)
    assert delay_ms == 2000
    begun = await lead(mailbox, an_event(1))
    for n in range(2, 6):
        await mailbox.begin(an_event(n))
    # Acknowledged while Redis did not answer: not announced, and not delayed.
    assert 1000 < await wait_of(mailbox, an_event(7)) <= 2000 + EARLIER_MS
    left = await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True)
    assert left == Waiting(tuple(an_event(n) for n in range(2, 6)))
    assert await mailbox.finish(HERE, begun.fence, [f"E000{n}" for n in range(2, 6)], go_on=True) == Waiting(
        ()
    )
    assert (await lead(mailbox, an_event(6))).waiting.events == (an_event(6), an_event(7))


async def test_a_leader_does_not_go_on_past_one_that_has_not_begun(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    begun = await lead(mailbox, an_event(1))
    await announce(shaper, an_event(2), an_event(3))
    await wait_of(mailbox, an_event(3))
    assert await mailbox.finish(HERE, begun.fence, ["E0001"], go_on=True) == Waiting(())
    assert (await lead(mailbox, an_event(2))).waiting.events == (an_event(2), an_event(3))


async def test_one_that_is_late_by_far_waits_for_nobody_and_nobody_waits_for_it(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    old = an_event(1, timestamp_ms=NOW_MS - 3_600_000)
    await announce(shaper, old, an_event(2))
    begun = await lead(mailbox, an_event(2))
    assert isinstance(await mailbox.begin(old), Held)
    assert await mailbox.finish(HERE, begun.fence, ["E0002"], go_on=True) == Waiting((old,))


async def test_a_redelivery_of_what_has_begun_is_not_waited_for(
    mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    begun = await lead(mailbox, an_event(1))  # its announcement failed
    await announce(shaper, an_event(1))
    await mailbox.finish(HERE, begun.fence, ["E0001"])
    await announce(shaper, an_event(1))
    await lead(mailbox, an_event(2))


async def test_an_unsent_message_is_not_waited_for(mailbox: RedisMailbox, shaper: RedisShaper) -> None:
    unsending = an_event(3, kind="unsend", message_id="M1")
    await announce(shaper, an_event(1), an_event(2), unsending)
    await wait_of(mailbox, an_event(2))
    await mailbox.remove(HERE, "M1")
    assert (await lead(mailbox, unsending)).waiting.events == (an_event(2), unsending)
    assert isinstance(await mailbox.begin(an_event(1)), AlreadyDone)


async def test_a_begin_that_is_repeated_leads_although_an_earlier_one_was_announced_meanwhile(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = redis.execute_command
    await lead(mailbox, an_event(1, chat_id="U2"))  # the script is there now

    async def twice(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await send(*args, **options)
        await announce(shaper, an_event(1))
        return await send(*args, **options)

    monkeypatch.setattr(redis, "execute_command", twice)
    assert (await lead(mailbox, an_event(2))).waiting == Waiting((an_event(2),))


async def test_whoever_leads_finds_something_to_answer_however_full_the_mailbox_is(
    redis: Redis, shaper: RedisShaper
) -> None:
    mailbox = RedisMailbox(redis, lease_ms=LEASE_MS, session_ttl_s=1800, max_events=1)
    await announce(shaper, an_event(1), an_event(2), an_event(3))
    await wait_of(mailbox, an_event(3))
    assert (await lead(mailbox, an_event(1))).waiting == Waiting((an_event(3),), ("E0001",))


async def test_what_is_announced_is_bounded_and_forgotten_with_the_customer(
    redis: Redis, mailbox: RedisMailbox, shaper: RedisShaper
) -> None:
    await announce(shaper, *(an_event(n) for n in range(500)))
    coming = redis_keys.mailbox(HERE, "coming")
    assert await redis.hlen(coming) == 200
    for n in range(300):
        await mailbox.begin(an_event(n))
    assert await redis.zcard(redis_keys.mailbox(HERE, "known")) == 200
    await announce(shaper, an_event(501))
    conversations = RedisConversations(redis, lease_ms=LEASE_MS)
    await redis.delete(redis_keys.mailbox(HERE, "lead"))
    fence = await conversations.lead(HERE)
    assert isinstance(fence, int)
    await conversations.erase(HERE, fence, sender="U1")
    assert not await redis.exists(coming)


async def test_forgetting_somebody_in_an_empty_redis_is_taken_for_no_loss(
    redis: Redis, mailbox: RedisMailbox
) -> None:
    conversations = RedisConversations(redis, lease_ms=LEASE_MS)
    fence = await conversations.lead(HERE)
    assert isinstance(fence, int)
    await conversations.erase(HERE, fence, sender="U1")
    assert await mailbox.finish(HERE, fence, ()) is None
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
