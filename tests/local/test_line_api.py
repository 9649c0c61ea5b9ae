"""The LINE stand-in keeps LINE's rules."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import Channel, LineApi, LineCall, LineTrouble
from core.local.line_webhook import sign

USER = "U" + "1" * 32
ONE = Channel("1650000001", "secret-one", "U" + "a" * 32, "One")
TWO = Channel("1650000002", "secret-two", "U" + "b" * 32, "Two")
HELLO = [{"type": "text", "text": "สวัสดีค่ะ"}]


@pytest.fixture
async def line() -> AsyncIterator[LineApi]:
    api = LineApi()
    await api.start()
    api.add_channel(ONE)
    api.add_channel(TWO)
    yield api
    await api.stop()


@pytest.fixture
async def http(line: LineApi) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=line.url, timeout=2.0) as client:
        yield client


async def token(http: httpx2.AsyncClient, channel: Channel = ONE) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": channel.channel_id,
        "client_secret": channel.channel_secret,
    }
    answer = (await http.post("/oauth2/v3/token", data=form)).json()
    assert answer["expires_in"] == 900
    return str(answer["access_token"])


async def call(
    http: httpx2.AsyncClient, path: str, body: Any, channel: Channel = ONE, **headers: str
) -> httpx2.Response:
    bearer = {"authorization": f"Bearer {await token(http, channel)}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await http.post(path, json=body, headers={**bearer, **named})


async def reply(http: httpx2.AsyncClient, reply_token: str, channel: Channel = ONE) -> httpx2.Response:
    body = {"replyToken": reply_token, "messages": HELLO}
    return await call(http, "/v2/bot/message/reply", body, channel)


async def push(http: httpx2.AsyncClient, key: str, to: str = USER) -> httpx2.Response:
    return await call(http, "/v2/bot/message/push", {"to": to, "messages": HELLO}, x_line_retry_key=key)


async def test_wrong_secret_gets_no_token(http: httpx2.AsyncClient) -> None:
    form = {"grant_type": "client_credentials", "client_id": ONE.channel_id, "client_secret": "wrong"}
    answer = await http.post("/oauth2/v3/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


async def test_reply_token_is_good_once(line: LineApi, http: httpx2.AsyncClient) -> None:
    reply_token = line.issue_reply_token(ONE.channel_id, USER)
    first, second = await reply(http, reply_token), await reply(http, reply_token)
    assert first.status_code == 200
    assert first.json()["sentMessages"][0]["id"] == line.deliveries[0].message_ids[0]
    assert (second.status_code, second.json()) == (400, {"message": "Invalid reply token"})
    assert [(d.to, d.how, d.texts) for d in line.deliveries] == [(USER, LineCall.REPLY, ("สวัสดีค่ะ",))]


async def test_reply_token_expires_and_is_bound_to_its_channel(
    line: LineApi, http: httpx2.AsyncClient
) -> None:
    expired = line.issue_reply_token(ONE.channel_id, USER, life_s=0)
    assert (await reply(http, expired)).status_code == 400
    line.renew_reply_token(expired)
    assert (await reply(http, expired, TWO)).json() == {"message": "Invalid reply token"}
    assert (await reply(http, expired)).status_code == 200
    assert [rule.channel_id for rule in line.broken_rules] == [TWO.channel_id]


async def test_repeated_push_is_accepted_once_and_answers_409(
    line: LineApi, http: httpx2.AsyncClient
) -> None:
    key = str(uuid.uuid4())
    first, second = await push(http, key), await push(http, key)
    assert first.status_code == 200
    assert second.status_code == 409
    assert second.headers["x-line-accepted-request-id"] == first.headers["x-line-request-id"]
    assert second.json()["sentMessages"] == first.json()["sentMessages"]
    assert len(line.deliveries) == 1


async def test_push_without_a_good_retry_key_is_noted(line: LineApi, http: httpx2.AsyncClient) -> None:
    assert (await push(http, "not-a-uuid")).status_code == 400
    await call(http, "/v2/bot/message/push", {"to": USER, "messages": HELLO})
    assert len(line.broken_rules) == 2


async def test_missing_or_revoked_access_token_is_401(line: LineApi, http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v2/bot/info")).status_code == 401
    bearer = {"authorization": f"Bearer {await token(http)}"}
    assert (await http.get("/v2/bot/info", headers=bearer)).json()["userId"] == ONE.bot_user_id
    line.revoke(ONE.channel_id)
    assert (await http.get("/v2/bot/info", headers=bearer)).status_code == 401


TAP = {"type": "message", "label": "x", "text": "x"}


def with_quick_replies(*actions: dict[str, Any]) -> list[Any]:
    return [
        {**HELLO[0], "quickReply": {"items": [{"type": "action", "action": action} for action in actions]}}
    ]


def buttons(**changes: Any) -> list[Any]:
    template = {"type": "buttons", "text": "x" * 160, "actions": [TAP] * 4, **changes}
    return [{"type": "template", "altText": "x" * 400, "template": template}]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        HELLO * 6,
        [{"type": "text", "text": ""}],
        [{"type": "text", "text": "😀" * 2501}],
        [{"type": "unknown"}],
        [{"type": "text", "text": "\u200b\ufe0f \u3164"}],
        with_quick_replies(*[TAP] * 14),
        with_quick_replies({**TAP, "label": "x" * 21}),
        with_quick_replies({**TAP, "label": "\u200b"}),
        with_quick_replies({**TAP, "label": "a\nb"}),
        with_quick_replies({"type": "message", "label": "x"}),
        with_quick_replies({"type": "message", "label": "x", "text": "x" * 301}),
        with_quick_replies({"label": "x", "text": "x"}),
        with_quick_replies({"type": "postback", "label": "x"}),
        with_quick_replies({"type": "postback", "label": "x", "data": "x" * 301}),
        [{**HELLO[0], "quickReply": {"items": []}}],
        buttons(text="x" * 161),
        buttons(text="x" * 61, title="x"),
        buttons(text=" "),
        buttons(actions=[]),
        buttons(actions=[TAP] * 5),
        [{**buttons()[0], "altText": "x" * 401}],
        [
            {
                "type": "template",
                "altText": "x",
                "template": {"type": "confirm", "text": "x", "actions": [TAP]},
            }
        ],
    ],
)
async def test_messages_beyond_the_limits_are_refused_and_spend_no_token(
    line: LineApi, http: httpx2.AsyncClient, messages: list[Any]
) -> None:
    reply_token = line.issue_reply_token(ONE.channel_id, USER)
    refused = await call(http, "/v2/bot/message/reply", {"replyToken": reply_token, "messages": messages})
    assert refused.status_code == 400
    assert "details" in refused.json()
    assert line.broken_rules
    assert (await reply(http, reply_token)).status_code == 200


@pytest.mark.parametrize(
    "messages", [with_quick_replies(TAP, {"type": "postback", "label": "x", "data": ""}), buttons()]
)
async def test_messages_within_the_limits_are_accepted(
    line: LineApi, http: httpx2.AsyncClient, messages: list[Any]
) -> None:
    token = line.issue_reply_token(ONE.channel_id, USER)
    answer = await call(http, "/v2/bot/message/reply", {"replyToken": token, "messages": messages})
    assert (answer.status_code, line.broken_rules) == (200, [])


async def test_a_message_is_marked_as_read_by_its_own_bot_alone(
    line: LineApi, http: httpx2.AsyncClient
) -> None:
    token = line.issue_read_token(ONE.channel_id, USER, "m1")
    path, body = "/v2/bot/chat/markAsRead", {"markAsReadToken": token}
    assert (await call(http, path, body, TWO)).status_code == 400
    assert (await call(http, path, {"markAsReadToken": "x"})).status_code == 400
    assert (await call(http, path, body)).status_code == 200
    assert [read.message_id for read in line.state.read] == ["m1"]


async def test_text_of_5000_utf16_units_is_accepted(line: LineApi, http: httpx2.AsyncClient) -> None:
    reply_token = line.issue_reply_token(ONE.channel_id, USER)
    body = {"replyToken": reply_token, "messages": [{"type": "text", "text": "😀" * 2500}]}
    assert (await call(http, "/v2/bot/message/reply", body)).status_code == 200


async def test_blocked_user_gets_200_and_nothing(line: LineApi, http: httpx2.AsyncClient) -> None:
    line.block(ONE.channel_id, USER)
    assert (await push(http, str(uuid.uuid4()))).status_code == 200
    assert [d.reached for d in line.deliveries] == [False]


async def test_monthly_limit_stops_pushes_but_not_replies(line: LineApi, http: httpx2.AsyncClient) -> None:
    line.add_channel(ONE, monthly_limit=1)
    assert (await push(http, str(uuid.uuid4()))).status_code == 200
    refused = await push(http, str(uuid.uuid4()))
    assert (refused.status_code, refused.json()["message"]) == (429, "You have reached your monthly limit.")
    assert (await reply(http, line.issue_reply_token(ONE.channel_id, USER))).status_code == 200


@pytest.mark.parametrize(
    ("trouble", "status", "accepted"),
    [
        (LineTrouble.ERROR_BEFORE, 500, 0),
        (LineTrouble.ERROR_AFTER, 500, 1),
        (LineTrouble.RATE_LIMIT, 429, 0),
        (LineTrouble.MONTHLY_LIMIT, 429, 0),
        (LineTrouble.UNAUTHORIZED, 401, 0),
    ],
)
async def test_injected_errors_strike_before_or_after_acceptance(
    line: LineApi, http: httpx2.AsyncClient, trouble: LineTrouble, status: int, accepted: int
) -> None:
    line.faults.add(trouble, when=lambda seen: seen.call is LineCall.PUSH)
    key = str(uuid.uuid4())
    assert (await push(http, key)).status_code == status
    assert len(line.deliveries) == accepted
    assert (await push(http, key)).status_code == (409 if accepted else 200)


@pytest.mark.parametrize(
    ("trouble", "accepted"),
    [
        (LineTrouble.HANG_BEFORE, 0),
        (LineTrouble.HANG_AFTER, 1),
        (LineTrouble.RESET_BEFORE, 0),
        (LineTrouble.RESET_AFTER, 1),
    ],
)
async def test_injected_silence_strikes_before_or_after_acceptance(
    line: LineApi, http: httpx2.AsyncClient, trouble: LineTrouble, accepted: int
) -> None:
    http.timeout = httpx2.Timeout(0.2)
    line.faults.add(trouble, when=lambda seen: seen.call is LineCall.REPLY)
    with pytest.raises(httpx2.TransportError):
        await reply(http, line.issue_reply_token(ONE.channel_id, USER))
    assert len(line.deliveries) == accepted


async def test_webhook_endpoint_is_set_shown_and_tested(line: LineApi, http: httpx2.AsyncClient) -> None:
    got: list[Request] = []

    async def webhook(request: Request) -> Response:
        got.append(request)
        return Response(200)

    server = HttpServer(webhook)
    await server.start()
    bearer = {"authorization": f"Bearer {await token(http)}"}
    path = "/v2/bot/channel/webhook"
    put = await http.put(f"{path}/endpoint", json={"endpoint": f"{server.url}/hook"}, headers=bearer)
    assert put.status_code == 200
    shown = (await http.get(f"{path}/endpoint", headers=bearer)).json()
    assert shown == {"endpoint": f"{server.url}/hook", "active": True}
    tested = (await http.post(f"{path}/test", json={}, headers=bearer)).json()
    assert (tested["success"], tested["statusCode"]) == (True, 200)
    assert got[0].headers["x-line-signature"] == sign(ONE.channel_secret, got[0].body)
    assert json.loads(got[0].body) == {"destination": ONE.bot_user_id, "events": []}
    await server.stop()
    tested = (await http.post(f"{path}/test", json={}, headers=bearer)).json()
    assert (tested["success"], tested["reason"]) == (False, "COULD_NOT_CONNECT")


async def test_loading_animation_takes_users_and_steps_of_five(
    line: LineApi, http: httpx2.AsyncClient
) -> None:
    path = "/v2/bot/chat/loading/start"
    assert (await call(http, path, {"chatId": USER, "loadingSeconds": 20})).status_code == 202
    assert (await call(http, path, {"chatId": USER, "loadingSeconds": 7})).status_code == 400
    assert (await call(http, path, {"chatId": "C" + "1" * 32})).status_code == 400


async def test_stopped_server_leaves_no_hanging_call(line: LineApi, http: httpx2.AsyncClient) -> None:
    line.faults.add(LineTrouble.HANG_BEFORE)
    waiting = asyncio.ensure_future(http.post("/oauth2/v3/token", data={}))
    await asyncio.sleep(0.05)
    await line.stop()
    with pytest.raises(httpx2.TransportError):
        await waiting
