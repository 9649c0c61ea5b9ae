from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.bootstrap import webhook as bootstrap
from core.domain.clinic import Clinic, Limits
from core.domain.errors import DocumentsUnavailableError, RedisUnavailableError, TasksUnavailableError
from core.domain.media import MediaSettings
from core.domain.settings import Settings, required_by
from core.domain.signature import sign
from core.domain.task import Task, TurnTask
from core.ports.line import ChannelCredentials
from core.ports.shaper import Arrival, Shaped
from core.ports.tasks import Scheduled
from core.usecases.webhook import refusals
from core.usecases.webhook.acknowledge import Ack, AckPolicy, AckWebhook, Outcome
from tests.support.clock import FakeClock

BOT, SECRET, TRACE = "U" + "b" * 32, "channel-secret", "f" * 32
CLINIC = Clinic("bkk-smile", "Bangkok Smile", BOT, "165")
REDIS_MS = 1_900_000_000_000


class Directory:
    def __init__(self, clinic: Clinic = CLINIC) -> None:
        self.clinic = clinic
        self.fault: Exception | None = None
        self.secret = self.stored_secret = SECRET
        self.hang_s = 0.0

    async def by_destination(self, bot_user_id: str) -> tuple[Clinic, ChannelCredentials] | None:
        await asyncio.sleep(self.hang_s)
        if self.fault:
            raise self.fault
        if bot_user_id != self.clinic.bot_user_id:
            return None
        return self.clinic, ChannelCredentials("165", self.secret)

    async def by_destination_anew(self, bot_user_id: str) -> tuple[Clinic, ChannelCredentials] | None:
        self.secret = self.stored_secret
        return await self.by_destination(bot_user_id)


class Shaper:
    def __init__(self) -> None:
        self.calls: list[list[Arrival]] = []
        self.delays_ms: list[int] | None = None
        self.down = False

    async def shape(self, arrivals: Sequence[Arrival]) -> Shaped:
        self.calls.append(list(arrivals))
        if self.down:
            raise RedisUnavailableError("down")
        return Shaped(self.delays_ms or [0] * len(arrivals), REDIS_MS)


class Tasks:
    """`fail`: how many attempts fail for an event id. `hang_s`: how long every attempt takes."""

    def __init__(self) -> None:
        self.created: dict[str, tuple[TurnTask, int]] = {}
        self.attempts: list[str] = []
        self.fail: dict[str, int] = {}
        self.hang_s = 0.0
        self.together = self.most_together = 0

    async def create(self, task: Task, *, delay_ms: int = 0, timeout_s: float = 5.0) -> bool:
        assert isinstance(task, TurnTask)
        task.encode()
        self.attempts.append(task.event.event_id)
        self.together += 1
        self.most_together = max(self.together, self.most_together)
        try:
            await asyncio.sleep(min(self.hang_s, timeout_s))
        finally:
            self.together -= 1
        if self.hang_s > timeout_s or self.fail.get(task.event.event_id, 0) > 0:
            self.fail[task.event.event_id] = self.fail.get(task.event.event_id, 0) - 1
            raise TasksUnavailableError("not confirmed")
        fresh = task.name not in self.created
        self.created.setdefault(task.name, (task, delay_ms))
        return fresh

    async def run(self, name: str, *, timeout_s: float = 5.0) -> bool:
        return name in self.created

    async def scheduled(self, *, timeout_s: float = 10.0) -> list[Scheduled]:
        return []

    async def close(self) -> None: ...

    def events(self) -> list[str]:
        return sorted(task.event.event_id for task, _ in self.created.values())


class Scene:
    def __init__(self, clinic: Clinic = CLINIC, policy: AckPolicy | None = None) -> None:
        self.directory, self.shaper, self.tasks = Directory(clinic), Shaper(), Tasks()
        self.webhook = AckWebhook(self.directory, self.shaper, self.tasks, SystemClock(), policy)

    async def post(self, raw: bytes, signature: str | None = "good") -> Ack:
        return await self.webhook(raw, sign(SECRET, raw) if signature == "good" else signature, TRACE)


