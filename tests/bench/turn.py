"""What fairlane adds to a turn besides the model's call, by part, with each part's round trips.

    python -m tests.bench.turn [TURNS]

One process, warm, turns one after another, each of a new conversation; Redis, the document store, the queue,
LINE's and the model's stand-ins over loopback sockets. `own code` is the rest, and includes the stand-ins'
work, since they share the process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

from core.adapters.file_secrets import FileSecrets
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.openai_llm import OpenAiLlm
from core.bootstrap import shared
from core.bootstrap import turn as bootstrap
from core.domain.clinic import Clinic, secret_name
from core.domain.clinic_document import channel_document, org_document
from core.domain.event import InboundEvent
from core.domain.settings import Settings, required_by
from core.domain.task import TurnTask
from core.local.openai_api import Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator
from core.local.stack import LocalStack, StackOptions
from core.ports.documents import Create, Key

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

    async def turn(self, number: int) -> dict[str, float]:
        """Milliseconds of one turn, by part."""
        task = TurnTask(_event(self.sim, self.clinic, number), trace="bench")
        self.meter.reset()
        began = time.perf_counter()
        await self.run(task)
        whole = (time.perf_counter() - began) * 1000
        parts = {part: self.meter.ms[part] for part in PARTS}
        return {**parts, "own code": whole - sum(parts.values()), "added": whole - parts["model"]}


def _event(sim: LineSimulator, clinic: LineClinic, number: int) -> InboundEvent:
    sent = sim.message(clinic, sim.user(clinic, str(number)), "text", text=f"ขูดหินปูนราคาเท่าไหร่คะ {number}")
    return InboundEvent(
        org_id="bench",
        event_id=sent.event_id,
        kind="text",
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
        return bootstrap.build(settings), clients


async def measure(turns: int, *, firestore: bool) -> None:
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
    report("Firestore emulator" if firestore else "SQLite", measured, first, bench.meter.calls)


def report(
    store: str, turns: Sequence[Mapping[str, float]], first: Mapping[str, float], trips: Counter[str]
) -> None:
    print(f"time added to a turn besides the model's call, {store}, {len(turns)} turns (ms)")
    print(f"  {'':20}{'p50':>8}{'p95':>8}  round trips")
    for part in (*PARTS[1:], "own code", "added"):
        values = sorted(turn[part] for turn in turns)
        p50, p95 = statistics.median(values), values[int(len(values) * 0.95)]
        target = f"  (target {TRIPS[part]})" if part in TRIPS else ""
        note = f"target p50 <= {TARGET_MS:g} ms" if part == "added" else f"{trips[part] or ''}{target}"
        print(f"  {part:20}{p50:8.1f}{p95:8.1f}  {note}")
    print(f"  the process's first turn added {first['added']:.0f} ms: connections, scripts, certificates\n")


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    asyncio.run(measure(turns, firestore=False))
    if shutil.which("gcloud") is None:
        print("no gcloud here, hence no Firestore emulator")
    else:
        asyncio.run(measure(turns, firestore=True))


if __name__ == "__main__":
    main()
