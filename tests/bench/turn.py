"""What fairlane adds to a turn besides the model's call, by part, with each part's round trips.

One process, warm, turns one after another, each of a new conversation; Redis, the document store, the queue,
LINE's and the model's stand-ins over loopback sockets. `own code` is the rest, and includes the stand-ins'
work, since they share the process.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

from core.adapters.file_secrets import FileSecrets
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.openai_llm import OpenAiLlm
from core.bootstrap import shared
from core.bootstrap import turn as bootstrap
from core.domain.clinic import Clinic, secret_name
from core.domain.event import EventKind, InboundEvent
from core.domain.settings import Settings, required_by
from core.domain.task import TurnTask
from core.local.openai_api import Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator
from core.local.stack import LocalStack, StackOptions
from core.ports.documents import Create, Key
from core.usecases.clinics.documents import channel_document, org_document
from tests.bench.cold_emulator import warm
from tests.bench.table import Row

WARM_UP = 10
TARGET_MS = 25.0
TRIPS = {"redis": 4, "documents: commits": 3, "line": 1}
PARTS = ("model", "redis", "documents: reads", "documents: commits", "line")


class Meter:
    """Time and calls of each part; what runs at the same time counts for each."""

    def __init__(self) -> None:
        self.ms: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def reset(self) -> None:
        self.ms.clear()
        self.calls.clear()

    def over(self, part: str, target: Any, name: str) -> None:
        """Measure `target.name`, a coroutine function of an adapter or of its client."""
        original: Callable[..., Awaitable[Any]] = getattr(target, name)

        async def measured(*args: Any, **more: Any) -> Any:
            self.calls[part] += 1
            began = time.perf_counter()
            try:
                return await original(*args, **more)
            finally:
                self.ms[part] += (time.perf_counter() - began) * 1000

        setattr(target, name, measured)


@dataclass(frozen=True, slots=True)
class Turn:
    """Milliseconds and round trips by part."""

    ms: Mapping[str, float]
    trips: Mapping[str, int]


class Bench:
    def __init__(self, stack: LocalStack, meter: Meter) -> None:
        self.meter = meter
        self.settings = Settings.read(stack.settings_env, required_by("turn"))
        self.sim = LineSimulator(stack.line, "")
        self.clinic = self.sim.clinic("bench", name="Bench Clinic")

    async def open(self) -> None:
        channel = self.clinic.channel
        clinic = Clinic("bench", "Bench Clinic", channel.bot_user_id, channel.channel_id, persona="… " * 300)
        secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
        secrets = FileSecrets(self.settings.secret_store.removeprefix("file:"))
        await secrets.put(secret_name("bench"), secret)
        documents = shared.documents(self.settings)
        await warm(documents)
        await documents.commit(
            [
                Create(Key("orgs", "bench"), org_document(clinic)),
                Create(Key("line_channels", channel.bot_user_id), channel_document("bench")),
            ]
        )
        await documents.close()
        self.run, self.clients = _measured(self.settings, self.meter)

    async def close(self) -> None:
        for client in self.clients:
            await (client.aclose() if hasattr(client, "aclose") else client.close())
        await self.sim.close()

    async def turn(self, number: int) -> Turn:
        task = TurnTask(_event(self.sim, self.clinic, number), trace="bench")
        self.meter.reset()
        began = time.perf_counter()
        await self.run(task)
        whole = (time.perf_counter() - began) * 1000
        parts = {part: self.meter.ms[part] for part in PARTS}
        rest = {"own code": whole - sum(parts.values()), "added": whole - parts["model"]}
        return Turn({**parts, **rest}, Counter(self.meter.calls))


def _event(sim: LineSimulator, clinic: LineClinic, number: int) -> InboundEvent:
    sent = sim.message(clinic, sim.user(clinic, str(number)), "text", text=f"ขูดหินปูนราคาเท่าไหร่คะ {number}")
    return InboundEvent(
        org_id="bench",
        event_id=sent.event_id,
        kind=EventKind.TEXT,
        chat_id=sent.chat_id,
        chat_type="user",
        user_id=sent.chat_id,
        timestamp_ms=sent.timestamp_ms,
        arrived_ms=time.time_ns() // 1_000_000,
        text=sent.text,
        message_id=str(sent.event["message"]["id"]),
        reply_token=sent.reply_token,
    )


def _measured(settings: Settings, meter: Meter) -> tuple[Callable[[TurnTask], Awaitable[None]], list[Any]]:
    """The turn's use case as it is deployed, with a meter at its clients; and these clients."""
    redis, documents = shared.redis(settings), shared.documents(settings)
    clients: list[Any] = [redis, documents]
    meter.over("redis", redis, "execute_command")
    meter.over("documents: reads", documents, "get_many")
    meter.over("documents: reads", documents, "query")
    meter.over("documents: commits", documents, "commit")

    class Line(LineMessagingApi):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            meter.over("line", self, "reply")
            clients.append(self)

    class Llm(OpenAiLlm):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            meter.over("model", self, "complete")
            clients.append(self)

    parts: dict[tuple[Any, str], Any] = {
        (shared, "redis"): lambda _: redis,
        (shared, "documents"): lambda _: documents,
        (bootstrap, "LineMessagingApi"): Line,
        (bootstrap, "OpenAiLlm"): Llm,
    }
    with ExitStack() as exit_:
        for (module, name), part in parts.items():
            exit_.enter_context(mock.patch.object(module, name, part))
        return bootstrap.build(settings).turns, clients