def event(event_id: str, kind: str = "text", user: str = "U1", **changes: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "webhookEventId": event_id,
        "timestamp": 1_700_000_000_000,
        "mode": "active",
        "replyToken": f"token-{event_id}",
        "deliveryContext": {"isRedelivery": False},
        "source": {"type": "user", "userId": user},
        "message": {"type": kind, "id": f"m-{event_id}", "text": f"words of {event_id}"},
        **changes,
    }


def body(*events: Any, destination: Any = BOT) -> bytes:
    return json.dumps({"destination": destination, "events": list(events)}).encode()


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [{**vars(r)["fields"], "message": r.getMessage()} for r in caplog.records]


async def test_every_event_of_the_batch_is_enqueued_before_200() -> None:
    scene = Scene()
    ack = await scene.post(body(*(event(f"e{i}", user=f"U{i % 3}") for i in range(40))))
    assert ack.outcome is Outcome.ENQUEUED
    assert len(scene.tasks.created) == 40
    assert 1 < scene.tasks.most_together <= AckPolicy().in_flight
    task, _ = next(iter(scene.tasks.created.values()))
    assert (task.trace, task.event.org_id, task.hop) == (TRACE, "bkk-smile", 0)


async def test_a_webhook_delivered_twice_makes_one_task() -> None:
    scene = Scene()
    raw = body(event("e1"))
    again = body(event("e1", deliveryContext={"isRedelivery": True}))
    assert [(await scene.post(r)).outcome for r in (raw, raw, again)] == [Outcome.ENQUEUED] * 3
    assert scene.tasks.events() == ["e1"]


@pytest.mark.parametrize(
    ("raw", "signature", "outcome"),
    [
        (b"nonsense", "good", Outcome.NOT_A_WEBHOOK),
        (b"[]", "good", Outcome.NOT_A_WEBHOOK),
        (b'{"events":[]}', "good", Outcome.NOT_A_WEBHOOK),
        (json.dumps({"destination": BOT}).encode(), "good", Outcome.NOT_A_WEBHOOK),
        (json.dumps({"destination": BOT, "events": 5}).encode(), "good", Outcome.NOT_A_WEBHOOK),
        (body(event("e1")), None, Outcome.WRONG_SIGNATURE),
        (body(event("e1")), "", Outcome.WRONG_SIGNATURE),
        (body(event("e1")), "bm90IHRoZSBzaWduYXR1cmU=", Outcome.WRONG_SIGNATURE),
        (body(event("e1"), destination="U" + "0" * 32), "good", Outcome.UNKNOWN_DESTINATION),
        (body(event("e1"), destination="U" + "0" * 32), None, Outcome.UNKNOWN_DESTINATION),
        (body(event("e1"), destination="../x"), "good", Outcome.UNKNOWN_DESTINATION),
        (body(), "good", Outcome.ENQUEUED),
        (body(event("e1", mode="standby")), "good", Outcome.ENQUEUED),
        (body({"type": "teleport"}, None, 5), "good", Outcome.ENQUEUED),
    ],
)
async def test_what_is_refused_or_needs_no_answer_makes_no_task(
    raw: bytes, signature: str | None, outcome: Outcome
) -> None:
    scene = Scene()
    assert (await scene.post(raw, signature)).outcome is outcome
    assert not scene.tasks.attempts
    assert not scene.shaper.calls


async def test_a_signature_by_a_reissued_secret_is_good_at_once() -> None:
    scene = Scene()
    scene.directory.stored_secret = "reissued"
    raw = body(event("e1"))
    assert (await scene.post(raw, sign("reissued", raw))).outcome is Outcome.ENQUEUED
    assert (await scene.post(raw, sign(SECRET, raw))).outcome is Outcome.WRONG_SIGNATURE
    assert (await scene.post(raw, sign("another", raw))).outcome is Outcome.WRONG_SIGNATURE


async def test_delays_become_the_tasks_and_redis_clock_the_arrival() -> None:
    scene = Scene()
    scene.shaper.delays_ms = [0, 0, 2000]
    await scene.post(body(event("e1"), event("s1", "sticker"), event("e2")))
    created = {t.event.event_id: (delay, t.event.arrived_ms) for t, delay in scene.tasks.created.values()}
    assert created == {"e1": (0, REDIS_MS), "s1": (0, REDIS_MS), "e2": (2000, REDIS_MS)}


