from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from core.adapters.line_messaging import LineMessagingApi
from core.adapters.redis_line_tokens import RedisLineTokens
from core.adapters.system_clock import SystemClock
from core.domain.errors import ChannelUnavailableError, LineUnavailableError
from core.local.http_server import HttpServer, Request, Response
from core.local.line_api import CallSeen, Channel, LineApi, LineCall, LineTrouble
from core.ports.line import ChannelCredentials, LineError, LineFault, Sent

CHANNEL = ChannelCredentials("1650000001", "s3cret")
CUSTOMER = "U" + "a" * 32
KEY = "11111111-2222-5333-8444-555555555555"
HELLO = [{"type": "text", "text": "สวัสดีค่ะ"}]


class WoundClock(SystemClock):
    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@pytest.fixture
async def line() -> AsyncIterator[LineApi]:
    api = LineApi()
    api.add_channel(Channel(CHANNEL.channel_id, CHANNEL.channel_secret, "U" + "b" * 32, "Smile"))
    await api.start()
    yield api
    await api.stop()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def make(
    line: LineApi, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[..., LineMessagingApi]]:
    """Another process' client, closed in the end; patient on a busy machine, unless it is to hang."""
    made: list[LineMessagingApi] = []
    timeout_s = 1.0 if "hang" in request.node.name else 5.0

    def one(tokens: RedisLineTokens | None = None, **options: Any) -> LineMessagingApi:
        made.append(LineMessagingApi(line.url, tokens, timeout_s=timeout_s, **options))
        return made[-1]

    yield one
    for client in made:
        await client.close()


@pytest.fixture
def client(make: Callable[..., LineMessagingApi]) -> LineMessagingApi:
    return make()


def issued(line: LineApi) -> int:
    return line.state.calls[LineCall.TOKEN, 200]


def sending(call: CallSeen) -> bool:
    return call.call in {LineCall.REPLY, LineCall.PUSH}


def asking_for_a_token(call: CallSeen) -> bool:
    return call.call is LineCall.TOKEN


async def fault_of(client: LineMessagingApi) -> LineError:
    with pytest.raises(LineError) as caught:
        await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    return caught.value


async def test_a_reply_is_delivered_to_the_tokens_chat(line: LineApi, client: LineMessagingApi) -> None:
    sent = await client.reply(CHANNEL, line.issue_reply_token(CHANNEL.channel_id, CUSTOMER), HELLO)
    (delivery,) = line.deliveries
    assert (delivery.how, delivery.to, delivery.texts) == (LineCall.REPLY, CUSTOMER, ("สวัสดีค่ะ",))
    assert sent == Sent(delivery.message_ids)
    assert not line.broken_rules


async def test_a_push_again_under_its_key_is_a_duplicate_with_the_first_ones_ids(
    line: LineApi, client: LineMessagingApi
) -> None:
    first = await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    again = await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    assert (first.duplicate, again) == (False, Sent(first.message_ids, duplicate=True))
    assert len(line.deliveries) == 1
    assert not line.broken_rules


async def test_a_used_reply_token_is_invalid(line: LineApi, client: LineMessagingApi) -> None:
    token = line.issue_reply_token(CHANNEL.channel_id, CUSTOMER)
    await client.reply(CHANNEL, token, HELLO)
    with pytest.raises(LineError) as caught:
        await client.reply(CHANNEL, token, HELLO)
    assert (caught.value.fault, caught.value.status) == (LineFault.INVALID_TOKEN, 400)


@pytest.mark.parametrize(
    ("trouble", "fault"),
    [
        (LineTrouble.ERROR_BEFORE, LineFault.AMBIGUOUS),
        (LineTrouble.ERROR_AFTER, LineFault.AMBIGUOUS),
        (LineTrouble.HANG_AFTER, LineFault.AMBIGUOUS),
        (LineTrouble.RESET_AFTER, LineFault.AMBIGUOUS),
        (LineTrouble.RATE_LIMIT, LineFault.RATE_LIMITED),
        (LineTrouble.MONTHLY_LIMIT, LineFault.QUOTA),
    ],
)
async def test_each_trouble_has_its_name(
    line: LineApi, client: LineMessagingApi, trouble: LineTrouble, fault: LineFault
) -> None:
    line.faults.add(trouble, when=sending)
    assert (await fault_of(client)).fault is fault