async def measure(turns: int, *, firestore: bool) -> list[Row]:
    options = StackOptions(turns=0, webhooks=0, firestore=firestore, latency=Latency(0.02, 0.0))
    async with LocalStack(options) as stack:
        if firestore:
            os.environ["FIRESTORE_EMULATOR_HOST"] = stack.settings_env["FIRESTORE_EMULATOR_HOST"]
        bench = Bench(stack, Meter())
        await bench.open()
        try:
            first = await bench.turn(0)
            for number in range(1, WARM_UP):
                await bench.turn(number)
            measured = [await bench.turn(WARM_UP + number) for number in range(turns)]
        finally:
            await bench.close()
        assert len(stack.line.deliveries) == WARM_UP + turns, "a turn was not answered"
    return list(report("Firestore emulator" if firestore else "SQLite", measured, first))


def report(store: str, turns: Sequence[Turn], first: Turn) -> Iterator[Row]:
    """The target of the added time is the local stack's, which has SQLite; Google's emulator is slower than
    Firestore is meant to be, and has none."""
    local = store == "SQLite"
    for part in ("added", *PARTS[1:], "own code"):
        values = sorted(turn.ms[part] for turn in turns)
        p50, p95 = statistics.median(values), values[int(len(values) * 0.95)]
        times = f"{p50:.1f} ms (p95 {p95:.1f})"
        made = statistics.median_low(turn.trips[part] for turn in turns)
        if part == "added":
            target = f"p50 ≤ {TARGET_MS:g} ms" if local else ""
            ok = p50 <= TARGET_MS if local else None
            cold = f"first turn {first.ms['added']:.0f} ms"
            yield Row(f"time added to a turn besides the model's call, {store}", times, target, cold, ok)
        elif part in TRIPS:
            target = f"≤ {TRIPS[part]} ×"
            yield Row(f"  {part}, {store}", f"{made} × in {times}", target, "", made <= TRIPS[part])
        else:
            yield Row(f"  {part}, {store}", f"{made} × in {times}" if made else times, "")


async def rows(turns: int = 100) -> list[Row]:
    found = await measure(turns, firestore=False)
    if shutil.which("gcloud") is None:
        return [*found, Row("the same, Firestore emulator", "not measured: no gcloud here", "")]
    return found + await measure(turns, firestore=True)