async def test_one_round_trip_announces_the_batch_and_counts_only_what_costs_a_turn() -> None:
    scene = Scene(replace(CLINIC, limits=Limits(messages_per_minute=90), media=MediaSettings(voice=False)))
    group = {"type": "group", "groupId": "C1"}
    mention = {"type": "text", "id": "9", "text": "x", "mention": {"mentionees": [{"isSelf": True}]}}
    await scene.post(
        body(
            event("e1"),
            event("e2", "video"),
            event("e5", "image"),
            event("e6", "audio"),
            {**event("e3"), "type": "follow"},
            event("e4", source=group, message=mention),
        )
    )
    [arrivals] = scene.shaper.calls
    assert [(a.event.event_id, a.org_per_minute) for a in arrivals] == [
        ("e1", 90),
        ("e2", 0),
        ("e5", 90),
        ("e6", 0),
        ("e3", 0),
        ("e4", 90),
    ]
    assert len(scene.tasks.created) == 6


@pytest.mark.parametrize(
    ("settings", "longest_s"),
    [({}, 100), ({"PATIENCE_S": "60"}, 40), ({"PATIENCE_S": "5"}, 0), ({"SLOT_WAIT_S": "90"}, 30)],
)
def test_a_delay_leaves_patience_for_a_slot(
    mocker: MockerFixture, settings: dict[str, str], longest_s: int
) -> None:
    for part in ("redis", "documents", "secrets", "tasks"):
        mocker.patch.object(shared, part)
    made = mocker.spy(bootstrap, "RedisShaper")
    environment = dict.fromkeys(required_by("webhook"), "x") | {
        "REDIS_URL": "redis://x",
        "TASKS_QUEUE": "projects/P/locations/L/queues/Q",
        "TURN_URL": "http://x",
        "TASKS_SERVICE_ACCOUNT": "x",
    }
    bootstrap.build(Settings.read({**environment, **settings}, required_by("webhook")))
    assert made.call_args.kwargs["longest_s"] == longest_s


async def test_without_redis_events_go_on_undelayed_by_the_local_clock() -> None:
    scene = Scene()
    scene.shaper.down = True
    assert (await scene.post(body(event("e1")))).outcome is Outcome.ENQUEUED
    [(task, delay)] = scene.tasks.created.values()
    assert delay == 0
    assert task.event.arrived_ms == pytest.approx(time.time() * 1000, abs=5000)


async def test_without_redis_too_what_looks_unfinished_waits_for_another() -> None:
    scene = Scene()
    scene.shaper.down = True
    question = {"type": "text", "id": "7", "text": "ราคาเท่าไหร่คะ"}
    await scene.post(body(event("s1", "sticker"), event("e1", message=question)))
    assert [(t.event.event_id, delay) for t, delay in scene.tasks.created.values()] == [
        ("s1", 1000),
        ("e1", 0),
    ]


async def test_an_attempt_that_fails_is_made_once_more() -> None:
    scene = Scene()
    scene.tasks.fail = {"e1": 1}
    assert (await scene.post(body(event("e1")))).outcome is Outcome.ENQUEUED
    assert scene.tasks.attempts == ["e1", "e1"]


async def test_a_slow_queue_has_all_the_time_that_line_leaves() -> None:
    scene = Scene()
    scene.tasks.hang_s = 0.9
    assert (await scene.post(body(event("e1")))).outcome is Outcome.ENQUEUED
    assert scene.tasks.attempts == ["e1", "e1"]


async def test_in_doubt_it_is_5xx_and_the_other_events_are_enqueued() -> None:
    scene = Scene()
    scene.tasks.fail = {"e2": 2}
    raw = body(event("e1"), event("e2"), event("e3"))
    assert (await scene.post(raw)).outcome is Outcome.IN_DOUBT
    assert scene.tasks.events() == ["e1", "e3"]
    assert (await scene.post(raw)).outcome is Outcome.ENQUEUED
    assert scene.tasks.events() == ["e1", "e2", "e3"]


async def test_a_directory_that_does_not_know_is_5xx() -> None:
    scene = Scene()
    scene.directory.fault = DocumentsUnavailableError("down")
    assert (await scene.post(body(event("e1")))).outcome is Outcome.IN_DOUBT


