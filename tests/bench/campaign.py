"""A campaign of one clinic through the queue as deployed: dispatches a message, and what others feel of it.

    python -m tests.bench.campaign [--messages 1000] [--over 100] [--speed 4]

`speed` divides all times; counts stay as deployed (slots, the queue's room, ORG_ROOM). What the
stand-ins for the queue, LINE and OpenAI saw is the judge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.domain.clinic import BudgetPolicy, Clinic, Limits
from core.domain.settings import Settings
from core.local.cloud_tasks import Attempt, QueueConfig
from core.local.openai_api import Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator, Sent
from core.local.stack import LocalStack, StackOptions
from core.ports.line import ChannelCredentials
from core.usecases.clinics.documents import budget_document
from core.usecases.operate.apply_clinics import ApplyClinics
from core.usecases.operate.clinic_changes import Wanted, WantedClinic
from tests.bench.table import Row

DISPATCHES_PER_S, ROOM, SLOTS, CAP = 17, 165, 15, 5
SMALL = 10
"""Clinics beside the campaign's; each gets a message in 10 s."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """`over_s`: in which its messages come. `quiet_s`: before it, to compare. `forward`: the queue can run a
    task before its time."""

    messages: int = 1000
    over_s: float = 100.0
    quiet_s: float = 60.0
    speed: float = 4.0
    instances: int = 2
    campaigns: int = 1
    forward: bool = True

    def options(self) -> StackOptions:
        speed = self.speed
        environment = {
            "CHAT_MAX_CONCURRENT": SLOTS,
            "CHAT_MAX_CONCURRENT_PER_ORG": CAP,
            "LLM_REQUESTS_PER_MINUTE": round(500 * speed),
            "PATIENCE_S": 120 / speed,
            "SLOT_WAIT_S": 20 / speed,
            "SLOT_LEASE_S": max(4.0, 10 / speed),
            "LLM_ATTEMPT_TIMEOUTS_S": ",".join([f"{max(3.0, 10 / speed):g}"] * 3),
            "LOG_LEVEL": "WARNING",
        }
        return StackOptions(
            turns=self.instances,
            environment={name: str(value) for name, value in environment.items()},
            latency=Latency(4.0, 0.1, 1 / speed),
            queue=QueueConfig(max_dispatches_per_s=DISPATCHES_PER_S * speed, max_concurrent=ROOM),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds are the simulated ones. `busy`: of the slots that the clinic's cap allows, while its messages
    waited; `late`: how long after their patience customers were told so, at most."""

    dispatches: float
    quiet_p95_s: float
    p95_s: float
    busy: float
    answered: int
    told: int
    unanswered: int
    late_s: float
    overdue: int


async def run(campaign: Campaign) -> Seen:
    async with LocalStack(campaign.options()) as stack:
        world = _World(stack, campaign)
        await world.register()
        try:
            return await world.play()
        finally:
            await world.simulator.close()


