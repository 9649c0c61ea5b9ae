"""The token rate: who must wait for tokens holds up nobody, knows when they are there, and is not starved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.adapters import redis_keys
from core.adapters.redis_slots_operator import SlotsView
from core.adapters.redis_slots_scripts import Acquired, SlotOptions
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.support.awaiting import result_of
from tests.support.slots_clocked import START_MS, ClockedScripts
from tests.support.slots_scene import client
from tests.support.slots_tokens_model import TokensModel

RATE = 1_200
PICK = st.integers(0, 99)
CHANNEL = redis_keys.slots_wake("model")
LASTING_MS = 36_000_000


class Clocked:
    """Operations of one process, one after the other, and the time between them."""

    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.redis = client(url)
        given = {"tokens_per_minute": RATE, "lease_ms": LASTING_MS, "claim_ms": LASTING_MS, **options}
        self.scripts = ClockedScripts(self.redis, SlotOptions(max_hold_ms=LASTING_MS, **given))
        self.do(self.redis.flushall())

    def do(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(result_of(work))

    def close(self) -> None:
        self.do(self.redis.aclose(close_connection_pool=True))
        self.runner.close()

    @property
    def now(self) -> int:
        return self.scripts.now_ms

    def ask(
        self, org: str, ticket: str, tokens: int, *, place: int | None = None, wait_ms: int = 600_000
    ) -> Acquired:
        request = SlotRequest(org, ticket, wait_ms / 1000, tokens=tokens)
        return self.do(
            self.scripts.acquire(request, nonce=ticket, channel=CHANNEL, wait_ms=wait_ms, place=place)
        )

    def release(self, org: str, ticket: str, fence: int, used: int | None) -> None:
        self.do(self.scripts.release(org, ticket, fence, Outcome(OutcomeKind.OK, tokens=used)))

    def cancel(self, org: str, ticket: str, tokens: int, place: int) -> tuple[str, int]:
        request = SlotRequest(org, ticket, 0, tokens=tokens)
        outlook = self.do(self.scripts.cancel(request, nonce=ticket, place=place))
        return outlook.reason, outlook.shut_ms

    def fences(self) -> dict[str, int]:
        """Of all tickets that hold a slot."""
        held = self.do(self.redis.zrange(redis_keys.slots("leases"), 0, -1))
        tickets = [member.decode().split(" ") for member in held]
        return {ticket: self.ask(org, ticket, 0).fence for org, ticket in tickets}

    def look(self) -> SlotsView:
        return SlotsView.of(self.do(self.scripts.view()))


class TokensMachine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Clocked(self.url, global_limit=8, per_org_limit=8, org_room=3)
        self.model = TokensModel(limit=8, org_limit=8, room=3, rate=RATE, now=START_MS)
        self.orgs: dict[str, str] = {}
        self.away: list[str] = []

    def teardown(self) -> None:
        self.slots.close()

    def _arrive(self, org: str, tokens: int, wait_ms: int, place: int | None = None) -> None:
        ticket = f"t{len(self.orgs)}"
        self.orgs[ticket] = org
        self.model.advance(self.slots.now)
        got = self.slots.ask(org, ticket, tokens, place=place, wait_ms=wait_ms)
        assert got.status == self.model.ask(org, ticket, got.place, tokens, wait_ms)

    @rule(
        org=st.sampled_from(["a", "a-b", "b"]),
        tokens=st.sampled_from([1, 50, 100, 200, 300, 300, 700, 1_200, 1_201]),
        wait_ms=st.sampled_from([3_000, 20_000, 600_000, 600_000]),
        times=st.integers(1, 3),
    )
    def arrive(self, org: str, tokens: int, wait_ms: int, times: int) -> None:
        for _ in range(times):
            self._arrive(org, tokens, wait_ms)

    @precondition(lambda self: self.away)
    @rule(pick=PICK)
    def come_back(self, pick: int) -> None:
        ticket = self.away.pop(pick % len(self.away))
        wait = self.model.waits_for[ticket]
        self._arrive(self.orgs[ticket], wait.tokens, 20_000, wait.place)

    @precondition(lambda self: self.model.leases)
    @rule(pick=PICK, used=st.sampled_from([None, None, 0.3, 1.0]))
    def release(self, pick: int, used: float | None) -> None:
        ticket = sorted(self.model.leases)[pick % len(self.model.leases)]
        self.model.advance(self.slots.now)
        fence = self.slots.ask(self.orgs[ticket], ticket, 0).fence
        tokens = None if used is None else int(used * self.model.waits_for[ticket].tokens)
        self.model.pump()
        self.model.advance(self.slots.now)
        self.slots.release(self.orgs[ticket], ticket, fence, tokens)
        self.model.release(ticket, tokens)

    @precondition(lambda self: self.known())
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """Also a granted one; what it is told is computed from its own tokens."""
        ticket = self.known()[pick % len(self.known())]
        self.model.advance(self.slots.now)
        wait = self.model.waits_for[ticket]
        waits = ticket not in self.model.leases
        told = self.slots.cancel(self.orgs[ticket], ticket, wait.tokens, wait.place)
        assert told == self.model.cancel(ticket)
        if waits:
            self.away.append(ticket)

    @rule(ms=st.sampled_from([1, 400, 2_000, 9_000, 9_000, 15_000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.slots.scripts.now_ms += ms
        self.model.advance(self.slots.now)
        self.slots.do(self.slots.scripts.renew([], []))
        self.model.pump()

    def known(self) -> list[str]:
        waiters = [ticket for queue in self.model.queue.values() for _, ticket in queue]
        return sorted([*self.model.leases, *waiters])

    @invariant()
    def the_same_hold_and_wait(self) -> None:
        model = self.model
        held = self.slots.do(self.slots.redis.zrange(redis_keys.slots("leases"), 0, -1))
        assert {member.decode().split(" ")[1] for member in held} == set(model.leases)
        queue = self.slots.do(self.slots.redis.zrange(redis_keys.slots("queue"), 0, -1))
        expected = sorted(ticket for waiters in model.queue.values() for _, ticket in waiters)
        assert sorted(member.decode().split(" ")[2] for member in queue) == expected

    @invariant()
    def a_minutes_tokens_are_never_exceeded(self) -> None:
        self.model.advance(self.slots.now)
        self.model.pump()
        view = self.slots.look()
        assert view.tokens is not None
        # What lies just a minute back is forgotten with the next operation.
        assert self.model.spent <= RATE
        assert view.tokens == self.model.spent


def explore(url: str, *, examples: int, steps: int) -> None:
    machine = type("Machine", (TokensMachine,), {"url": url})
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


def test_who_must_wait_for_tokens_holds_up_nobody_and_is_told_when_they_are_there(redis_url: str) -> None:
    slots = Clocked(redis_url, tokens_per_minute=30_000)
    assert slots.ask("a", "earlier", 15_000).status == "granted"
    slots.scripts.now_ms += 20_000
    large = slots.ask("b", "large", 20_000)
    assert large.status == "waiting"
    for org, ticket in (("a", "t1"), ("b", "t2"), ("c", "t3")):
        assert slots.ask(org, ticket, 500).status == "granted"
    assert slots.ask("c", "never", 30_001).status == "too_large"
    assert slots.ask("c", "t4", 10).status == "granted"
    # Of 15,000 spent 20 s ago enough is free again in 40 s.
    assert slots.cancel("b", "large", 20_000, large.place) == ("rate", 40_000)
    slots.scripts.now_ms += 40_001
    assert slots.ask("b", "again", 20_000, place=large.place).status == "granted"
    slots.close()


def test_a_clinics_own_waiters_pass_one_that_lacks_tokens(redis_url: str) -> None:
    slots = Clocked(redis_url, per_org_limit=2)
    first = slots.ask("a", "first", 800)
    assert [slots.ask("a", "large", 900).status, slots.ask("a", "small", 100).status] == [
        "waiting",
        "granted",
    ]
    slots.release("a", "first", first.fence, 200)
    assert set(slots.fences()) == {"large", "small"}
    slots.close()


def test_tokens_that_were_saved_for_one_that_never_came_again_are_free_again(redis_url: str) -> None:
    slots = Clocked(redis_url)
    slots.ask("a", "earlier", 600)
    large = slots.ask("b", "large", 1_200)
    slots.scripts.now_ms += 50_000
    _, shut_ms = slots.cancel("b", "large", 1_200, large.place)
    assert shut_ms == 10_000
    slots.scripts.now_ms += shut_ms + 14_000
    # Saved in 69 s: (74 - 5) × 10 of 1,200 tokens; the others have gone on with the rest.
    assert slots.ask("c", "more", 520).status == "waiting"
    assert slots.ask("c", "less", 500).status == "granted"
    slots.scripts.now_ms += 1_001
    slots.do(slots.scripts.renew([], []))
    assert "more" in slots.fences()
    slots.close()


@settings(max_examples=12, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    size=st.sampled_from([300, 600, 900, 1_200]),
    small=st.lists(st.integers(20, 150), min_size=4, max_size=4),
    lasts_ms=st.integers(500, 8_000),
    used=st.sampled_from([0.3, 1.0]),
    longest_away_ms=st.sampled_from([1_000, 15_000, 60_000]),
)
def test_a_large_request_is_not_starved_by_small_ones_nor_starves_them(
    redis_url: str, size: int, small: list[int], lasts_ms: int, used: float, longest_away_ms: int
) -> None:
    """Four clinics ask without end; it is put back again and again, as long as its hint says."""
    slots = Clocked(redis_url)
    crowd = Crowd(slots, small, lasts_ms, used)
    crowd.fill_a_minute()
    began, place, asked = slots.now, None, 0
    before = crowd.granted
    while True:
        asked += 1
        assert slots.now - began <= 5_000 + 120_000 * size / RATE + 60_000 + longest_away_ms
        got = slots.ask("large", f"l{asked}", size, place=place, wait_ms=20_000)
        place = got.place
        if got.status == "granted" or crowd.run_until(slots.now + 20_000, f"l{asked}"):
            break
        reason, shut_ms = slots.cancel("large", f"l{asked}", size, place)
        assert reason in {"rate", ""}
        crowd.run_until(slots.now + min(shut_ms, longest_away_ms) + 1_000)
    minutes = (slots.now - began) / 60_000
    if size <= RATE / 2 and minutes > 0.5:
        assert crowd.granted - before >= 0.45 * RATE * minutes - 2 * max(small)
    slots.close()


class Crowd:
    """Clinics that always have somebody waiting; their calls last for a while."""

    def __init__(self, slots: Clocked, sizes: list[int], lasts_ms: int, used: float) -> None:
        self.slots, self.lasts_ms, self.used = slots, lasts_ms, used
        self.sizes = {f"o{n}": size for n, size in enumerate(sizes)}
        self.waiting: dict[str, str] = {}
        self.ends: dict[str, tuple[int, str]] = {}
        self.granted = self.count = self.asked = self.steps = 0

    def run_until(self, end_ms: int, wanted: str = "") -> bool:
        """Until then, or until `wanted` is granted: was it?"""
        while self.slots.now < end_ms:
            self.slots.scripts.now_ms += 500
            self.slots.do(self.slots.scripts.renew([], []))
            if self._step(list(self.sizes), wanted):
                return True
        return False

    def fill_a_minute(self) -> None:
        """Evenly, so that tokens come free one by one, not all at once."""
        for _ in range(130):
            self.slots.scripts.now_ms += 500
            self._step([f"o{self.count % 4}"] if self.asked * self.used < self.steps * RATE / 120 else [])

    def _step(self, asking: list[str], wanted: str = "") -> bool:
        self.steps += 1
        for ticket, (ends, org) in list(self.ends.items()):
            if ends <= self.slots.now:
                del self.ends[ticket]
                fence = self.slots.ask(org, ticket, 0).fence
                self.slots.release(org, ticket, fence, int(self.used * self.sizes[org]))
        for org in asking:
            size = self.sizes[org]
            if org not in self.waiting:
                self.count += 1
                self.asked += size
                self.waiting[org] = f"t{self.count}"
                self.slots.ask(org, self.waiting[org], size)
        members = self.slots.do(self.slots.redis.zrange(redis_keys.slots("leases"), 0, -1))
        held = {member.decode().split(" ")[1] for member in members}
        for org, ticket in list(self.waiting.items()):
            if ticket in held:
                del self.waiting[org]
                self.granted += int(self.used * self.sizes[org])
                self.ends[ticket] = (self.slots.now + self.lasts_ms, org)
        return wanted in held