async def test_a_refusal_names_the_property_and_never_the_customers_words(
    line: LineApi, client: LineMessagingApi
) -> None:
    with pytest.raises(LineError) as caught:
        await client.push(CHANNEL, CUSTOMER, [{"type": "text", "text": "ปวดฟัน" * 1000}], retry_key=KEY)
    assert caught.value.fault is LineFault.REJECTED
    assert "messages[0].text" in str(caught.value)
    assert "ปวดฟัน" not in str(caught.value)


async def answering(*responses: Response) -> tuple[HttpServer, list[Request]]:
    """A LINE that gives tokens, and these answers to everything else."""
    seen: list[Request] = []
    left = list(responses)

    async def handle(request: Request) -> Response:
        if request.path == "/oauth2/v3/token":
            return Response.of_json({"access_token": "t", "expires_in": 900, "token_type": "Bearer"})
        seen.append(request)
        return left.pop(0)

    server = HttpServer(handle)
    await server.start()
    return server, seen


@pytest.mark.parametrize(
    ("headers", "retry_after_ms"),
    [
        ({"retry-after": "3"}, 3000),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1e300"}, 3_600_000),
        ({}, None),
    ],
)
async def test_retry_after_is_read(headers: Mapping[str, str], retry_after_ms: int | None) -> None:
    server, _ = await answering(Response.of_json({"message": "Too many"}, 429, headers))
    client = LineMessagingApi(server.url)
    assert (await fault_of(client)).retry_after_ms == retry_after_ms
    await client.close()
    await server.stop()


async def test_an_answer_that_is_not_json_is_no_surprise() -> None:
    server, _ = await answering(Response(400, b"<html>"), Response(200, b"<html>"), Response(404, b"[]"))
    client = LineMessagingApi(server.url)
    assert (await fault_of(client)).fault is LineFault.REJECTED
    assert await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY) == Sent()
    assert (await fault_of(client)).status == 404
    await client.close()
    await server.stop()


async def test_a_body_that_drips_is_cut_off_in_time() -> None:
    server, _ = await answering(replace(Response.of_json({"sentMessages": []}), drip_s=0.5))
    client = LineMessagingApi(server.url, timeout_s=1.0)
    began = asyncio.get_running_loop().time()
    assert (await fault_of(client)).fault is LineFault.AMBIGUOUS
    assert asyncio.get_running_loop().time() - began < 4
    await client.close()
    await server.stop()


async def test_when_line_cannot_be_reached_nothing_was_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = LineMessagingApi(f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(LineUnavailableError):
            await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
        await client.close()


async def test_a_pooled_connection_that_broke_may_leave_doubt_but_a_new_one_does_not(
    line: LineApi, client: LineMessagingApi
) -> None:
    await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    await line.stop()
    with pytest.raises((LineError, LineUnavailableError)):
        await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    with pytest.raises(LineUnavailableError):
        await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)


# Tokens


async def test_one_token_serves_all_calls_of_a_process(line: LineApi, client: LineMessagingApi) -> None:
    line.latency_s = 0.02
    await asyncio.gather(*(client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY) for _ in range(10)))
    assert issued(line) == 1


async def test_a_token_that_can_not_be_had_fails_for_all_who_wait_after_one_try(
    line: LineApi, client: LineMessagingApi
) -> None:
    line.faults.add(LineTrouble.ERROR_BEFORE, times=None, when=asking_for_a_token)
    line.latency_s = 0.05
    failed = await asyncio.gather(*(client.bot_info(CHANNEL) for _ in range(5)), return_exceptions=True)
    assert [isinstance(failure, LineUnavailableError) for failure in failed] == [True] * 5
    assert sum(n for (call, _), n in line.state.calls.items() if call is LineCall.TOKEN) == 1


async def test_a_waiter_that_is_cancelled_leaves_the_token_to_the_others(
    line: LineApi, client: LineMessagingApi
) -> None:
    line.latency_s = 0.1
    first, other = (asyncio.create_task(client.bot_info(CHANNEL)) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert (await other)["userId"] == "U" + "b" * 32
    assert issued(line) == 1


async def test_one_token_serves_all_processes(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi]
) -> None:
    for _ in range(3):
        await make(RedisLineTokens(redis)).bot_info(CHANNEL)
    assert issued(line) == 1
    found: list[Any] = await redis.keys("*")
    (key,) = found
    assert 0 < await redis.ttl(key) < 900
    assert CHANNEL.channel_secret not in key.decode()