async def test_a_queue_that_hangs_never_costs_lines_two_seconds() -> None:
    scene = Scene()
    scene.tasks.hang_s = 60
    started = time.perf_counter()
    assert (await scene.post(body(*(event(f"e{i}") for i in range(100))))).outcome is Outcome.IN_DOUBT
    assert time.perf_counter() - started < 1.95


async def test_an_event_that_can_not_be_answered_leaves_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fairlane")
    scene = Scene()
    assert (await scene.post(body(event("e1", user="a/\ud800"), event("e2")))).outcome is Outcome.ENQUEUED
    assert scene.tasks.events() == ["e2"]
    skipped, acked = logged(caplog)
    assert (skipped["message"], skipped["reason"]) == ("webhook.skipped", "source_id")
    assert (skipped["org"], skipped["source"]) == ("bkk-smile", r"'a/\ud800'")
    assert (acked["events"], acked["enqueued"]) == (2, 1)


@pytest.mark.parametrize(
    ("hangs", "said"),
    [
        ("directory", {"stage": "clinic", "destination": BOT}),
        ("queue", {"stage": "enqueue", "destination": BOT, "org": "bkk-smile"}),
    ],
)
async def test_a_failure_says_where_it_happened_and_to_whom(
    caplog: pytest.LogCaptureFixture, hangs: str, said: dict[str, str]
) -> None:
    scene = Scene(policy=AckPolicy(ack_s=0.1))
    scene.directory.hang_s, scene.tasks.hang_s = (5, 0) if hangs == "directory" else (0, 5)
    assert (await scene.post(body(event("e1")))).outcome is Outcome.IN_DOUBT
    failure = logged(caplog)[-1]
    assert failure["message"] == "webhook.enqueue_failed"
    assert failure.items() >= said.items()
    assert failure["detail"]


async def test_an_attempt_that_is_made_again_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.tasks.fail = {"e1": 1}
    await scene.post(body(event("e1")))
    [retried] = logged(caplog)
    assert (retried["message"], retried["event_id"]) == ("webhook.enqueue_retried", "e1")


@pytest.mark.parametrize(("destination", "named"), [("U" + "0" * 32, "U" + "0" * 32), ("../x", None)])
async def test_a_destination_that_no_clinic_has_is_named_if_a_bot_can_have_it(
    caplog: pytest.LogCaptureFixture, destination: str, named: str | None
) -> None:
    await Scene().post(body(destination=destination))
    [refused] = logged(caplog)
    assert (refused["reason"], refused["destination"]) == (Outcome.UNKNOWN_DESTINATION, named)


@pytest.mark.parametrize("forged", [None, "é", "x" * 44, sign("another", b"")])
@pytest.mark.parametrize("bot", [BOT, "U" + "0" * 32])
async def test_a_megabyte_that_nobody_signed_is_not_parsed(forged: str | None, bot: str) -> None:
    scene, raw = Scene(), body(*([{"a": [[1, "x"]] * 10}] * 9_000), destination=bot)
    assert len(raw) > 900_000

    async def refused() -> float:
        began = time.perf_counter()
        assert (await scene.post(raw, forged)).outcome in {
            Outcome.WRONG_SIGNATURE,
            Outcome.UNKNOWN_DESTINATION,
        }
        return time.perf_counter() - began

    def parsed() -> float:
        began = time.perf_counter()
        json.loads(raw)
        return time.perf_counter() - began

    assert min([await refused() for _ in range(5)]) < min(parsed() for _ in range(5)) / 4


async def test_a_body_that_names_two_destinations_is_no_webhook() -> None:
    scene = Scene()
    raw = body(event("e1"))[:-1] + b', "destination": "U' + b"0" * 32 + b'"}'
    assert (await scene.post(raw)).outcome is Outcome.NOT_A_WEBHOOK
    assert not scene.tasks.attempts


async def test_a_destination_in_a_customers_words_is_not_taken_for_the_webhooks() -> None:
    scene = Scene()
    raw = json.dumps(
        {
            "events": [
                event(
                    "e1",
                    "text",
                    message={"type": "text", "id": "1", "text": f'"destination":"{"U" + "0" * 32}"'},
                )
            ],
            "destination": BOT,
        }
    ).encode()
    assert (await scene.post(raw)).outcome is Outcome.ENQUEUED
    assert scene.tasks.events() == ["e1"]


