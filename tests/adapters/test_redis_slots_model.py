"""Random histories of slots operations on a real Redis against a model: caps, order, leaks, wake-ups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.adapters import redis_keys
from core.adapters.redis_slots_scripts import KEYS, SlotOptions, SlotScripts
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.support.awaiting import result_of
from tests.support.slots_model import SlotsModel
from tests.support.slots_scene import client

PICK = st.integers(0, 99)
ORGS = st.sampled_from(["a", "a-b", "b"])
CHANNEL = redis_keys.slots_wake("model")
# What passing time would do, without waiting for it: the member's expiry is over, and a sweep is due.
EXPIRE = """
redis.call('ZADD', KEYS[1], 1, ARGV[1])
local state = redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], struct.pack('<dd', 0, 0) .. string.sub(state, 17)) -- lease_due, wait_due
"""


class SlotsMachine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.redis = client(self.url)
        self.options = SlotOptions(
            global_limit=5, per_org_limit=3, org_room=3, lease_ms=600_000, claim_ms=500_000
        )
        self.scripts = SlotScripts(self.redis, self.options)
        self.model = SlotsModel(limit=5, org_limit=3, room=3)
        self.place_of: dict[str, int] = {}
        self.places: list[tuple[str, int]] = []
        self.count = 0
        self.do(self.redis.flushall())
        self.pubsub = self.redis.pubsub()
        self.do(self.pubsub.subscribe(CHANNEL))
        self.do(self.pubsub.get_message(timeout=2))

    def do(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(result_of(work))

    def teardown(self) -> None:
        self.do(self.pubsub.aclose())
        self.do(self.redis.aclose(close_connection_pool=True))
        self.runner.close()

    def ask(self, org: str, ticket: str, nonce: str, own_cap: int | None, place: int | None) -> Any:
        request = SlotRequest(org, ticket, 600, org_cap=own_cap)
        return self.do(
            self.scripts.acquire(request, nonce=nonce, channel=CHANNEL, wait_ms=600_000, place=place)
        )

    @rule(orgs=st.lists(ORGS, min_size=1, max_size=6), own_cap=st.sampled_from([None, None, None, 1, 3, 9]))
    def arrive(self, orgs: list[str], own_cap: int | None) -> None:
        for org in orgs:
            self._acquire(org, own_cap, None)

    @precondition(lambda self: self.places)
    @rule(pick=PICK)
    def come_back_to_an_earlier_place(self, pick: int) -> None:
        org, place = self.places.pop(pick % len(self.places))
        self._acquire(org, None, place)

    def _acquire(self, org: str, own_cap: int | None, place: int | None) -> None:
        self.count += 1
        ticket = f"t{self.count}"
        got = self.ask(org, ticket, ticket, own_cap, place)
        if place is not None:
            assert got.place == place
        self.place_of[ticket] = got.place
        assert got.status == self.model.acquire(org, ticket, got.place, own_cap)
        if got.status == "granted":
            self.model.announced.remove(ticket)  # the asker has it in its answer

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def ask_again(self, pick: int) -> None:
        org, ticket = self.pick(self.known(), pick)
        got = self.ask(org, ticket, ticket, self.model.own_caps.get(org), None)
        assert got.status == ("granted" if ticket in self.model.leases else "waiting")
        assert self.ask(org, ticket, "somebody else", None, None).status == "taken"

    @precondition(lambda self: self.model.leases)
    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        org, ticket = self.pick(self.model.leases, pick)
        fence = self.ask(org, ticket, ticket, None, None).fence
        self.do(self.scripts.release(org, ticket, fence - 1, Outcome(OutcomeKind.OK)))
        assert ticket in self.held()
        self.do(self.scripts.release(org, ticket, fence, Outcome(OutcomeKind.OK)))
        self.model.end(ticket)
        self.do(self.scripts.release(org, ticket, fence, Outcome(OutcomeKind.FAILED)))

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        org, ticket = self.pick(self.known(), pick)
        request = SlotRequest(org, ticket, 600)
        self.do(self.scripts.cancel(request, nonce="somebody else", place=None))
        self.do(self.scripts.cancel(request, nonce=ticket, place=None))
        self.model.end(ticket)
        self.places.append((org, self.place_of[ticket]))

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def expire(self, pick: int) -> None:
        org, ticket = self.pick(self.known(), pick)
        key, member = "leases", f"{org} {ticket}"
        if ticket not in self.model.leases:
            key, member = "waits", f"{org} {self.place_of[ticket]:016d} {ticket}"
        state = redis_keys.slots("state")
        self.do(self.redis.eval(EXPIRE, 2, redis_keys.slots(key), state, member))
        self.do(self.scripts.renew([], []))
        self.model.end(ticket)

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        org, ticket = self.pick(self.known(), pick)
        self.do(self.redis.script_flush())
        told = self.do(self.scripts.renew([(org, ticket, 1)], [(org, ticket, ticket), (org, ticket, "x")]))
        assert told.leases == [False]
        assert (told.waiters[0] > 0) == (ticket in self.model.leases)
        assert told.waiters[1] == -1

    def known(self) -> dict[str, str]:
        """Clinics by ticket, of leases and waiters."""
        waiters = {ticket: org for org, queue in self.model.queue.items() for _, ticket in queue}
        return {**self.model.leases, **waiters}

    @staticmethod
    def pick(tickets: dict[str, str], number: int) -> tuple[str, str]:
        ticket = sorted(tickets)[number % len(tickets)]
        return tickets[ticket], ticket

    @rule(limit=st.sampled_from([None, 1, 2, 5]))
    def set_limit(self, limit: int | None) -> None:
        self.do(self.scripts.limit(None, limit))
        self.model.limit = limit or self.options.global_limit
        self.model.pump()

    @rule(org=ORGS, cap=st.sampled_from([None, 1, 4]))
    def set_cap(self, org: str, cap: int | None) -> None:
        self.do(self.scripts.limit(org, cap))
        if cap is None:
            self.model.set_caps.pop(org, None)
        else:
            self.model.set_caps[org] = cap
        self.model.pump()

    def members(self, part: str, low: int = 0, high: int = -1) -> list[list[str]]:
        found = self.do(self.redis.zrange(redis_keys.slots(part), low, high))
        return [member.decode().split(" ") for member in found]

    def held(self) -> set[str]:
        return {ticket for _, ticket in self.members("leases")}

    @invariant()
    def the_same_hold_and_wait_in_the_same_order(self) -> None:
        model = self.model
        assert self.held() == set(model.leases)
        queue = [(org, int(place), ticket) for org, place, ticket in self.members("queue")]
        assert queue == [
            (org, place, ticket) for org in sorted(model.queue) for place, ticket in model.queue[org]
        ]
        assert [org for (org,) in self.members("orgs")] == sorted(model.ticks, key=model.ticks.__getitem__)

    @invariant()
    def nothing_else_is_kept(self) -> None:
        known = len(self.model.leases) + sum(map(len, self.model.queue.values()))
        assert self.do(self.redis.hlen(redis_keys.slots("tickets"))) == known
        waiting = self.do(self.redis.zcard(redis_keys.slots("waits")))
        assert waiting == known - len(self.model.leases)
        assert {key.decode() for key in self.do(self.redis.keys("*"))} <= set(KEYS)

    @invariant()
    def every_grant_and_eviction_was_announced(self) -> None:
        granted: list[str] = []
        evicted: list[str] = []
        expected = len(self.model.announced) + len(self.model.evicted)
        for _ in range(expected + 1):
            timeout = 0.0 if len(granted) + len(evicted) == expected else 2.0
            message = self.do(self.pubsub.get_message(timeout=timeout))
            if message is None:
                break
            nonce, fence, *_ = message["data"].decode().split()
            (granted if int(fence) else evicted).append(nonce)
        assert (granted, evicted) == (self.model.announced, self.model.evicted)
        self.model.announced.clear()
        self.model.evicted.clear()


def explore(url: str, *, examples: int, steps: int) -> None:
    machine = type("Machine", (SlotsMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_histories_agree_with_the_model(redis_url: str) -> None:
    explore(redis_url, examples=25, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_random_histories_agree_with_the_model(redis_url: str) -> None:
    explore(redis_url, examples=400, steps=60)
