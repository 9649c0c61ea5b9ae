"""The adapter against real sockets: llmock, which is not ours, and a raw server for what no library sends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from llmock.scenarios import Delay, Fail, Reply
from llmock.testing import LLMockServer

from core.adapters.openai_llm import OpenAiLlm
from core.adapters.system_clock import SystemClock
from core.domain.clinic import Clinic
from core.domain.memory import CustomerMemory
from core.domain.model_reply import SCHEMA, SCHEMA_NAME, parse_reply
from core.domain.moment import Moment
from core.domain.prompt import Message
from core.domain.role_manager import build_prompt
from core.domain.session import Session
from core.ports.llm import LlmError, LlmFault, LlmRequest, Usage

KEY = "sk-canary-7f3a"
WORDS = "ปวดฟันมากค่ะ canary-words"

REQUEST = LlmRequest(
    model="gpt-6.1-terra",
    messages=(Message("system", "rules"), Message("user", WORDS)),
    max_tokens=600,
    schema_name=SCHEMA_NAME,
    schema=SCHEMA,
)

OK_BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-6.1-terra-2026-10-26",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"reply":"สวัสดีค่ะ"}', "refusal": None},
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 40,
        "total_tokens": 1240,
        "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 100},
    },
}


def http(status: int, body: object, headers: dict[str, str] | None = None) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(data)}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def error(
    status: int, code: str | None = None, kind: str = "e", headers: dict[str, str] | None = None
) -> bytes:
    # As OpenAI writes it: the sentence may quote the key or the prompt, so it must not be passed on.
    body = {"error": {"message": f"bad {KEY} {WORDS}", "type": kind, "code": code, "param": "messages"}}
    return http(status, body, headers)


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawProvider:
    """Reads each request whole, keeps it, and then does what `handle` does."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.requests: list[dict[str, Any]] = []
        self.closed_by_client = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields["content-length"]))
                self.requests.append(json.loads(body))
                await self.handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed_by_client.set()
        finally:
            writer.close()


@asynccontextmanager
async def provider(handle: Handle | bytes) -> AsyncIterator[tuple[RawProvider, OpenAiLlm]]:
    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(handle, bytes)
        writer.write(handle)
        await writer.drain()

    raw = RawProvider(send if isinstance(handle, bytes) else handle)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    llm = OpenAiLlm(KEY, SystemClock(), f"http://127.0.0.1:{port}/v1")
    try:
        yield raw, llm
    finally:
        await llm.close()
        server.close()
        # Connections end with their client; nothing of a test outlives it.
        await asyncio.sleep(0.01)


async def fault_of(handle: Handle | bytes, *, timeout_s: float = 5.0) -> LlmError:
    async with provider(handle) as (raw, llm):
        with pytest.raises(LlmError) as caught:
            await llm.complete(REQUEST, timeout_s=timeout_s)
        assert len(raw.requests) == 1, "the SDK must not retry by itself"
    assert KEY not in str(caught.value)
    assert "canary" not in str(caught.value)
    return caught.value


class TestRequest:
    async def test_sends_the_messages_the_strict_schema_and_what_the_prices_rest_on(self) -> None:
        async with provider(http(200, OK_BODY)) as (raw, llm):
            await llm.complete(replace(REQUEST, cache_key="fairlane-a"), timeout_s=5)
        assert raw.requests == [
            {
                "model": "gpt-6.1-terra",
                "messages": [{"role": "system", "content": "rules"}, {"role": "user", "content": WORDS}],
                "max_completion_tokens": 600,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": SCHEMA_NAME, "schema": SCHEMA, "strict": True},
                },
                "service_tier": "default",
                "store": False,
                "prompt_cache_key": "fairlane-a",
            }
        ]

    async def test_sends_temperature_and_effort_only_when_asked_to(self) -> None:
        asked = replace(REQUEST, temperature=0.0, reasoning_effort="none", output_limit="max_tokens")
        async with provider(http(200, OK_BODY)) as (raw, llm):
            await llm.complete(asked, timeout_s=5)
        sent = raw.requests[0]
        assert (sent["temperature"], sent["reasoning_effort"], sent["max_tokens"]) == (0.0, "none", 600)
        assert "max_completion_tokens" not in sent

    async def test_works_again_after_being_closed(self) -> None:
        async with provider(http(200, OK_BODY)) as (raw, llm):
            await llm.complete(REQUEST, timeout_s=5)
            await llm.close()
            await llm.close()
            await llm.complete(REQUEST, timeout_s=5)
        assert len(raw.requests) == 2

    async def test_the_key_is_not_in_its_representation(self) -> None:
        assert KEY not in repr(OpenAiLlm(KEY, SystemClock()))