class _World:
    def __init__(self, stack: LocalStack, campaign: Campaign) -> None:
        self.stack, self.campaign = stack, campaign
        self.simulator = LineSimulator(stack.line, stack.webhook_url)
        self.dispatches: Counter[str] = Counter()
        self.dice = random.Random(0)
        self.overdue = 0
        stack.tasks.on_dispatch = self._count
        if not campaign.forward:
            stack.tasks.queue().force = lambda task: None  # type: ignore[method-assign]

    def _count(self, attempt: Attempt) -> None:
        self.dispatches[json.loads(attempt.body)["event"]["org_id"]] += 1

    async def register(self) -> None:
        settings = Settings.read(self.stack.settings_env, ())
        documents, secrets = shared.documents(settings), shared.secrets(settings)
        self.big = [self.simulator.clinic(f"big-{i}") for i in range(self.campaign.campaigns)]
        self.small = [self.simulator.clinic(f"small-{i}") for i in range(SMALL)]
        wanted = []
        for line in (*self.big, *self.small):
            channel = line.channel
            clinic = Clinic(line.org_id, line.name, channel.bot_user_id, channel.channel_id, persona="…")
            clinic = replace(clinic, limits=Limits(messages_per_minute=60_000))
            wanted.append(
                WantedClinic(clinic, ChannelCredentials(channel.channel_id, channel.channel_secret))
            )
        budget = budget_document(BudgetPolicy(daily_budget_baht=Decimal(1000)))
        apply = ApplyClinics(documents, secrets, SystemClock(), "bench")
        await apply.apply(await apply.plan(Wanted(tuple(wanted), budget=budget)))
        await documents.close()

    async def play(self) -> Seen:
        await self._everyday(10, "w")
        quiet = await self._everyday(self.campaign.quiet_s, "q")
        await self._settle(quiet)
        watching = asyncio.create_task(self._watch())
        everyday = asyncio.create_task(self._everyday(self.campaign.over_s + 120, "c"))
        began = time.time_ns() // 1_000_000
        rushes = await asyncio.gather(*map(self._rush, self.big))
        rush = [sent for one in rushes for sent in one]
        beside = await everyday
        await self._settle([*beside, *rush])
        watching.cancel()
        return self._seen(quiet, beside, rush, began)

    async def _everyday(self, for_s: float, tag: str) -> list[Sent]:
        sent: list[Sent] = []
        sending = []
        until = time.monotonic() + for_s / self.campaign.speed
        while time.monotonic() < until:
            await asyncio.sleep(self.dice.expovariate(SMALL / 10 * self.campaign.speed))
            clinic = self.dice.choice(self.small)
            one, task = self._say(clinic, f"{tag}{len(sent)}")
            sent.append(one)
            sending.append(task)
        await asyncio.gather(*sending)
        return sent

    async def _rush(self, clinic: LineClinic) -> list[Sent]:
        number, over_s = self.campaign.messages, self.campaign.over_s / self.campaign.speed
        began, sent, sending = time.monotonic(), [], []
        for i in range(number):
            await asyncio.sleep(max(0.0, began + i * over_s / number - time.monotonic()))
            one, task = self._say(clinic, f"r{i}")
            sent.append(one)
            sending.append(task)
        await asyncio.gather(*sending)
        return sent

    def _say(self, clinic: LineClinic, tag: str) -> tuple[Sent, asyncio.Task[bool]]:
        user = self.simulator.user(clinic, tag)
        sent = self.simulator.message(clinic, user, "text", text=f"ขูดหินปูนราคาเท่าไหร่คะ ({tag})")
        return sent, asyncio.create_task(self.simulator.send_until_acked(sent))

    async def _settle(self, sent: list[Sent]) -> None:
        await self.simulator.wait_answered([one.event_id for one in sent], 400 / self.campaign.speed)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self.overdue = max(self.overdue, self.stack.tasks.stats().waiting)

    def _seen(self, quiet: list[Sent], beside: list[Sent], rush: list[Sent], began_ms: int) -> Seen:
        speed = self.campaign.speed
        big = {clinic.org_id for clinic in self.big}
        dispatched = sum(self.dispatches[org] for org in big)
        calls = [call for call in self.stack.openai.calls if "(r" in call.last_words]
        answered, told, late = 0, 0, 0.0
        for one in rush:
            answers = self.simulator.answers(one.event_id)
            if not answers:
                continue
            waited_s = (answers[0].at_ms - one.sent_ms) / 1000 * speed
            if one.text[-8:] in "\n".join(answers[0].texts):
                answered += 1
            else:
                told += 1
                late = max(late, waited_s - 120)
        # While messages waited: until the last call began.
        ended_ms = max(call.started_ms for call in calls)
        busy_ms = sum(min(call.ended_ms or ended_ms, ended_ms) - call.started_ms for call in calls)
        slots = min(SLOTS, CAP * len(self.big))
        return Seen(
            dispatches=dispatched / len(rush),
            quiet_p95_s=_p95(self._latencies(quiet)),
            p95_s=_p95(self._latencies(beside)),
            busy=busy_ms / (slots * (ended_ms - began_ms)),
            answered=answered,
            told=told,
            unanswered=len(rush) - answered - told,
            late_s=late,
            overdue=self.overdue,
        )

    def _latencies(self, sent: list[Sent]) -> list[float]:
        found = []
        for one in sent:
            answers = self.simulator.answers(one.event_id)
            at_ms = answers[0].at_ms if answers else time.time_ns() // 1_000_000
            found.append((at_ms - one.sent_ms) / 1000 * self.campaign.speed)
        return found


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


async def rows() -> list[Row]:
    found = []
    for campaign in (Campaign(), Campaign(messages=400, over_s=8.0, quiet_s=40.0, speed=2.5)):
        seen = await run(campaign)
        name = f"{campaign.messages:,} messages of a clinic in {campaign.over_s:g} s"
        beside = seen.p95_s - seen.quiet_p95_s
        found += [
            Row(f"{name}: dispatches a message", f"{seen.dispatches:.2f}", "≤ 3", ok=seen.dispatches <= 3),
            Row(
                f"{name}: others' p95",
                f"{seen.p95_s:.1f} s",
                "≤ quiet + 1 s",
                f"{seen.quiet_p95_s:.1f} s",
                ok=beside <= 1,
            ),
            Row(f"{name}: slots busy", f"{seen.busy:.0%}", "≥ 90 %", ok=seen.busy >= 0.9),
            Row(f"{name}: told so late by", f"{seen.late_s:.0f} s", ""),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="One campaign, and what was seen of it.")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--over", type=float, default=100.0, help="seconds in which they come")
    parser.add_argument("--speed", type=float, default=4.0)
    parser.add_argument("--campaigns", type=int, default=1, help="clinics that have one at the same time")
    parser.add_argument("--planned-only", action="store_true", help="nothing is brought forward")
    asked = parser.parse_args()
    campaign = Campaign(
        asked.messages,
        asked.over,
        speed=asked.speed,
        campaigns=asked.campaigns,
        forward=not asked.planned_only,
    )
    print(campaign, asyncio.run(run(campaign)))


if __name__ == "__main__":
    main()
