"""The mailbox against a model of it: any order of calls by any number of turns, with losses in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.domain.event import Conversation, EventKind, InboundEvent
from core.ports.mailbox import AlreadyDone, Held, Lead, NotYet, Waiting
from core.ports.shaper import Arrival
from tests.support.awaiting import result_of

HERE = Conversation("bkk-smile", "line", "U1")
MAX_EVENTS, MAX_CHARS = 3, 12
FROM_MS = round(time.time() * 1000) + 3_600_000  # never so old that its place is forgotten
EVENTS = [
    InboundEvent(
        f"E{n}", "bkk-smile", "U1", EventKind.TEXT, FROM_MS + at, 1, text="ก" * length, message_id=f"M{n}"
    )
    for n, (at, length) in enumerate([(5, 1), (3, 8), (3, 2), (9, 20), (1, 0), (7, 5), (8, 4), (2, 6)])
]


def order(event: InboundEvent) -> tuple[int, str]:
    return event.timestamp_ms, event.event_id


def timeless(waiting: Waiting) -> Waiting:
    """When an announced event arrived is Redis' to say."""
    return replace(waiting, events=tuple(replace(e, arrived_ms=1) for e in waiting.events))


class Model:
    """What the port promises, in plain Python."""

    def __init__(self) -> None:
        self.events: list[InboundEvent] = []
        self.overflow: list[InboundEvent] = []
        self.done: set[str] = set()
        self.session: bytes | None = None
        self.leader: int | None = None
        self.expired = False
        self.led = False
        self.known: set[str] = set()
        self.announced: set[str] = set()
        self.overdue: set[str] = set()
        self.lost = ""

    def put(self, event: InboundEvent) -> None:
        self.overflow = [e for e in self.overflow if e != event]
        self.events = sorted({*self.events, event}, key=order)
        while len(self.events) > MAX_EVENTS or (
            len(self.events) > 1 and sum(len(e.text) for e in self.events) > MAX_CHARS
        ):
            self.overflow = sorted([*self.overflow, self.events.pop(0)], key=order)

    def waiting(self) -> Waiting:
        return Waiting(tuple(self.events), tuple(e.event_id for e in self.overflow))

    def drop(self, ids: set[str]) -> None:
        self.events = [e for e in self.events if e.event_id not in ids]
        self.overflow = [e for e in self.overflow if e.event_id not in ids]
        self.announced -= ids