class TestAnswer:
    async def test_content_usage_tier_and_request_id_are_read(self) -> None:
        async with provider(http(200, OK_BODY, {"x-request-id": "req_1"})) as (_, llm):
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert answer.content == '{"reply":"สวัสดีค่ะ"}'
        assert answer.usage == Usage(input=1200, output=40, cached=1024, cache_write=100)
        assert answer.model == "gpt-6.1-terra-2026-10-26"
        assert (answer.finish_reason, answer.service_tier, answer.request_id) == ("stop", "default", "req_1")

    @pytest.mark.parametrize(
        ("choices", "finish_reason"),
        [
            ([], "no_choice"),
            ([{"index": 0, "finish_reason": "length", "message": {"content": None}}], "length"),
            ([{"index": 0, "finish_reason": "content_filter", "message": {"content": ""}}], "content_filter"),
            (
                [{"index": 0, "finish_reason": "stop", "message": {"content": "x", "refusal": "no"}}],
                "refusal",
            ),
        ],
    )
    async def test_an_answer_without_text_is_an_answer_since_it_was_billed(
        self, choices: list[Any], finish_reason: str
    ) -> None:
        async with provider(http(200, {**OK_BODY, "choices": choices})) as (_, llm):
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert (answer.content, answer.finish_reason) == ("", finish_reason)
        assert answer.usage
        assert answer.usage.input == 1200

    @pytest.mark.parametrize(
        "choice",
        [
            {"finish_reason": "stop", "message": None},
            {"finish_reason": "stop", "message": {"content": None}},
            {"finish_reason": "tool_calls", "message": {"content": ["x"], "tool_calls": []}},
            {"message": {"role": "assistant"}},
        ],
    )
    async def test_a_message_that_is_null_is_an_answer_whose_counts_are_read(self, choice: Any) -> None:
        async with provider(http(200, {**OK_BODY, "choices": [choice]})) as (_, llm):
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert (answer.content, answer.finish_reason) == ("", "null_message")
        assert answer.usage == Usage(input=1200, output=40, cached=1024, cache_write=100)

    @pytest.mark.parametrize(
        ("changes", "usage"),
        [
            ({"prompt_tokens": "1200", "completion_tokens": 40.0}, Usage(1200, 40)),
            ({"total_tokens": 1500}, Usage(1200, 300)),
            ({"completion_tokens": None, "total_tokens": 1240}, Usage(1200, 40)),
            ({"total_tokens": 7}, Usage(1200, 40)),
            ({"total_tokens": "many"}, Usage(1200, 40)),
            ({"completion_tokens": 0, "total_tokens": 0}, Usage(1200, 0)),
            ({"prompt_tokens_details": [1]}, Usage(1200, 40)),
            ({"prompt_tokens_details": {"cached_tokens": -1, "cache_write_tokens": "x"}}, Usage(1200, 40)),
            ({"prompt_tokens_details": {"cached_tokens": True}}, Usage(1200, 40)),
            ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
            ({"prompt_tokens": -1200}, None),
            ({"prompt_tokens": [1200]}, None),
            ({"prompt_tokens": 12.5}, None),
            ({"prompt_tokens": True}, None),
            ({"prompt_tokens": 10**30}, None),
            ({"completion_tokens": {"n": 40}, "total_tokens": None}, None),
        ],
    )
    async def test_a_count_of_any_type_is_a_count_or_none(
        self, changes: dict[str, Any], usage: Usage | None
    ) -> None:
        counts = {"prompt_tokens": 1200, "completion_tokens": 40, "total_tokens": 1240, **changes}
        async with provider(http(200, {**OK_BODY, "usage": counts})) as (_, llm):
            assert (await llm.complete(REQUEST, timeout_s=5)).usage == usage

    @pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 3}, [], "1200", 1200])
    async def test_an_answer_without_counts_says_so(self, usage: object) -> None:
        async with provider(http(200, {**OK_BODY, "usage": usage})) as (_, llm):
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert answer.usage is None

    async def test_a_model_without_a_cache_reports_none(self) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
        async with provider(http(200, {**OK_BODY, "usage": usage})) as (_, llm):
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert answer.usage == Usage(input=5, output=6)


