"""One local stack for many faults: a clinic for each, a folder that says what fails, and the reckoning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from core.adapters import redis_keys
from core.adapters.file_secrets import FileSecrets
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.sqlite_documents import SqliteDocuments
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic, secret_name
from core.local.openai_api import Call, Latency
from core.local.simulator import Clinic as LineClinic
from core.local.simulator import LineSimulator, Sent
from core.local.stack import Function, LocalStack, StackOptions
from core.local.task_store import StoredTask
from core.ports.documents import Create, Key, Where
from core.usecases.clinics.documents import budget_document, channel_document, org_document
from core.usecases.operate.statement import Statements
from tests.support.recount import charged_by_day, miscounted

LEASE_S = 1.2
SETTINGS = {
    "SLOT_LEASE_S": str(LEASE_S),
    "SLOT_WAIT_S": "5",
    "LLM_ATTEMPT_TIMEOUTS_S": "5,5,5",  # on a busy machine, too, the model is in time
    "LLM_DEADLINE_S": "15",
    "LLM_BACKOFF_S": "0.1",
    "LLM_JITTER_S": "0.05",
}
# All but which generation of its data Redis has: what a row leaves behind was not lost.
_FORGET = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  if not string.find(key, ':generation$') and key ~= ARGV[1] then
    redis.call('DEL', key)
  end
end
"""
ENTRY = Path(__file__).with_name("turn_with_faults") / "main.py"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fault has cost. `lost`: customers' messages that were neither answered nor stand in the journal
    as failed, for an operator. `twice`: messages answered more than once. `paid_twice`: good model answers
    beyond one a turn that are not charged as ambiguous. `books`: what does not add up. `counts`: where the
    clinic's counters differ from a recount."""

    lost: int
    twice: int
    paid_twice: int
    books: str
    calls: int
    ambiguous: int
    turns: Sequence[Mapping[str, Any]]
    counts: str = ""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.twice or self.paid_twice or self.books or self.counts)

    @property
    def hows(self) -> str:
        return ", ".join(str(turn["failure"] or turn["delivered_how"]) for turn in self.turns)


@dataclass(slots=True)
class Row:
    """One fault: its clinic, its customers' messages (each names the row), when it began."""

    name: str
    clinic: LineClinic
    began: float = field(default_factory=time.monotonic)
    sent: list[Sent] = field(default_factory=list)


