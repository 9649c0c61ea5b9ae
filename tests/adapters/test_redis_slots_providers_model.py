"""Two providers under random histories: limits that find themselves, circuits that are probed, a lost Redis.
Whatever happens, no provider is given more than it may get, and none changes anything of the other."""

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
from core.adapters.redis_slots_operator import SlotsView
from core.adapters.redis_slots_scripts import SlotOptions, keys_of
from core.ports.slots import Outcome, OutcomeKind, SlotRequest
from tests.support.awaiting import result_of
from tests.support.slots_clocked import ClockedScripts
from tests.support.slots_scene import client

NAMES = ("openai", "backup")
NAME, PICK, ORG = st.sampled_from(NAMES), st.integers(0, 99), st.sampled_from(["a", "b", "c"])
CEILING, CAP, PROBE_MS = 6, 3, 5_000
OUTCOMES = st.sampled_from(
    [OutcomeKind.OK] * 4 + [OutcomeKind.RATE_LIMITED] * 3 + [OutcomeKind.FAILED] * 3 + [OutcomeKind.NEUTRAL]
)
OPTIONS: dict[str, Any] = {
    "global_limit": CEILING,
    "per_org_limit": CAP,
    "lease_ms": 600_000,
    "claim_ms": 500_000,
    "max_hold_ms": 10**9,
    "circuit_attempts": 3,
    "circuit_window_ms": 10_000,
    "probe_ms": PROBE_MS,
}


class ProvidersMachine(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.redis = client(self.url)
        self.do(self.redis.flushall())
        self.scripts = {
            name: ClockedScripts(self.redis, SlotOptions(provider=name, **OPTIONS)) for name in NAMES
        }
        self.ceilings = dict.fromkeys(NAMES, CEILING)
        self.known: dict[str, list[tuple[str, str]]] = {name: [] for name in NAMES}
        self.granted_shut_ms: dict[str, list[int]] = {name: [] for name in NAMES}
        self.count = 0

    def do(self, work: Awaitable[Any]) -> Any:
        return self.runner.run(result_of(work))

    def teardown(self) -> None:
        self.do(self.redis.aclose(close_connection_pool=True))
        self.runner.close()

    def view(self, name: str) -> SlotsView:
        return SlotsView.of(self.do(self.scripts[name].view()))

    def kept(self, name: str) -> list[Any]:
        """All that is known of a provider, as Redis has it."""
        return [self.do(self.redis.dump(key)) for key in keys_of(name)]

    def fences(self, name: str) -> dict[str, int]:
        """Of what holds a slot, by "org ticket"."""
        held = self.do(self.redis.zrange(redis_keys.slots("leases", name), 0, -1))
        pairs = [tuple(member.decode().split(" ")) for member in held]
        found = {}
        for org, ticket in pairs:
            again = self.do(self.ask(name, org, ticket, elsewhere=False))
            found[f"{org} {ticket}"] = again.fence
        return found

    def ask(self, name: str, org: str, ticket: str, *, elsewhere: bool) -> Awaitable[Any]:
        request = SlotRequest(org, ticket, 600, can_go_elsewhere=elsewhere)
        channel = redis_keys.slots_wake("model", name)
        return self.scripts[name].acquire(request, nonce=ticket, channel=channel, wait_ms=600_000, place=None)

    def checked(self, name: str, work: Awaitable[Any]) -> Any:
        """An operation at one provider: it gives out no more than may be, and the other one is as before."""
        (other,) = (each for each in NAMES if each != name)
        kept, before = self.kept(other), self.view(name)
        reply = self.do(work)
        after = self.view(name)
        assert self.kept(other) == kept
        assert after.used <= max(before.used, after.limit)
        if before.circuit != "closed" and after.used > before.used and after.circuit != "closed":
            shut = self.granted_shut_ms[name]
            now = self.scripts[name].now_ms
            assert after.used == before.used + 1
            assert not shut or now - shut[-1] >= PROBE_MS - 10
            shut.append(now)
        if after.circuit == "closed":
            self.granted_shut_ms[name].clear()
        return reply

    @rule(name=NAME, org=ORG, elsewhere=st.booleans())
    def arrive(self, name: str, org: str, elsewhere: bool) -> None:
        self.count += 1
        ticket, before = f"t{self.count}", self.view(name)
        got = self.checked(name, self.ask(name, org, ticket, elsewhere=elsewhere))
        if elsewhere and before.circuit != "closed":
            assert got.status in {"circuit", "granted"}
        if got.status in {"granted", "waiting"}:
            self.known[name].append((org, ticket))

    @precondition(lambda self: any(self.known.values()))
    @rule(pick=PICK, kind=OUTCOMES, asked_ms=st.sampled_from([None, None, None, 500, 4_000]))
    def end(self, pick: int, kind: OutcomeKind, asked_ms: int | None) -> None:
        name = [name for name in NAMES if self.known[name]][pick % 2 if all(self.known.values()) else 0]
        org, ticket = self.known[name].pop(pick % len(self.known[name]))
        fence = self.fences(name).get(f"{org} {ticket}")
        if fence is None:
            request = SlotRequest(org, ticket, 600)
            self.checked(name, self.scripts[name].cancel(request, nonce=ticket, place=None))
            return
        outcome = Outcome(kind, asked_ms if kind is OutcomeKind.RATE_LIMITED else None)
        self.checked(name, self.scripts[name].release(org, ticket, fence, outcome))

    @rule(ms=st.sampled_from([50, 600, 1_100, 5_100, 10_100]))
    def time_passes(self, ms: int) -> None:
        now_ms = max(scripts.now_ms for scripts in self.scripts.values()) + ms
        for name, scripts in self.scripts.items():
            scripts.now_ms = now_ms
            self.checked(name, scripts.renew([], []))

    @rule(name=NAME, limit=st.sampled_from([None, 1, 2, 9]))
    def operator_sets(self, name: str, limit: int | None) -> None:
        self.ceilings[name] = limit or CEILING
        self.checked(name, self.scripts[name].limit(None, limit))

    @rule()
    def redis_is_lost(self) -> None:
        self.do(self.redis.flushall())
        for name in NAMES:
            self.known[name].clear()
            self.granted_shut_ms[name].clear()
            self.ceilings[name] = CEILING

    @invariant()
    def limits_are_within_their_bounds(self) -> None:
        for name in NAMES:
            now = self.view(name)
            assert now.ceiling == self.ceilings[name]
            assert 1 <= now.limit <= now.ceiling
            assert all(org.held <= CAP for org in now.orgs)
            assert (now.limit_reason in {"refused", "latency"}) == (now.limit < now.ceiling)


def explore(url: str, *, examples: int, steps: int) -> None:
    machine = type("Machine", (ProvidersMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_histories_keep_both_providers_apart_and_within_their_limits(redis_url: str) -> None:
    explore(redis_url, examples=12, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_random_histories_keep_both_providers_apart(redis_url: str) -> None:
    explore(redis_url, examples=200, steps=60)
