"""The LINE simulator sends what LINE sends, and knows what was answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import LineApi, LineCall
from core.local.line_webhook import sign
from core.local.openai_answers import reply_text
from core.local.simulator import Clinic, LineSimulator, Sent


class Webhook:
    """Where the simulator posts."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.statuses: list[int] = []

    async def __call__(self, request: Request) -> Response:
        self.got.append(request)
        return Response(self.statuses.pop(0) if self.statuses else 200)

    def events(self, i: int = -1) -> list[dict[str, Any]]:
        return list(self.got[i].json()["events"])


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[Webhook, str]]:
    handler = Webhook()
    server = HttpServer(handler)
    await server.start()
    yield handler, server.url
    await server.stop()


@pytest.fixture
async def simulator(webhook: tuple[Webhook, str]) -> AsyncIterator[LineSimulator]:
    made = LineSimulator(LineApi(), webhook[1], seed=7)
    yield made
    await made.close()


def deliver(simulator: LineSimulator, sent: Sent, text: str, how: LineCall = LineCall.REPLY) -> None:
    """As if fairlane had called LINE."""
    state = simulator.line.state
    token = sent.reply_token if how is LineCall.REPLY else None
    channel = state.channels[sent.clinic.channel.channel_id]
    messages = [{"type": "text", "text": text}]
    state.accept(channel, sent.chat_id, how, messages, simulator.factory.now_ms(), reply_token=token)


def quoting(*texts: str) -> str:
    return reply_text([{"role": "user", "content": "\n".join(texts)}])


async def test_webhook_is_signed_and_looks_like_lines(
    simulator: LineSimulator, webhook: tuple[Webhook, str]
) -> None:
    clinic = simulator.clinic("bkk-smile", name="Bangkok Smile")
    user = simulator.user(clinic, "somchai")
    sent = await simulator.say(clinic, user, "จัดฟันราคาเท่าไหร่คะ")
    request = webhook[0].got[0]
    assert request.headers["x-line-signature"] == sign(clinic.channel.channel_secret, request.body)
    assert request.json()["destination"] == clinic.channel.bot_user_id
    event = webhook[0].events()[0]
    assert len(event["webhookEventId"]) == 26
    assert event["source"] == {"type": "user", "userId": user}
    assert event["message"]["text"] == "จัดฟันราคาเท่าไหร่คะ"
    assert simulator.line.state.reply_tokens[event["replyToken"]].to == user
    assert sent.acked
    assert sent.acks[0].latency_s < 2


async def test_line_bot_sdk_reads_every_kind_of_event(
    simulator: LineSimulator, webhook: tuple[Webhook, str]
) -> None:
    parser = pytest.importorskip("linebot.v3.webhook").WebhookParser
    clinic = simulator.clinic("bkk-smile")
    user, group = simulator.user(clinic, "a"), "C" + "2" * 32
    kinds = ("text", "sticker", "image", "video", "audio", "file", "location")
    text: dict[str, Any] = {"text": "x"}
    sent = [simulator.message(clinic, user, kind, **(text if kind == "text" else {})) for kind in kinds]
    sent += [
        simulator.message(clinic, user, "text", text="hi", chat_id=group, mention_bot=True),
        simulator.event(clinic, user, "follow", follow={"isUnblocked": False}),
        simulator.event(clinic, user, "unfollow"),
        simulator.event(clinic, user, "postback", postback={"data": "book=1"}),
        simulator.event(clinic, user, "unsend", unsend={"messageId": "1"}),
    ]
    await simulator.send(*sent)
    request = webhook[0].got[0]
    read = parser(clinic.channel.channel_secret).parse(
        request.body.decode(), request.headers["x-line-signature"]
    )
    assert [type(event).__name__ for event in read] == ["MessageEvent"] * 8 + [
        "FollowEvent",
        "UnfollowEvent",
        "PostbackEvent",
        "UnsendEvent",
    ]
    assert [e.reply_token is None for e in read if hasattr(e, "reply_token")] == [False] * 10


async def test_redelivery_keeps_ids_and_renews_the_reply_token(
    simulator: LineSimulator, webhook: tuple[Webhook, str]
) -> None:
    clinic = simulator.clinic("one")
    webhook[0].statuses = [500, 500]
    sent = simulator.message(clinic, simulator.user(clinic, "a"), "text", text="x")
    assert sent.reply_token
    simulator.line.state.reply_tokens[sent.reply_token].expires_ms = 0
    assert await simulator.send_until_acked(sent, every_s=0.01)
    first, last = webhook[0].events(0)[0], webhook[0].events(2)[0]
    assert first.pop("deliveryContext") == {"isRedelivery": False}
    assert last.pop("deliveryContext") == {"isRedelivery": True}
    assert first == last
    assert [ack.status for ack in sent.acks] == [500, 500, 200]
    assert simulator.line.state.reply_tokens[sent.reply_token].expires_ms > sent.sent_ms


async def test_bad_signature_and_unreachable_webhook_are_recorded(
    simulator: LineSimulator, webhook: tuple[Webhook, str]
) -> None:
    clinic = simulator.clinic("one")
    user = simulator.user(clinic, "a")
    await simulator.send(simulator.message(clinic, user, "text", text="x"), signature="wrong")
    assert webhook[0].got[0].headers["x-line-signature"] == "wrong"
    simulator.webhook_url = "http://127.0.0.1:9"
    assert (await simulator.say(clinic, user, "y")).acks[0].status is None


async def two_bubbles(simulator: LineSimulator) -> tuple[Clinic, Sent, Sent]:
    clinic = simulator.clinic("one")
    user = simulator.user(clinic, "a")
    return clinic, await simulator.say(clinic, user, "first"), await simulator.say(clinic, user, "second")


async def test_coalesced_bubbles_are_answered_by_one_reply(simulator: LineSimulator) -> None:
    _, first, second = await two_bubbles(simulator)
    deliver(simulator, second, quoting("first", "second"))
    assert await simulator.wait_answered([first.event_id, second.event_id], 1) == []


async def test_reply_that_leaves_a_bubble_out_does_not_answer_it(simulator: LineSimulator) -> None:
    _, first, second = await two_bubbles(simulator)
    deliver(simulator, second, quoting("second"))
    assert await simulator.wait_answered([first.event_id, second.event_id], 0.05) == [first.event_id]


async def test_fixed_text_and_second_answer_are_counted(simulator: LineSimulator) -> None:
    _, first, second = await two_bubbles(simulator)
    deliver(simulator, second, "ตอนนี้ข้อความเข้ามาเยอะค่ะ")
    deliver(simulator, second, quoting("second"), LineCall.PUSH)
    assert [len(simulator.answers(s.event_id)) for s in (first, second)] == [1, 2]


def test_clinics_file_has_what_apply_needs(simulator: LineSimulator, tmp_path: Path) -> None:
    clinic = simulator.clinic("one")
    path = tmp_path / "clinics.yaml"
    simulator.write_clinics(path, [clinic], {"one": {"budget": {"daily_budget_baht": 5}}})
    entry = json.loads(path.read_text())["clinics"][0]
    assert entry["line"]["channel_secret"] == clinic.channel.channel_secret
    assert entry["budget"] == {"daily_budget_baht": 5}