async def test_a_token_is_refreshed_before_it_ends(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi]
) -> None:
    clock = WoundClock()
    client = make(RedisLineTokens(redis), clock=clock)
    await client.bot_info(CHANNEL)
    clock.ahead_s = 770
    await client.bot_info(CHANNEL)
    assert issued(line) == 1
    clock.ahead_s = 790
    await redis.flushall()
    await client.bot_info(CHANNEL)
    assert issued(line) == 2


async def test_without_redis_tokens_are_issued_all_the_same(
    line: LineApi, make: Callable[..., LineMessagingApi]
) -> None:
    async with Redis(port=1, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as down:
        client = make(RedisLineTokens(down))
        await client.bot_info(CHANNEL)
        line.state.access_tokens.clear()
        await client.bot_info(CHANNEL)
    assert issued(line) == 2


async def test_a_token_that_line_refuses_is_replaced_once_for_everybody(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi]
) -> None:
    one, other = make(RedisLineTokens(redis)), make(RedisLineTokens(redis))
    await one.bot_info(CHANNEL)
    await other.bot_info(CHANNEL)
    line.state.access_tokens.clear()
    await asyncio.gather(*(one.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY) for _ in range(5)))
    await other.bot_info(CHANNEL)
    assert issued(line) == 2
    assert len(line.deliveries) == 1


async def test_a_revoked_secret_is_unauthorized_and_its_token_is_gone(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi]
) -> None:
    client = make(RedisLineTokens(redis))
    await client.bot_info(CHANNEL)
    line.revoke(CHANNEL.channel_id)
    assert (await fault_of(client)).fault is LineFault.UNAUTHORIZED
    assert await redis.keys("*") == []


async def test_refused_again_with_a_new_token_is_unauthorized(
    line: LineApi, client: LineMessagingApi
) -> None:
    line.faults.add(LineTrouble.UNAUTHORIZED, times=None, when=sending)
    assert (await fault_of(client)).fault is LineFault.UNAUTHORIZED
    assert issued(line) == 2


async def test_a_wrong_secret_does_not_live_on_the_right_ones_token(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi]
) -> None:
    client = make(RedisLineTokens(redis))
    await client.bot_info(CHANNEL)
    with pytest.raises(LineError) as caught:
        await client.bot_info(replace(CHANNEL, channel_secret="wrong"))
    assert (caught.value.fault, caught.value.status) == (LineFault.UNAUTHORIZED, 400)


@pytest.mark.parametrize(
    ("trouble", "one_channels"),
    [
        (LineTrouble.ERROR_BEFORE, True),
        (LineTrouble.RATE_LIMIT, True),
        (LineTrouble.HANG_BEFORE, False),
        (LineTrouble.RESET_BEFORE, False),
    ],
)
async def test_without_a_token_nothing_was_sent_and_what_line_answers_is_this_channels_trouble(
    line: LineApi, client: LineMessagingApi, trouble: LineTrouble, one_channels: bool
) -> None:
    line.faults.add(trouble, when=asking_for_a_token)
    with pytest.raises(LineUnavailableError) as caught:
        await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    assert isinstance(caught.value, ChannelUnavailableError) is one_channels
    assert line.deliveries == []
    await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)


async def test_channels_share_the_client_and_nothing_else(line: LineApi, client: LineMessagingApi) -> None:
    other = ChannelCredentials("1650000002", "other")
    line.add_channel(Channel(other.channel_id, other.channel_secret, "U" + "c" * 32))
    await asyncio.gather(
        client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY),
        client.push(other, CUSTOMER, HELLO, retry_key=KEY),
    )
    assert {d.channel_id for d in line.deliveries} == {CHANNEL.channel_id, other.channel_id}


CALLS: Mapping[LineCall, Callable[[LineMessagingApi], Any]] = {
    LineCall.REPLY: lambda client: client.reply(CHANNEL, "t", HELLO),
    LineCall.PUSH: lambda client: client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY),
    LineCall.LOADING: lambda client: client.show_loading(CHANNEL, CUSTOMER, 20),
    LineCall.INFO: lambda client: client.bot_info(CHANNEL),
    LineCall.WEBHOOK: lambda client: client.test_webhook(CHANNEL),
    LineCall.TOKEN: lambda client: client.bot_info(CHANNEL),
}


