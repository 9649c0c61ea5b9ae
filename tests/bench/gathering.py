"""What gathering saves and what it costs: bursts of six bubbles, and questions that stand by themselves.

The functions as they are served, behind the local queue. A burst's bubbles come 0.2 to 0.6 s apart, and only
the last asks; the baseline is the same clinic without gathering.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.adapters.file_secrets import FileSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.clinic import Clinic, secret_name
from core.local.openai_api import Call, Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator
from core.local.stack import LocalStack, StackOptions
from core.ports.documents import Create, Key, Where
from core.usecases.clinics.documents import channel_document, org_document
from tests.bench.table import Row

BURST = ("สวัสดีค่ะ", "พอดีว่า", "ปวดฟันมาก", "ซี่ในสุด", "อยากอุดฟันค่ะ", "ราคาเท่าไหร่คะ")
AT_ONCE = 10  # bursts that are under way at the same time
APART_S = (0.2, 0.6)
ONE_CALL, LATER_MS, COST = 0.9, 50.0, 1.3
ENVIRONMENT = {"ORG_MESSAGES_PER_MINUTE": "60000", "CHAT_MAX_CONCURRENT_PER_ORG": "15", "SLOT_LEASE_S": "2"}


@dataclass(frozen=True, slots=True)
class Bursts:
    """Calls of each burst, and what one cost on average, in micro-baht."""

    calls: Sequence[int]
    cost: float


class Bench:
    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.sim = LineSimulator(stack.line, stack.webhook_url)
        self.dice = random.Random(7)

    async def clinic(self, org_id: str, gather_s: float) -> LineClinic:
        clinic = self.sim.clinic(org_id)
        channel = clinic.channel
        secrets = FileSecrets(self.stack.settings_env["SECRET_STORE"].removeprefix("file:"))
        secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
        await secrets.put(secret_name(org_id), secret)
        known = Clinic(
            org_id, org_id, channel.bot_user_id, channel.channel_id, persona="… " * 600, gather_s=gather_s
        )
        documents = self.documents()
        await documents.commit(
            [
                Create(Key("orgs", org_id), org_document(known)),
                Create(Key("line_channels", channel.bot_user_id), channel_document(org_id)),
            ]
        )
        await documents.close()
        return clinic

    async def bursts(self, clinic: LineClinic, count: int, words: Sequence[str]) -> Bursts:
        """By as many customers, some at a time."""
        room = asyncio.Semaphore(AT_ONCE)

        async def burst(n: int) -> None:
            async with room:
                user = self.sim.user(clinic, str(n))
                sent = []
                for i, text in enumerate(words):
                    if i:
                        await asyncio.sleep(self.dice.uniform(*APART_S))
                    sent.append(await self.sim.say(clinic, user, text))
                await self.sim.wait_answered([s.event_id for s in sent], 30)

        await asyncio.gather(*(burst(n) for n in range(count)))
        await self.stack.tasks.drained(30)
        turns = await self.turns(clinic)
        assert sum(turn["attempts"] for turn in turns) == len(self.calls(clinic))
        calls = Counter(turn["chat_id"] for turn in turns)
        paid = sum(turn["cost_micro_baht"] for turn in turns)
        return Bursts([calls[self.sim.user(clinic, str(n))] for n in range(count)], paid / count)

    async def turns(self, clinic: LineClinic) -> list[Mapping[str, Any]]:
        documents = self.documents()
        found = await documents.query("turns", [Where("org_id", "==", clinic.org_id)])
        await documents.close()
        return [document.data for document in found]

    def documents(self) -> SqliteDocuments:
        return SqliteDocuments(self.stack.documents_url.removeprefix("sqlite:"))

    async def began_ms(self, clinic: LineClinic) -> float:
        """From a new customer's question to its call."""
        before = len(self.calls(clinic))
        asked = time.time()
        sent = await self.sim.say(clinic, self.sim.user(clinic, str(before)), BURST[-1])
        assert await self.sim.wait_answered([sent.event_id], 30) == []
        return self.calls(clinic)[before].started_ms - asked * 1000

    def calls(self, clinic: LineClinic) -> list[Call]:
        return [call for call in self.stack.openai.calls if call.clinic == clinic.org_id]


async def rows(bursts: int = 100, questions: int = 100) -> list[Row]:
    options = StackOptions(turns=1, latency=Latency(0.3, 0.2), environment=ENVIRONMENT)
    async with LocalStack(options) as stack:
        bench = Bench(stack)
        gathering, plain = await bench.clinic("gathering", 1.0), await bench.clinic("plain", 0.0)
        asked, asked_plain = await bench.clinic("asked", 1.0), await bench.clinic("asked-plain", 0.0)
        single = await bench.clinic("single", 1.0)
        try:
            for _ in range(5):  # connections, caches
                await bench.began_ms(asked_plain)
                await bench.began_ms(asked)
            took = [
                (await bench.began_ms(asked_plain), await bench.began_ms(asked)) for _ in range(questions)
            ]
            one = await bench.bursts(single, bursts, BURST[-1:])
            gathered = await bench.bursts(gathering, bursts, BURST)
            scattered = await bench.bursts(plain, bursts, BURST)
        finally:
            await bench.sim.close()
    without, with_ = (statistics.median(values) for values in zip(*took, strict=True))
    share = sum(calls == 1 for calls in gathered.calls) / bursts
    ratio = gathered.cost / one.cost
    return [
        Row(
            "question to call, with gathering and without, p50",
            f"{with_:.1f} and {without:.1f} ms",
            f"≤ {LATER_MS:g} ms later",
            "",
            with_ - without <= LATER_MS,
        ),
        Row(
            "bursts of six bubbles that cost one call",
            f"{share:.0%} of {bursts}",
            f"≥ {ONE_CALL:.0%}",
            f"without gathering {statistics.mean(scattered.calls):.1f} calls",
            share >= ONE_CALL,
        ),
        Row(
            "cost of a burst ÷ of one question",
            f"{ratio:.2f}",
            f"≤ {COST:g}",
            f"without gathering {scattered.cost / one.cost:.1f}",
            ratio <= COST,
        ),
    ]