class TestStatus:
    @pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 520, 529])
    async def test_what_passes_is_retryable(self, status: int) -> None:
        fault = await fault_of(error(status))
        assert (fault.fault, fault.status) == (LlmFault.RETRYABLE, status)

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    async def test_what_will_never_work_is_rejected(self, status: int) -> None:
        fault = await fault_of(error(status, "some_code"))
        assert (fault.fault, fault.status, fault.code) == (LlmFault.REJECTED, status, "some_code")

    async def test_a_429_passes(self) -> None:
        fault = await fault_of(error(429, "rate_limit_exceeded"))
        assert (fault.fault, fault.code) == (LlmFault.RATE_LIMITED, "rate_limit_exceeded")
        assert fault.retry_after_ms is None

    @pytest.mark.parametrize("status", [429, 403, 400])
    @pytest.mark.parametrize(
        "code",
        [
            "insufficient_quota",
            "credit_balance_exhausted",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
            "billing_hard_limit_reached",
        ],
    )
    async def test_a_quota_or_spend_limit_needs_an_operator(self, status: int, code: str) -> None:
        assert (await fault_of(error(status, code))).fault is LlmFault.QUOTA

    async def test_a_quota_may_stand_in_the_type_alone(self) -> None:
        assert (await fault_of(error(429, None, "insufficient_quota"))).fault is LlmFault.QUOTA

    async def test_a_proxys_html_page_is_judged_by_its_status(self) -> None:
        fault = await fault_of(http(502, b"<html>Bad gateway</html>", {"content-type": "text/html"}))
        assert (fault.fault, fault.code) == (LlmFault.RETRYABLE, None)

    @pytest.mark.parametrize(
        "error",
        [
            *[None, [], "slow down", 7, {}, {"code": ["x"], "type": {"a": 1}, "param": [1], "message": None}],
            *[
                {"code": 429, "type": []},
                {"code": {"insufficient_quota": 1}},
                {"code": "ลูกค้าถามว่า", "type": 1.5},
            ],
        ],
    )
    async def test_a_429_with_odd_fields_is_a_429(self, error: object) -> None:
        for body in ({"error": error}, error, [{"error": error}]):
            fault = await fault_of(http(429, body, {"retry-after": "2"}))
            assert (fault.fault, fault.status, fault.retry_after_ms) == (LlmFault.RATE_LIMITED, 429, 2000)
            assert fault.code in {None, "429", "7"}

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            ({"code": "insufficient_quota"}, LlmFault.QUOTA),
            ({"type": "project_spend_limit_exceeded", "code": 402}, LlmFault.QUOTA),
            ({"code": "rate_limit_exceeded"}, LlmFault.RATE_LIMITED),
            ({"code": 429, "message": "slow"}, LlmFault.RATE_LIMITED),
            ({"code": "429"}, LlmFault.RATE_LIMITED),
            ({"code": 502}, LlmFault.RETRYABLE),
            ({"code": 408}, LlmFault.RETRYABLE),
            ({"code": None, "type": "server_error"}, LlmFault.RETRYABLE),
            ({}, LlmFault.RETRYABLE),
            ("overloaded", LlmFault.RETRYABLE),
            ([1], LlmFault.RETRYABLE),
            ({"code": 401}, LlmFault.REJECTED),
            ({"code": "model_not_found"}, LlmFault.NO_MODEL),
            ({"type": "invalid_request_error", "code": {"x": 1}}, LlmFault.REJECTED),
        ],
    )
    async def test_an_error_in_a_200_is_judged_by_its_code_and_was_not_billed(
        self, error: object, expected: LlmFault
    ) -> None:
        shapes: list[dict[str, Any]] = [{}, {"choices": []}, {"choices": None, "usage": None}]
        for more in shapes:
            fault = await fault_of(http(200, {"error": error, **more}, {"retry-after": "2"}))
            assert (fault.fault, fault.retry_after_ms) == (expected, 2000)

    async def test_an_error_beside_an_answer_is_an_answer(self) -> None:
        async with provider(http(200, {**OK_BODY, "error": None})) as (_, llm):
            assert (await llm.complete(REQUEST, timeout_s=5)).usage
        async with provider(http(200, {**OK_BODY, "error": {"code": 502}})) as (_, llm):
            assert (await llm.complete(REQUEST, timeout_s=5)).usage


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "expected_ms"),
        [
            ({"retry-after": "7"}, 7000),
            ({"retry-after": "0.25"}, 250),
            ({"retry-after-ms": "1234"}, 1234),
            ({"retry-after-ms": "1500.4", "retry-after": "9"}, 1500),
            ({"retry-after": "-3"}, 0),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "1e300"}, 3_600_000),
            ({"retry-after-ms": "9" * 300}, 3_600_000),
            ({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, None),
            ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3_600_000),
            ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
            ({"retry-after-ms": "x", "retry-after": "2"}, 2000),
        ],
    )
    async def test_numbers_are_read(self, headers: dict[str, str], expected_ms: int | None) -> None:
        fault = await fault_of(error(429, headers=headers))
        assert (fault.fault, fault.retry_after_ms) == (LlmFault.RATE_LIMITED, expected_ms)

    async def test_a_date_counts_from_the_providers_clock(self) -> None:
        # The dates' difference counts, however far this machine's clock is from them.
        fault = await fault_of(
            error(
                503,
                headers={
                    "date": "Tue, 24 Nov 2026 10:00:00 GMT",
                    "retry-after": "Tue, 24 Nov 2026 10:00:12 GMT",
                },
            )
        )
        assert (fault.fault, fault.retry_after_ms) == (LlmFault.RETRYABLE, 12_000)

    async def test_a_date_without_the_providers_clock_counts_from_ours(self) -> None:
        later = datetime.fromtimestamp(SystemClock().now_ms() / 1000 + 30, UTC)
        fault = await fault_of(error(429, headers={"retry-after": format_datetime(later, usegmt=True)}))
        assert fault.retry_after_ms is not None
        assert 25_000 < fault.retry_after_ms <= 30_000


