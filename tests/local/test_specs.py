"""What the tests hold everybody to: the specifications of LINE and OpenAI, and that a breach is noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from core.local import line_rules
from core.local.http_server import Request, ResetConnectionError, Response
from core.local.line_events import EventFactory
from core.local.specs import NEWER_EVENTS, Specs
from core.ports.line import LineMessage
from tests.support.line_samples import BOT, TABLE, envelope

REPLY = {"replyToken": "t", "messages": [{"type": "text", "text": "ค่ะ"}]}
SENT = {"sentMessages": [{"id": "1", "quoteToken": "q"}]}
CHAT = {"model": "gpt-6.1-terra", "messages": [{"role": "user", "content": "ค่ะ"}]}
REPLY_PATH, CHAT_PATH = "/v2/bot/message/reply", "/v1/chat/completions"


@pytest.fixture
def own(specifications: Specs) -> Specs:
    """Specifications whose violations are this test's own business."""
    return Specs(specifications.folder)


def request(path: str, body: Any, media: str = "application/json", method: str = "POST") -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, path, "", {"content-type": media}, raw)


async def noted(own: Specs, api: str, asked: Request, answer: Response | None) -> list[str]:
    async def handle(_: Request) -> Response:
        if answer is None:
            raise ResetConnectionError
        return answer

    watched = own.watching(api, handle)
    if answer is None:
        with pytest.raises(ResetConnectionError):
            await watched(asked)
    else:
        assert await watched(asked) is answer
    return own.violations


def json_of(value: Any, status: int = 200) -> Response:
    return Response.of_json(value, status)


@pytest.mark.parametrize(
    ("api", "asked", "answer"),
    [
        ("line", request(REPLY_PATH, REPLY), json_of(SENT)),
        ("line", request(REPLY_PATH, REPLY), json_of({"message": "busy"}, 503)),
        ("line", request(REPLY_PATH, {"any": "thing"}), json_of({"message": "no"}, 400)),
        ("line", request(REPLY_PATH, REPLY), Response(200, b"x", {}, described=False)),
        ("line", request("/demo/say", {"ours": 1}), json_of({"ours": 1})),
        ("openai", request(CHAT_PATH, {**CHAT, "max_completion_tokens": None}), None),
        (
            "openai",
            request(CHAT_PATH, {}),
            json_of({"error": {"message": "", "type": "", "param": None, "code": None}}, 400),
        ),
    ],
)
async def test_what_a_specification_describes_is_fine(
    own: Specs, api: str, asked: Request, answer: Response | None
) -> None:
    assert await noted(own, api, asked, answer) == []


@pytest.mark.parametrize(
    ("api", "asked", "answer", "problem"),
    [
        (
            "line",
            request(REPLY_PATH, {**REPLY, "replyTokn": "t"}),
            json_of(SENT),
            "'replyTokn' was unexpected",
        ),
        ("line", request(REPLY_PATH, {"replyToken": "t", "messages": []}), json_of(SENT), "messages"),
        (
            "line",
            request(REPLY_PATH, {"replyToken": "t", "messages": [{"type": "txt"}]}),
            json_of(SENT),
            '"txt"',
        ),
        (
            "line",
            request(REPLY_PATH, {"messages": [{"type": "text"}]}),
            None,
            '"text" is a required property',
        ),
        ("line", request(REPLY_PATH, b"{", "application/json"), None, "is not JSON"),
        (
            "line",
            request(REPLY_PATH, b"a=b", "text/plain"),
            None,
            "is text/plain instead of application/json",
        ),
        ("line", request(REPLY_PATH, REPLY), json_of({}), '"sentMessages" is a required property'),
        ("line", request(REPLY_PATH, REPLY), json_of({}, 202), "this status is not described"),
        (
            "line",
            request(REPLY_PATH, REPLY),
            json_of({"error": "x"}, 500),
            '"message" is a required property',
        ),
        ("line", request("/v2/bot/teapot", {}), json_of({}), "is not described"),
        (
            "line",
            request("/oauth2/v3/token", b"grant_type=x", "application/x-www-form-urlencoded"),
            None,
            "request",
        ),
        ("openai", request(CHAT_PATH, {**CHAT, "temprature": 1}), None, "'temprature' was unexpected"),
        ("openai", request(CHAT_PATH, {**CHAT, "temperature": 3}), None, "temperature"),
        ("openai", request(CHAT_PATH, {"model": "x", "messages": [{"role": "user"}]}), None, "messages"),
        ("openai", request(CHAT_PATH, CHAT), json_of({"id": "1"}), "is a required property"),
    ],
)
async def test_what_it_does_not_describe_is_noted(
    own: Specs, api: str, asked: Request, answer: Response | None, problem: str
) -> None:
    found = await noted(own, api, asked, answer)
    # jsonschema-rs quotes with ' or ", whatever it quotes.
    assert problem.replace('"', "'") in "\n".join(found).replace('"', "'")


