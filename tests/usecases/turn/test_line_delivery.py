"""Delivery over the real LINE client, against a LINE that fails in each of its ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from core.adapters.line_messaging import LineMessagingApi
from core.adapters.system_clock import SystemClock
from core.domain.errors import ChannelUnavailableError, LineUnavailableError
from core.domain.messages import reply_messages, retry_key
from core.local.line_api import CallSeen, Channel, LineApi, LineCall, LineTrouble
from core.ports.line import ChannelCredentials
from core.usecases.turn.line_delivery import Delivered, DeliveryRequest, LineDelivery

CHANNEL = ChannelCredentials("1650000001", "s3cret")
CUSTOMER = "U" + "a" * 32
TEXT = "เปิด 9 โมงค่ะ"


class SkippingClock(SystemClock):
    """Sleeping takes no time, but it has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Marks(list[str | None]):
    """What the journal was told."""

    async def __call__(self, how: str | None) -> None:
        self.append(how)


@pytest.fixture
async def line() -> AsyncIterator[LineApi]:
    api = LineApi()
    api.add_channel(Channel(CHANNEL.channel_id, CHANNEL.channel_secret, "U" + "b" * 32))
    await api.start()
    yield api
    await api.stop()
    assert not api.broken_rules


@pytest.fixture
async def client(line: LineApi, request: pytest.FixtureRequest) -> AsyncIterator[LineMessagingApi]:
    """Patient on a busy machine, unless LINE is to hang."""
    api = LineMessagingApi(line.url, timeout_s=1.0 if "hang" in request.node.name else 5.0)
    yield api
    await api.close()


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
def deliver(client: LineMessagingApi, clock: SkippingClock) -> LineDelivery:
    return LineDelivery(client, clock)


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def delivery(line: LineApi) -> DeliveryRequest:
    token = line.issue_reply_token(CHANNEL.channel_id, CUSTOMER)
    return DeliveryRequest(CHANNEL, CUSTOMER, reply_messages(TEXT), "turn-1", reply_token=token)


def sending(call: CallSeen) -> bool:
    return call.call in {LineCall.REPLY, LineCall.PUSH}


def arrived(line: LineApi) -> list[tuple[str, ...]]:
    """(how, texts…) of all that LINE accepted."""
    return [(delivery.how.value, *delivery.texts) for delivery in line.deliveries]


async def test_a_fresh_token_is_replied_to(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks
) -> None:
    delivered = await deliver(delivery, marks)
    assert delivered == Delivered("reply", line.deliveries[0].message_ids)
    assert arrived(line) == [("reply", TEXT)]
    assert delivery.route == "reply"
    assert marks == []


@pytest.mark.parametrize("token", ["stale", "missing"])
async def test_without_a_fresh_token_it_is_pushed(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, token: str
) -> None:
    if token == "stale":
        delivery = replace(delivery, token_age_ms=50_001)
    else:
        delivery = replace(delivery, reply_token=None)
    delivered = await deliver(delivery, marks)
    assert (delivered.how, delivery.route) == ("push", "push")
    assert arrived(line) == [("push", TEXT)]
    assert line.deliveries[0].retry_key == retry_key("turn-1")


@pytest.mark.parametrize(
    "trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.HANG_BEFORE, LineTrouble.RESET_BEFORE]
)
@pytest.mark.parametrize("how", ["reply", "push"])
async def test_what_failed_before_line_accepted_it_is_sent_again_the_same_way(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    trouble: LineTrouble,
    how: str,
) -> None:
    delivery = replace(delivery, token_age_ms=0 if how == "reply" else 55_000)
    line.faults.add(trouble, when=sending)
    delivered = await deliver(delivery, marks)
    assert (delivered.how, delivered.presumed) == (how, False)
    assert arrived(line) == [(how, TEXT)]


@pytest.mark.parametrize(
    "trouble", [LineTrouble.ERROR_AFTER, LineTrouble.HANG_AFTER, LineTrouble.RESET_AFTER]
)
async def test_a_reply_that_was_accepted_without_a_word_is_not_sent_twice(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, trouble: LineTrouble
) -> None:
    line.faults.add(trouble, when=sending)
    assert await deliver(delivery, marks) == Delivered("reply", presumed=True)
    assert arrived(line) == [("reply", TEXT)]
    assert line.state.calls[LineCall.PUSH, 200] == 0