class TestConnection:
    async def test_a_refused_connection_was_never_billed(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        llm = OpenAiLlm(KEY, SystemClock(), f"http://127.0.0.1:{port}/v1")
        with pytest.raises(LlmError) as caught:
            await llm.complete(REQUEST, timeout_s=5)
        await llm.close()
        assert (caught.value.fault, caught.value.code) == (LlmFault.RETRYABLE, "no_connection")

    async def test_a_reset_after_sending_may_have_been_billed(self) -> None:
        async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

        fault = await fault_of(reset)
        assert (fault.fault, fault.code) == (LlmFault.AMBIGUOUS, "connection_lost")

    async def test_an_answer_cut_off_on_the_wire_may_have_been_billed(self) -> None:
        async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(http(200, OK_BODY)[:-30])
            await writer.drain()
            writer.close()

        fault = await fault_of(cut)
        assert (fault.fault, fault.code) == (LlmFault.AMBIGUOUS, "connection_lost")

    async def test_accepting_but_never_answering_ends_in_time_and_closes_the_connection(self) -> None:
        async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)  # until the client gives up

        began = asyncio.get_running_loop().time()
        async with provider(silence) as (raw, llm):
            with pytest.raises(LlmError) as caught:
                await llm.complete(REQUEST, timeout_s=0.3)
            took = asyncio.get_running_loop().time() - began
            await asyncio.wait_for(raw.closed_by_client.wait(), 2)
        assert (caught.value.fault, caught.value.code) == (LlmFault.AMBIGUOUS, "timeout")
        assert 0.25 < took < 1.0

    async def test_dripping_bytes_do_not_prolong_the_limit(self) -> None:
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in http(200, OK_BODY):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

        began = asyncio.get_running_loop().time()
        fault = await fault_of(drip, timeout_s=0.4)
        assert (fault.fault, fault.code) == (LlmFault.AMBIGUOUS, "timeout")
        assert asyncio.get_running_loop().time() - began < 1.2

    @pytest.mark.parametrize(
        "body",
        [
            b'{"id": "chatcmpl-1", "choices": [',
            b"null",
            b"[]",
            b'"hello"',
            b"",
            b'{"choices": [{"message": null}]}',
            b'{"choices": [{"message": "x"}, 7]}',
            b'{"choices": {"0": 1}}',
            b'{"object": "something else"}',
            b"<html>Welcome to the hotel's network</html>",
            b"[" * 100_000,
            b'{"usage": {"prompt_tokens": ' + b"9" * 5000,
            b"\xff\xfe\x00",
        ],
    )
    async def test_a_200_that_is_no_completion_may_have_been_billed(self, body: bytes) -> None:
        fault = await fault_of(http(200, body))
        assert (fault.fault, fault.code) == (LlmFault.AMBIGUOUS, "unreadable")

    @pytest.mark.parametrize(
        "around", [(b"", b"\n{}"), (b"\xef\xbb\xbf\n\n \r\n", b""), (b"", b"\0\0" + b" \n" * 9000)]
    )
    async def test_the_first_object_of_a_200_counts(self, around: tuple[bytes, bytes]) -> None:
        body = around[0] + json.dumps(OK_BODY).encode() + around[1]
        for kind in ("application/json", "text/html; charset=no-such", "application/octet-stream"):
            async with provider(http(200, body, {"content-type": kind})) as (_, llm):
                answer = await llm.complete(REQUEST, timeout_s=5)
            assert answer.usage
            assert parse_reply(answer.content, answer.finish_reason).reply == "สวัสดีค่ะ"

    async def test_cancelling_is_not_a_fault_and_closes_the_connection(self) -> None:
        async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)

        async with provider(silence) as (raw, llm):
            call = asyncio.create_task(llm.complete(REQUEST, timeout_s=5))
            while not raw.requests:  # noqa: ASYNC110  the server is in this loop
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(raw.closed_by_client.wait(), 2)