async def test_a_flood_of_refusals_is_logged_as_a_count_and_hides_no_clinics_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    scene = Scene()
    scene.webhook = AckWebhook(scene.directory, scene.shaper, scene.tasks, clock)
    for n in range(300):
        await scene.post(body(destination=f"U{n:032x}"), None)
    await scene.post(body(), sign("another", body()))
    lines = logged(caplog)
    assert [line["reason"] for line in lines] == [
        *[Outcome.UNKNOWN_DESTINATION] * refusals.MAX_LINES,
        Outcome.WRONG_SIGNATURE,
    ]
    assert lines[-1]["org"] == "bkk-smile"
    caplog.clear()
    await clock.sleep(refusals.WINDOW_S)
    await scene.post(body())
    [counted] = logged(caplog)
    assert (counted["message"], counted["org"]) == ("webhook.refused_more", None)
    assert counted["count"] == 300 - refusals.MAX_LINES


async def test_no_secret_token_or_word_of_a_customer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fairlane")
    scene = Scene()
    scene.tasks.fail = {"e2": 2}
    for raw, signature in (
        (body(event("e1")), "good"),
        (body(event("e2")), "good"),
        (body(event("e3")), "x"),
    ):
        await scene.post(raw, signature)
    fields = logged(caplog)
    assert [f["message"] for f in fields] == [
        "webhook.acked",
        "webhook.enqueue_retried",
        "webhook.enqueue_failed",
        "webhook.refused",
    ]
    assert {f["trace"] for f in fields} == {TRACE}
    for canary in ("words of", "token-", SECRET, sign(SECRET, body(event("e1")))):
        assert canary not in str(fields)


STRANGE: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        10**30,
        2**63,
        1e308,
        float("nan"),
        "",
        "x",
        "é" * 300,
        "\ud800",
        "\x00",
    ),
    *([], {}, [[]], {"type": "x"}, [None], "standby", "__all__", "a/b", {"$ne": 1}),
]


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy with one thing changed, dropped, added or doubled, somewhere inside."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        roll = chance.random()
        if roll < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if roll < 0.2:
            return {**value, chance.choice(["new", "isSelf", "mention", "type"]): chance.choice(STRANGE)}
        return {**value, key: mutated(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return [*value[:at], mutated(value[at], chance), *value[at + chance.randrange(2) :]]
    return chance.choice(STRANGE)


async def bombard(count: int, seed: int) -> None:
    chance, scene = random.Random(seed), Scene()
    kinds = ("text", "sticker", "image", "location", "text")
    for n in range(count):
        good = [event(f"good-{n}-{i}") for i in range(chance.randrange(3))]
        strange = [
            mutated(event(f"odd-{n}-{i}", chance.choice(kinds)), chance) for i in range(chance.randrange(3))
        ]
        events = chance.sample([*good, *strange], len(good) + len(strange))
        whole: Any = {"destination": BOT, "events": events}
        whole_mutated = chance.random() < 0.3
        raw = json.dumps(mutated(whole, chance) if whole_mutated else whole).encode()
        if bytes_mutated := chance.random() < 0.2:
            at = chance.randrange(len(raw))
            raw = raw[:at] + chance.randbytes(chance.randrange(1, 4)) + raw[at + chance.randrange(3) :]
        signed = chance.random() < 0.6
        forged = chance.choice([None, "", sign("another", raw), sign(SECRET, raw + b" "), "é", "\udcff" * 44])
        ack = await scene.post(raw, "good" if signed else forged)
        refused = {Outcome.NOT_A_WEBHOOK, Outcome.UNKNOWN_DESTINATION}
        assert ack.outcome in refused | {Outcome.ENQUEUED if signed else Outcome.WRONG_SIGNATURE}
        if not signed:
            assert not scene.tasks.attempts
        elif not whole_mutated and not bytes_mutated:
            assert ack.outcome is Outcome.ENQUEUED
            assert {e["webhookEventId"] for e in good} <= set(scene.tasks.events())
        scene.tasks.attempts.clear()
        scene.tasks.created.clear()
        scene.shaper.calls.clear()


async def test_ten_thousand_mutated_bodies_cost_no_good_event_and_forge_none() -> None:
    await bombard(10_000, seed=20261124)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
async def test_a_hundred_thousand_more(seed: int) -> None:
    await bombard(10_000, seed)