@pytest.mark.parametrize(
    "trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.RATE_LIMIT, LineTrouble.UNAUTHORIZED]
)
@pytest.mark.parametrize("call", CALLS)
async def test_lines_id_of_every_call_that_failed_is_logged(
    line: LineApi,
    client: LineMessagingApi,
    caplog: pytest.LogCaptureFixture,
    call: LineCall,
    trouble: LineTrouble,
) -> None:
    line.faults.add(trouble, times=5, when=lambda seen: seen.call is call)
    with suppress(LineError, LineUnavailableError, ChannelUnavailableError):
        await CALLS[call](client)
    failed = [(status, request_id) for _, status, request_id in line.state.request_ids if status >= 400]
    logged = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "line.call_failed"]
    assert failed
    assert [(fields["status"], fields["line_request_id"]) for fields in logged] == failed


async def test_a_push_that_was_accepted_before_has_not_failed(
    client: LineMessagingApi, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await client.push(CHANNEL, CUSTOMER, HELLO, retry_key=KEY)
    assert not [r for r in caplog.records if r.getMessage() == "line.call_failed"]


async def test_no_secret_and_no_token_is_logged_or_shown(
    line: LineApi, redis: Redis, make: Callable[..., LineMessagingApi], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = make(RedisLineTokens(redis))
    reply_token = line.issue_reply_token(CHANNEL.channel_id, CUSTOMER)
    await client.reply(CHANNEL, reply_token, HELLO)
    line.faults.add(LineTrouble.UNAUTHORIZED, times=None, when=sending)
    shown = repr(await fault_of(client)) + caplog.text + repr(CHANNEL)
    for secret in (CHANNEL.channel_secret, reply_token, *line.state.access_tokens, "สวัสดี"):
        assert secret not in shown


# The other calls


async def test_loading_takes_lines_steps_and_never_raises(line: LineApi, client: LineMessagingApi) -> None:
    for seconds in (1, 20, 23, 300):
        await client.show_loading(CHANNEL, CUSTOMER, seconds)
    assert line.state.calls[LineCall.LOADING, 202] == 4
    await client.show_loading(CHANNEL, "C" + "a" * 32, 20)
    line.revoke(CHANNEL.channel_id)
    await client.show_loading(CHANNEL, CUSTOMER, 20)
    await line.stop()
    await client.show_loading(CHANNEL, CUSTOMER, 20)


async def test_a_channels_bot_and_webhook_are_read_and_set(line: LineApi, client: LineMessagingApi) -> None:
    assert (await client.bot_info(CHANNEL))["userId"] == "U" + "b" * 32
    await client.set_webhook(CHANNEL, "http://127.0.0.1:9/hook")
    assert await client.get_webhook(CHANNEL) == {"endpoint": "http://127.0.0.1:9/hook", "active": True}
    assert (await client.test_webhook(CHANNEL))["success"] is False


async def test_lines_own_sdk_reads_what_is_sent_here() -> None:
    """line-bot-sdk as an oracle: the bodies of a reply and a push are what its models write."""
    models = pytest.importorskip("linebot.v3.messaging.models")
    server, seen = await answering(*[Response.of_json({"sentMessages": []})] * 2)
    client = LineMessagingApi(server.url)
    message = {
        "type": "text",
        "text": "เลือกค่ะ",
        "quickReply": {
            "items": [{"type": "action", "action": {"type": "message", "label": "ก", "text": "ก"}}]
        },
    }
    await client.reply(CHANNEL, "token", [message])
    await client.push(CHANNEL, CUSTOMER, [message], retry_key=KEY)
    await client.close()
    await server.stop()
    action = models.MessageAction(label="ก", text="ก")
    text = models.TextMessage(
        text="เลือกค่ะ", quickReply=models.QuickReply(items=[models.QuickReplyItem(action=action)])
    )

    def without_defaults(model: Any) -> dict[str, Any]:
        return {k: v for k, v in model.to_dict().items() if k != "notificationDisabled"}

    reply, push = seen
    assert reply.json() == without_defaults(models.ReplyMessageRequest(replyToken="token", messages=[text]))
    assert push.json() == without_defaults(models.PushMessageRequest(to=CUSTOMER, messages=[text]))
    assert push.headers["x-line-retry-key"] == KEY
    assert push.headers["authorization"] == "Bearer t"