@pytest.mark.parametrize(
    "trouble", [LineTrouble.ERROR_AFTER, LineTrouble.HANG_AFTER, LineTrouble.RESET_AFTER]
)
async def test_a_push_that_was_accepted_without_a_word_is_known_by_its_retry_key(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, trouble: LineTrouble
) -> None:
    line.faults.add(trouble, when=sending)
    delivered = await deliver(replace(delivery, reply_token=None), marks)
    assert delivered == Delivered("push", line.deliveries[0].message_ids)
    assert arrived(line) == [("push", TEXT)]
    assert line.state.calls[LineCall.PUSH, 409] == 1


async def test_a_rate_limit_is_waited_out(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, clock: SkippingClock
) -> None:
    line.faults.add(LineTrouble.RATE_LIMIT, times=2, when=sending)
    assert (await deliver(delivery, marks)).how == "reply"
    assert arrived(line) == [("reply", TEXT)]
    assert clock.slept == [0.25, 0.5]


async def test_a_rate_limit_that_lasts_is_left_to_the_queue_and_then_pushed(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, clock: SkippingClock
) -> None:
    line.faults.add(LineTrouble.RATE_LIMIT, times=None, when=sending)
    with pytest.raises(ChannelUnavailableError):
        await deliver(delivery, marks)
    assert sum(clock.slept) <= 6
    assert marks == [None]
    line.faults.clear()
    assert (await deliver(replace(delivery, token_age_ms=60_000), marks)).how == "push"
    assert arrived(line) == [("push", TEXT)]