def webhook(*events: Mapping[str, Any]) -> dict[str, Any]:
    return {"destination": BOT, "events": list(events)}


def test_a_webhook_that_line_would_not_send_is_noted(own: Specs) -> None:
    for body in (
        webhook(envelope({"type": "teleport"})),
        webhook(envelope({"type": "unsend"})),
        {"destination": "bot", "events": []},
    ):
        own.violations.clear()
        own.check_webhook(body)
        assert own.violations, body


def test_the_tests_table_has_every_event_and_message_that_line_describes(specifications: Specs) -> None:
    described = specifications.webhooks.values("Event")
    assert {event["type"] for event, _, _ in TABLE.values()} == described
    assert set(NEWER_EVENTS) <= described
    messages = {event["message"]["type"] for event, _, _ in TABLE.values() if event["type"] == "message"}
    assert messages - {"hologram"} == specifications.webhooks.values("MessageContent")


@pytest.mark.parametrize("source", ["user", "group", "room"])
@pytest.mark.parametrize("name", [name for name in TABLE if not name.startswith("hologram")])
def test_every_event_of_the_tests_table_is_as_line_describes_it(
    specifications: Specs, name: str, source: str
) -> None:
    event, _, _ = TABLE[name]
    assert specifications.webhooks.problems("CallbackRequest", webhook(envelope(event, source))) == []


@pytest.mark.parametrize("kind", ["text", "sticker", "image", "video", "audio", "file", "location"])
def test_every_message_of_the_stand_in_is_as_line_describes_it(specifications: Specs, kind: str) -> None:
    message = EventFactory(seed=1).message(kind)
    assert specifications.webhooks.problems("MessageContent", message) == []


@pytest.mark.parametrize(
    "kind",
    [
        "follow",
        "unfollow",
        "join",
        "leave",
        "memberJoined",
        "memberLeft",
        "videoPlayComplete",
        "beacon",
        "accountLink",
        "membership",
    ],
)
def test_every_event_of_the_stand_in_is_as_line_describes_it(specifications: Specs, kind: str) -> None:
    event = EventFactory(seed=1).event(kind, chat_id=BOT, user_id=BOT, reply_token="r", fields={})
    if kind in {"unfollow", "leave", "memberLeft"}:
        del event["replyToken"]
    assert specifications.webhooks.problems("CallbackRequest", webhook(event)) == []


def test_the_stand_in_knows_the_messages_and_actions_that_line_describes(specifications: Specs) -> None:
    messaging = specifications.apis["line"][0]
    known = [{"type": kind} for kind in sorted(messaging.values("Message"))]
    unknown = [
        p for m in known for p in line_rules.problems([m]) if re.fullmatch(r"messages.0..type", p["property"])
    ]
    assert unknown == []
    for kind in messaging.values("Action"):
        action = {"type": kind, "label": "x", "text": "x", "data": "", "uri": "https://example.com"}
        item = {"type": "action", "action": action}
        assert line_rules.problems([{"type": "text", "text": "x", "quickReply": {"items": [item]}}]) == [], (
            kind
        )


@pytest.mark.parametrize(
    "message",
    [
        {"type": "text"},
        {"type": "text", "text": 5},
        {"type": "template", "altText": "x"},
        {"type": "template", "template": {"type": "buttons", "text": "x", "actions": []}},
        {
            "type": "text",
            "text": "x",
            "quickReply": {"items": [{"type": "action", "action": {"type": "tap"}}]},
        },
        {"type": "text", "text": "x", "quickReply": {"items": [{"type": "action"}] * 14}},
        {"type": "call"},
    ],
)
def test_what_line_describes_as_wrong_the_stand_in_refuses(
    specifications: Specs, message: LineMessage
) -> None:
    body = {"replyToken": "t", "messages": [message]}
    assert specifications.apis["line"][0].problems("ReplyMessageRequest", body) != []
    assert line_rules.problems([message]) != []