class TestLogs:
    async def test_neither_key_nor_words_are_logged_at_info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        async with provider(error(400, "invalid_value")) as (_, llm):
            with pytest.raises(LlmError):
                await llm.complete(REQUEST, timeout_s=5)
        assert KEY not in caplog.text
        assert "canary" not in caplog.text


@pytest.fixture(scope="module")
def mock_server() -> Iterator[LLMockServer]:
    with LLMockServer() as server:
        yield server


@pytest.fixture
def mock(mock_server: LLMockServer) -> LLMockServer:
    mock_server.state.scenarios.clear()
    return mock_server


@asynccontextmanager
async def client_of(server: LLMockServer) -> AsyncIterator[OpenAiLlm]:
    llm = OpenAiLlm(KEY, SystemClock(), server.base_url("openai"))
    try:
        yield llm
    finally:
        await llm.close()


class TestAgainstLlmock:
    """A server that nobody here wrote."""

    async def test_an_answer_by_our_schema_is_understood(self, mock: LLMockServer) -> None:
        prompt = build_prompt(Clinic("a", "A", "U1", "1"), Session(), CustomerMemory(), ["สวัสดีค่ะ"], Moment(0))
        request = replace(
            REQUEST, messages=prompt.messages, schema=prompt.schema, schema_name=prompt.schema_name
        )
        async with client_of(mock) as llm:
            answer = await llm.complete(request, timeout_s=5)
        assert answer.usage
        assert answer.usage.input > 0
        assert parse_reply(answer.content, answer.finish_reason).reply

    async def test_a_scripted_answer_comes_through(self, mock: LLMockServer) -> None:
        mock.state.scenarios.add(Reply(text='{"reply":"ค่ะ"}'))
        async with client_of(mock) as llm:
            answer = await llm.complete(REQUEST, timeout_s=5)
        assert parse_reply(answer.content, answer.finish_reason).reply == "ค่ะ"

    @pytest.mark.parametrize(
        ("status", "code", "fault"),
        [
            (429, None, LlmFault.RATE_LIMITED),
            (429, "insufficient_quota", LlmFault.QUOTA),
            (500, None, LlmFault.RETRYABLE),
            (503, None, LlmFault.RETRYABLE),
            (400, "context_length_exceeded", LlmFault.REJECTED),
            (401, None, LlmFault.REJECTED),
        ],
    )
    async def test_its_faults_are_named(
        self, mock: LLMockServer, status: int, code: str | None, fault: LlmFault
    ) -> None:
        mock.state.scenarios.add(Fail(status, code=code, retry_after=2 if status == 429 else None))
        async with client_of(mock) as llm:
            with pytest.raises(LlmError) as caught:
                await llm.complete(REQUEST, timeout_s=5)
        assert (caught.value.fault, caught.value.status) == (fault, status)
        assert caught.value.retry_after_ms == {429: 2000, 503: 1000}.get(status)

    async def test_its_delay_ends_at_our_limit(self, mock: LLMockServer) -> None:
        mock.state.scenarios.add(Delay(1.0))
        async with client_of(mock) as llm:
            with pytest.raises(LlmError) as caught:
                await llm.complete(REQUEST, timeout_s=0.2)
        assert caught.value.fault is LlmFault.AMBIGUOUS