class FaultScene:
    def __init__(self, stack: LocalStack, faults: Path) -> None:
        self.stack = stack
        self.faults = faults
        self.sim = LineSimulator(stack.line, stack.webhook_url)
        self.documents = SqliteDocuments(stack.documents_url.removeprefix("sqlite:"))
        self._secrets = FileSecrets(stack.settings_env["SECRET_STORE"].removeprefix("file:"))
        self._rows = 0
        self._reviver: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self.revive = True

    # What goes wrong

    def kill_at(self, point: str) -> None:
        (self.faults / f"kill-{point}").touch()

    @asynccontextmanager
    async def paused_at(self, point: str) -> AsyncIterator[None]:
        """The body runs while a turn stands at `point`."""
        (self.faults / f"pause-{point}").touch()
        paused = self.faults / f"paused-{point}"
        async with asyncio.timeout(10):
            while not paused.exists():  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.01)
        try:
            yield
        finally:
            paused.unlink()

    @asynccontextmanager
    async def paused_at_next(self, point: str, does: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
        """The body runs while what `does` begins stands at `point`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_awaited(does()))
            async with self.paused_at(point):
                yield

    def was_killed_at(self, point: str) -> bool:
        return (self.faults / f"killed-{point}").exists()

    @asynccontextmanager
    async def saying(self, row: Row, point: str) -> AsyncIterator[None]:
        """A message is sent; the body runs while its turn stands at `point`. Then the queue sends the task
        once more, to the other instance, before the turn goes on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.say(row))
            async with self.paused_at(point):
                yield
                for task in list(self.stack.tasks.queue().store.tasks.values()):
                    self.stack.tasks.queue().duplicate(task)
                await asyncio.sleep(0.4)

    def documents_down(self, down: bool) -> None:
        marker = self.faults / "documents-down"
        marker.touch() if down else marker.unlink()

    # A row

    async def row(self, name: str) -> Row:
        """A new clinic, nothing of earlier rows in Redis, no fault left over."""
        for marker in self.faults.iterdir():
            marker.unlink()
        self.stack.openai.faults.clear()
        self.stack.line.faults.clear()
        self.stack.tasks.on_dispatch = None
        await self._all_up()
        await self.stack.redis.command("EVAL", _FORGET, "0", redis_keys.slots("state"))
        slots = Redis.from_url(self.stack.redis.url)
        await RedisSlotsOperator(slots).close_circuit()
        await slots.aclose()
        return Row(name, await self.clinic())

    async def clinic(self, **settings: Any) -> LineClinic:
        self._rows += 1
        shown = self.sim.clinic(f"clinic-{self._rows}", name=f"Clinic {self._rows}")
        channel = shown.channel
        clinic = Clinic(
            shown.org_id, shown.name, channel.bot_user_id, channel.channel_id, persona="…", **settings
        )
        secret = {"channel_id": channel.channel_id, "channel_secret": channel.channel_secret}
        await self._secrets.put(secret_name(clinic.org_id), secret)
        await self.documents.commit(
            [
                Create(Key("orgs", clinic.org_id), org_document(clinic)),
                Create(Key("org_ai_budgets", clinic.org_id), budget_document(clinic.budget)),
                Create(Key("line_channels", channel.bot_user_id), channel_document(clinic.org_id)),
            ]
        )
        return shown

    def message(
        self,
        row: Row,
        user: str = "a",
        text: str = "",
        *,
        clinic: LineClinic | None = None,
        user_id: str | None = None,
        token: bool = True,
    ) -> Sent:
        """Not delivered yet. `token` False: an event that can't be replied to."""
        clinic = clinic or row.clinic
        words = f"{row.name} {len(row.sent)} {text}".strip()
        sent = self.sim.message(clinic, user_id or self.sim.user(clinic, user), "text", text=words)
        if not token:
            sent.event = {name: value for name, value in sent.event.items() if name != "replyToken"}
        row.sent.append(sent)
        return sent

    async def say(self, row: Row, user: str = "a", text: str = "") -> Sent:
        sent = await self.sim.send(self.message(row, user, text))
        assert sent.acked, sent.acks
        return sent

    def calls(self, row: Row) -> list[Call]:
        return [call for call in self.stack.openai.calls if f"{row.name} " in call.last_words]

    async def put_back(self, row: Row) -> StoredTask:
        """The successor of the last message's task, once it waits for its time."""
        event_id = row.sent[-1].event_id.encode()
        async with asyncio.timeout(5):
            while True:
                for task in self.stack.tasks.queue().store.tasks.values():
                    if event_id in task.body and b'"hop":0' not in task.body:
                        return task
                await asyncio.sleep(0.02)

    async def verdict(self, row: Row, timeout_s: float = 12.0) -> Verdict:
        """Once the queue is empty: each message has its task until it is dealt with."""
        with suppress(TimeoutError):
            await self.stack.tasks.drained(timeout_s)
        answers = {sent.event_id: len(self.sim.answers(sent.event_id)) for sent in row.sent}
        clinics = {sent.clinic.org_id for sent in row.sent}
        turns = [turn for org_id in sorted(clinics) for turn in await self.turns(org_id)]
        failed = {event["id"] for turn in turns if turn["state"] == "failed" for event in turn["events"]}
        ambiguous = sum(turn["ambiguous_attempts"] for turn in turns)
        paid = sum(call.outcome == "answered" for call in self.calls(row))
        return Verdict(
            lost=sum(not count and event_id not in failed for event_id, count in answers.items()),
            twice=sum(count > 1 for count in answers.values()),
            paid_twice=max(0, paid - len(turns) - ambiguous),
            books="; ".join([problem for org_id in clinics if (problem := await self._books(org_id))]),
            calls=len(self.calls(row)),
            ambiguous=ambiguous,
            turns=turns,
            counts="; ".join([found for org in clinics if (found := await miscounted(self.documents, org))]),
        )

    async def turns(self, org_id: str) -> list[Mapping[str, Any]]:
        found = await self.documents.query("turns", [Where("org_id", "==", org_id)], order_by="created_at")
        return [document.data for document in found]

    async def _books(self, org_id: str) -> str:
        """What does not close: `spent` is the sum of the turns' costs, and of the day's charges; nothing is
        held."""
        days = await self.documents.query("org_ai_spend", [Where("org_id", "==", org_id)])
        spent = sum(day.data.get("spent", 0) for day in days)
        cost = sum(turn["cost_micro_baht"] for turn in await self.turns(org_id))
        held = sum(day.data.get("held", 0) for day in days)
        holds = [hold for day in days for hold in day.data.get("holds", {})]
        open_turns = [
            t["state"]
            for t in await self.turns(org_id)
            if t["state"] not in {"delivered", "failed", "ignored"}
        ]
        charged = await charged_by_day(self.documents, org_id)
        days_spent = {day.data["day"]: day.data["spent"] for day in days if day.data.get("spent")}
        stated = await self._stated(org_id, days_spent)
        closed = (
            spent == cost == stated and charged == days_spent and not held and not holds and not open_turns
        )
        return "" if closed else f"{spent=} {cost=} {stated=} {charged=} {held=} {holds=} {open_turns=}"

    async def _stated(self, org_id: str, days: Mapping[str, int]) -> int | None:
        """What the statements of these days' months sum up to; None if one does not close."""
        read = Statements(self.documents, SystemClock(), "Asia/Bangkok")
        months = sorted({f"{day[:4]}-{day[4:6]}" for day in days})
        found = [await read(org_id, month) for month in months]
        lines = sum(each.line.micro_baht for statement in found for each in statement.lines)
        return lines if all(statement.closes for statement in found) else None

    # Instances

    async def _all_up(self) -> None:
        async with asyncio.timeout(20):
            while self._starting.locked() or not all(t.running for t in self.stack.turns):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def restart(self, i: int, **environment: str) -> None:
        async with self._starting:
            await self.stack.restart_turn(i, environment=environment)

    async def __aenter__(self) -> FaultScene:
        self._reviver = asyncio.create_task(self._revive())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reviver:
            self._reviver.cancel()
        await self.sim.close()
        await self.documents.close()

    async def _revive(self) -> None:
        """As the platform does: an instance that died is replaced."""
        while True:
            for i, turn in enumerate(self.stack.turns):
                if self.revive and not turn.running and not self._starting.locked():
                    await self.restart(i)
            await asyncio.sleep(0.05)


async def _awaited(doing: Awaitable[Any]) -> None:
    await doing


@asynccontextmanager
async def fault_scene(folder: Path, *, turns: int = 2, **settings: str) -> AsyncIterator[FaultScene]:
    faults = folder / "faults"
    faults.mkdir()
    options = StackOptions(
        turns=turns,
        run_dir=folder / "run",
        latency=Latency(median_s=0.25, sigma=0.05),
        turn_function=Function("turn", str(ENTRY)),
        environment={**SETTINGS, "FAULTS": str(faults), **settings},
    )
    async with LocalStack(options) as stack, FaultScene(stack, faults) as scene:
        yield scene