async def test_a_used_up_quota_is_final(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    line.state.channels[CHANNEL.channel_id].monthly_limit = 0
    delivered = await deliver(replace(delivery, reply_token=None), marks)
    assert delivered == Delivered("none", failure="undeliverable: quota")
    assert "line.quota_exhausted" in caplog.messages
    assert arrived(line) == []


async def test_a_revoked_secret_is_final(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    line.revoke(CHANNEL.channel_id)
    assert await deliver(delivery, marks) == Delivered("none", failure="undeliverable: unauthorized")
    assert "line.unauthorized" in caplog.messages
    assert arrived(line) == []


async def test_a_message_that_line_refuses_is_final(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = replace(delivery, messages=[{"type": "text", "text": "ก" * 5001}])
    assert await deliver(refused, marks) == Delivered("none", failure="undeliverable: rejected")
    assert "line.rejected" in caplog.messages
    assert arrived(line) == []
    assert len(line.broken_rules) == 1
    line.broken_rules.clear()


UNSEEN_LABEL = {"type": "action", "action": {"type": "message", "label": "", "text": "จอง"}}


@pytest.fixture
def refused_once(line: LineApi, delivery: DeliveryRequest) -> Iterator[DeliveryRequest]:
    """Its text is good, its quick reply is not."""
    (message,) = delivery.messages
    yield replace(delivery, messages=[{**message, "quickReply": {"items": [UNSEEN_LABEL]}}])
    line.broken_rules.clear()


@pytest.mark.parametrize("how", ["reply", "push"])
async def test_what_line_refuses_is_sent_once_more_as_bare_text(
    line: LineApi,
    deliver: LineDelivery,
    refused_once: DeliveryRequest,
    marks: Marks,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    delivered = await deliver(replace(refused_once, token_age_ms=0 if how == "reply" else 55_000), marks)
    assert (delivered.how, delivered.failure) == (how, None)
    assert arrived(line) == [(how, TEXT)]
    assert list(line.deliveries[0].messages) == [{"type": "text", "text": TEXT}]
    assert "line.bare_text" in caplog.messages
    assert sum(line.state.calls.values()) == 3  # a token, the refused call, the bare one
    assert marks == []


@pytest.mark.parametrize("how", ["reply", "push"])
async def test_bare_text_that_may_have_arrived_does_not_arrive_twice(
    line: LineApi, deliver: LineDelivery, refused_once: DeliveryRequest, marks: Marks, how: str
) -> None:
    delivery = replace(refused_once, token_age_ms=0 if how == "reply" else 55_000)
    line.faults.add(LineTrouble.ERROR_AFTER, after=1, when=sending)
    assert (await deliver(delivery, marks)).failure is None
    again = replace(delivery, called_before=how, token_age_ms=0)
    assert (await deliver(again, marks)).failure is None  # by another instance, after a crash
    assert arrived(line) == [(how, TEXT)]


async def test_bare_text_is_pushed_if_its_token_has_run_out_meanwhile(
    line: LineApi, deliver: LineDelivery, refused_once: DeliveryRequest, marks: Marks
) -> None:
    line.renew_reply_token(str(refused_once.reply_token), life_s=0)
    assert (await deliver(refused_once, marks)).how == "push"
    assert arrived(line) == [("push", TEXT)]
    assert marks == ["push"]


@pytest.mark.parametrize("trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.RATE_LIMIT])
async def test_what_is_no_definite_refusal_keeps_its_quick_replies(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, trouble: LineTrouble
) -> None:
    messages = reply_messages(TEXT, ["จองคิว"])
    line.faults.add(trouble, when=sending)
    assert (await deliver(replace(delivery, messages=messages), marks)).how == "reply"
    assert list(line.deliveries[0].messages) == list(messages)


async def test_a_blocked_user_gets_nothing_and_that_is_fine(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks
) -> None:
    line.block(CHANNEL.channel_id, CUSTOMER)
    assert (await deliver(delivery, marks)).failure is None
    assert [d.reached for d in line.deliveries] == [False]


async def test_an_invalid_token_gives_way_to_a_push_that_is_marked_first(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest
) -> None:
    order: list[str | None] = []

    async def mark(how: str | None) -> None:
        order.extend((how, f"{len(line.deliveries)} arrived"))

    line.renew_reply_token(str(delivery.reply_token), life_s=0)
    assert (await deliver(delivery, mark)).how == "push"
    assert order == ["push", "0 arrived"]
    assert arrived(line) == [("push", TEXT)]


async def test_an_invalid_token_means_accepted_when_this_turn_had_called_line_before(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await deliver(delivery, marks)
    again = replace(delivery, called_before="reply", token_age_ms=40_000)
    assert await deliver(again, marks) == Delivered("reply", presumed=True)
    assert "line.delivery_presumed" in caplog.messages
    assert arrived(line) == [("reply", TEXT)]


@pytest.mark.parametrize("token", ["refused", "lost"])
async def test_whether_a_reply_was_accepted_can_not_be_told_once_its_token_is_stale(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    caplog: pytest.LogCaptureFixture,
    token: str,
) -> None:
    line.renew_reply_token(str(delivery.reply_token), life_s=0)
    again = replace(delivery, called_before="reply", token_age_ms=90_000)
    if token == "lost":
        again = replace(again, reply_token=None)
    assert await deliver(again, Marks()) == Delivered("none", failure="undeliverable: unknown")
    assert "line.delivery_unknown" in caplog.messages
    assert arrived(line) == []


async def test_a_turn_that_died_before_its_reply_reached_line_is_replied_to_now(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks
) -> None:
    assert (await deliver(replace(delivery, called_before="reply"), marks)).presumed is False
    assert arrived(line) == [("reply", TEXT)]


@pytest.mark.parametrize("had_arrived", [True, False])
async def test_a_turn_that_may_have_pushed_pushes_again_under_the_same_key(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, had_arrived: bool
) -> None:
    if had_arrived:
        await deliver(replace(delivery, reply_token=None), marks)
    assert (await deliver(replace(delivery, called_before="push"), marks)).how == "push"
    assert arrived(line) == [("push", TEXT)]


async def test_an_ambiguous_reply_is_never_followed_by_a_push(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, clock: SkippingClock
) -> None:
    line.faults.add(LineTrouble.ERROR_AFTER, when=sending)
    line.faults.add(LineTrouble.ERROR_BEFORE, times=None, when=sending)
    with pytest.raises(LineUnavailableError):
        await deliver(delivery, marks)
    assert marks == []
    assert sum(clock.slept) <= 6
    line.faults.clear()
    again = replace(delivery, called_before="reply", token_age_ms=70_000)
    assert (await deliver(again, marks)).failure == "undeliverable: unknown"
    assert arrived(line) == [("reply", TEXT)]


@pytest.mark.parametrize(
    ("trouble", "marked"),
    [(LineTrouble.RATE_LIMIT, [None]), (LineTrouble.HANG_BEFORE, [])],
    ids=["429", "call"],
)
async def test_a_turn_cancelled_after_a_429_has_not_called_line_and_one_cancelled_in_a_call_may_have(
    line: LineApi, delivery: DeliveryRequest, marks: Marks, trouble: LineTrouble, marked: list[str | None]
) -> None:
    called = asyncio.Event()

    def hits(call: CallSeen) -> bool:
        if sending(call):
            called.set()
        return sending(call)

    line.faults.add(trouble, times=None, when=hits)
    client = LineMessagingApi(line.url)
    delivering = asyncio.create_task(LineDelivery(client, SystemClock())(delivery, marks))
    await called.wait()
    await asyncio.sleep(0.1)  # the first backoff takes 0.25 s
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert marks == marked
    await client.close()


async def test_line_that_cannot_be_reached_leaves_no_doubt(delivery: DeliveryRequest, marks: Marks) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = LineMessagingApi(f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(LineUnavailableError) as caught:
            await LineDelivery(client, SkippingClock())(delivery, marks)
        assert not isinstance(caught.value, ChannelUnavailableError)
        await client.close()
    assert marks == [None]


async def test_what_an_earlier_run_may_have_sent_stays_in_doubt_when_line_cannot_be_reached(
    delivery: DeliveryRequest, marks: Marks
) -> None:
    client = LineMessagingApi("http://127.0.0.1:1")
    with pytest.raises(LineUnavailableError):
        await LineDelivery(client, SkippingClock())(replace(delivery, called_before="reply"), marks)
    await client.close()
    assert marks == []


@pytest.mark.parametrize("token", ["stale", "missing", "used"])
async def test_what_is_worth_no_push_is_dropped_when_it_cannot_be_replied(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, token: str
) -> None:
    delivery = replace(delivery, push_allowed=False)
    if token == "stale":
        delivery = replace(delivery, token_age_ms=55_000)
    elif token == "missing":
        delivery = replace(delivery, reply_token=None)
    else:
        line.renew_reply_token(str(delivery.reply_token), life_s=0)
    assert await deliver(delivery, marks) == Delivered("none")
    assert arrived(line) == []


async def test_two_instances_that_push_the_same_turn_push_once(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks
) -> None:
    pushed = replace(delivery, reply_token=None)
    delivered = await asyncio.gather(*(deliver(pushed, marks) for _ in range(5)))
    assert len({d.message_ids for d in delivered}) == 1
    assert arrived(line) == [("push", TEXT)]


async def test_an_operators_replay_is_a_push_of_its_own(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks
) -> None:
    pushed = replace(delivery, reply_token=None)
    await deliver(pushed, marks)
    await deliver(replace(pushed, turn_id="turn-1-r1"), marks)
    assert arrived(line) == [("push", TEXT)] * 2


_MESSAGES = frozenset({LineCall.REPLY, LineCall.PUSH})


@pytest.mark.parametrize("trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.RESET_BEFORE])
@pytest.mark.parametrize("fresh", [True, False], ids=["reply", "push"])
async def test_what_fails_for_one_chat_while_line_answers_else_is_that_chats_trouble(
    line: LineApi,
    deliver: LineDelivery,
    delivery: DeliveryRequest,
    marks: Marks,
    trouble: LineTrouble,
    fresh: bool,
) -> None:
    line.faults.add(trouble, times=None, when=lambda seen: seen.call in _MESSAGES)
    with pytest.raises(ChannelUnavailableError):
        await deliver(replace(delivery, token_age_ms=0 if fresh else 60_000), marks)


@pytest.mark.parametrize("trouble", [LineTrouble.ERROR_BEFORE, LineTrouble.RESET_BEFORE])
async def test_what_fails_for_everything_is_lines_trouble(
    line: LineApi, deliver: LineDelivery, delivery: DeliveryRequest, marks: Marks, trouble: LineTrouble
) -> None:
    line.faults.add(trouble, times=None, when=lambda seen: seen.call is not LineCall.TOKEN)
    with pytest.raises(LineUnavailableError) as raised:
        await deliver(delivery, marks)
    assert not isinstance(raised.value, ChannelUnavailableError)