class MailboxMachine(RuleBasedStateMachine):
    redis_url = ""

    def do(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(result_of(work))

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.redis = Redis.from_url(self.redis_url)
        self.mailbox = RedisMailbox(
            self.redis, lease_ms=60_000, session_ttl_s=1800, max_events=MAX_EVENTS, max_chars=MAX_CHARS
        )
        self.shaper = RedisShaper(self.redis, timeout_s=5)
        self.model = Model()
        self.fences: list[int] = []
        self.before_loss: set[int] = set()
        self.generation = 0
        self.seen: dict[str, int] = {}
        self.do(self.redis.flushall())

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        for key in set(self.do(self.redis.keys("*"))) - {redis_keys.GENERATION.encode()}:
            assert self.do(self.redis.pttl(key)) > 0, "a key lives for ever"
        self.do(self.redis.aclose())
        self.runner.close()

    def call_by(self, who: str) -> None:
        """Whoever saw another generation before notices that data was lost."""
        if self.seen.get(who, self.generation) != self.generation:
            self.model.lost = self.model.lost or "perhaps"
        self.seen[who] = self.generation

    def leads(self, fence: int) -> bool:
        model = self.model
        if fence in self.before_loss and not model.led:
            model.leader, model.led, model.lost = fence, True, "surely"
        return fence == model.leader

    @rule(events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=3))
    def announce(self, events: list[InboundEvent]) -> None:
        self.do(self.shaper.shape([Arrival(event, 0) for event in events]))
        self.call_by("shaper")
        for event in events:
            if event.event_id in self.model.known:
                continue
            self.model.known.add(event.event_id)
            if event.message_id not in self.model.done:
                self.model.announced.add(event.event_id)
                self.model.events = sorted({*self.model.events, event}, key=order)

    @precondition(lambda self: self.model.announced)
    @rule()
    def what_was_announced_is_long_overdue(self) -> None:
        """It leaves the mailbox with the next event that begins."""
        key = redis_keys.mailbox(HERE, "announced")
        self.do(self.redis.zadd(key, dict.fromkeys(self.model.announced, 1)))
        self.model.overdue |= self.model.announced

    @precondition(lambda self: self.model.lost)
    @rule()
    def what_the_loss_cost_is_over(self) -> None:
        self.do(self.redis.hset(redis_keys.GENERATION, "lost", "over"))
        self.model.lost = "over"

    @rule(event=st.sampled_from(EVENTS))
    def begin(self, event: InboundEvent) -> None:
        begun = self.do(self.mailbox.begin(event))
        model = self.model
        self.call_by("mailbox")
        model.known.add(event.event_id)
        model.announced -= {event.event_id}
        model.drop(model.overdue & model.announced)
        if {event.event_id, event.message_id} & model.done:
            model.drop({event.event_id})
            assert isinstance(begun, AlreadyDone)
            return
        model.put(event)
        if model.lost in {"perhaps", "surely"}:
            assert isinstance(begun, NotYet)
            assert begun.reason == "redis_lost"
            return
        if model.leader is not None and not model.expired:
            assert isinstance(begun, Held)
            return
        assert isinstance(begun, Lead)
        assert begun.fence > max(self.fences, default=0)
        assert timeless(begun.waiting) == model.waiting()
        assert begun.waiting.events
        assert begun.session == model.session
        model.leader, model.led, model.expired = begun.fence, True, False
        self.fences.append(begun.fence)

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences[-3:]))
        renewed = self.do(self.mailbox.renew(HERE, fence))
        assert renewed == self.leads(fence)
        if renewed:
            self.model.expired = False

    @precondition(lambda self: self.fences)
    @rule(
        data=st.data(),
        ids=st.sets(st.sampled_from([e.event_id for e in EVENTS])),
        session=st.none() | st.binary(max_size=4),
        go_on=st.booleans(),
    )
    def finish(self, data: st.DataObject, ids: set[str], session: bytes | None, go_on: bool) -> None:
        fence = data.draw(st.sampled_from(self.fences[-3:]))
        ids &= self.model.known  # what was taken along had come, or was announced
        left = self.do(self.mailbox.finish(HERE, fence, sorted(ids), session=session, go_on=go_on))
        model = self.model
        if not self.leads(fence):
            assert left is None
            return
        model.drop(ids)
        model.done |= ids
        model.session = model.session if session is None else session
        goes_on = go_on and model.lost not in {"perhaps", "surely"} and model.waiting().events
        assert left is not None
        assert timeless(left) == (model.waiting() if goes_on else Waiting(()))
        if left == Waiting(()):
            model.leader = None
        model.expired = False

    @rule(event=st.sampled_from(EVENTS))
    def unsend(self, event: InboundEvent) -> None:
        removed = self.do(self.mailbox.remove(HERE, event.message_id or ""))
        assert removed == (event in self.model.events)
        self.model.events = [e for e in self.model.events if e != event]
        self.model.done.add(event.message_id or "")
        self.model.announced -= {event.event_id} if removed else set()

    @precondition(lambda self: self.model.leader is not None)
    @rule()
    def lease_runs_out(self) -> None:
        self.do(self.redis.hset(redis_keys.mailbox(HERE, "lead"), "until", 1))
        self.model.expired = True

    @rule()
    def redis_restarts_empty(self) -> None:
        self.do(self.redis.flushall())
        self.do(self.redis.script_flush())
        self.model = Model()
        self.before_loss = {*self.fences}
        self.generation += 1


def check(redis_url: str, examples: int, steps: int) -> None:
    machine = type("Machine", (MailboxMachine,), {"redis_url": redis_url})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps))


def test_the_mailbox_does_what_its_model_does(redis_url: str) -> None:
    check(redis_url, examples=50, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_mailbox_does_what_its_model_does_for_long(redis_url: str) -> None:
    check(redis_url, examples=250, steps=60)
