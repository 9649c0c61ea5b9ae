"""Ten thousand answers that a broken model could give: each costs one more call at most, and what is said to
the customer can be read. Below the socket for speed; a part of them through the real client."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.adapters.openai_llm import OpenAiLlm
from core.adapters.system_clock import SystemClock
from core.domain.messages import reply_messages
from core.domain.model_reply import SCHEMA, SCHEMA_NAME, ModelReply
from core.domain.prompt import Message
from core.local.http_server import HttpServer, Request, Response
from core.ports.llm import LlmAnswer, LlmError, LlmFault, LlmRequest, Usage
from core.ports.slots import Outcome, SlotRequest
from core.usecases.turn.hold import AskFailedError, Hold
from core.usecases.turn.model import AskModel, RetryPolicy
from tests.support.clock import FakeClock
from tests.support.holds import a_hold
from tests.support.readable import faults_of_messages

REQUEST = LlmRequest("gpt-6.1-terra", [Message("user", "ราคาเท่าไหร่คะ")], 600, SCHEMA_NAME, SCHEMA)
GOOD = json.dumps(
    {
        "reply": "**ขูดหินปูน** 900 บาทค่ะ 😀 [จอง](https://clinic.example/q)",
        "service": "ขูดหินปูน",
        "area": None,
        "stage": "advising",
        "preference": None,
        "facts": [{"key": "nickname", "value": "เมย์", "because": "ชื่อเมย์"}],
        "handoff": {"needed": True, "reason": "x"},
        "quick_replies": ["จอง", "ราคา"],
    },
    ensure_ascii=False,
)
PIECES = [
    *[
        '"',
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\\",
        "\\u0000",
        "\\ud83d",
        "\x00",
        "\n" * 50,
        " " * 200,
        "null",
        "true",
        "```json\n",
    ],
    *[
        "\u200b",
        "\u200d",
        "\ufeff",
        "](",
        "**",
        "<b>",
        "1e999",
        "NaN",
        "-",
        "9" * 400,
        "[" * 3000,
        GOOD,
        '"reply"',
    ],
]
ENDINGS = [
    "stop",
    "stop",
    "stop",
    "length",
    "content_filter",
    "refusal",
    "null_message",
    "no_choice",
    "tool_calls",
    "x",
]


def mutated(dice: random.Random) -> str:
    text = GOOD
    for _ in range(dice.randint(1, 4)):
        at, upto = sorted(dice.choices(range(len(text) + 1), k=2))
        upto = min(upto, at + dice.choice([0, 1, 20, 500]))
        text = dice.choice(
            [
                text[:at] + dice.choice(PIECES) + text[upto:],
                text[:at] + text[upto:],
                text[:at],
                text[at:] or text,
                text[:at] + text[at:upto] * 3 + text[upto:],
            ]
        )
    return text


@dataclass
class HeldSlot:
    outcome: Outcome | None = None
    waited_ms: int = 0
    place: int = 0


@dataclass
class Model:
    """Gives the same answer again and again, whatever it is asked."""

    answer: LlmAnswer
    asked: list[LlmRequest] = field(default_factory=list)

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        self.asked.append(request)
        return self.answer

    @asynccontextmanager
    async def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[HeldSlot]:
        yield HeldSlot()

    def check_now(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


async def ask(model: Model, clock: FakeClock, hold: Hold) -> ModelReply:
    async def wait() -> None: ...

    ask_model = AskModel(model, model, clock, RetryPolicy(), jitter=lambda: 0.5)
    return await ask_model(hold, SlotRequest("bkk-smile", "turn/1", 0), wait)


async def test_ten_thousand_mutated_answers_cost_at_most_one_more_call_each(clock: FakeClock) -> None:
    dice = random.Random(13)
    ends: Counter[str] = Counter()
    for _ in range(10_000):
        answer = LlmAnswer(mutated(dice), Usage(10, 5), "gpt", dice.choice(ENDINGS))
        model, hold = Model(answer), a_hold()
        try:
            reply = await ask(model, clock, hold)
            end, calls = "reply", 1  # an answer that is good now was good at once
            messages = reply_messages(reply.reply, reply.quick_replies)
            assert faults_of_messages(messages) == []
        except AskFailedError as failed:
            end = failed.reason
            calls = 2 if end in {"bad_answer", "length"} else 1
        ends[end] += 1
        assert hold.bill.attempts == len(model.asked) == calls
        assert hold.bill.uncertain_or_paid == len(model.asked)
        if len(model.asked) == 2 and answer.finish_reason == "length":
            assert model.asked[0] != model.asked[1], "the same call would be cut off in the same way"
    assert set(ends) == {
        "reply",
        "bad_answer",
        "length",
        "content_filter",
        "refusal",
        "null_message",
        "no_choice",
    }


numbers = st.integers() | st.floats() | st.text(max_size=4) | st.none() | st.booleans()
anything = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["code", "type", "message", "content"]), inner, max_size=3)
    ),
    max_leaves=5,
)
usages = anything | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": anything | st.just(1200),
        "completion_tokens": anything | st.just(40),
        "total_tokens": anything,
        "prompt_tokens_details": anything | st.fixed_dictionaries({"cached_tokens": anything}),
    },
)
messages = anything | st.fixed_dictionaries(
    {}, optional={"content": anything | st.just(GOOD), "refusal": anything, "role": anything}
)
choices = anything | st.lists(
    anything | st.fixed_dictionaries({}, optional={"message": messages, "finish_reason": anything}),
    max_size=2,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "choices": choices,
        "usage": usages,
        "error": anything,
        "model": anything,
        "service_tier": anything,
    },
)


@settings(max_examples=100)
@given(
    bodies | anything,
    st.sampled_from([200, 200, 200, 429, 500, 400]),
    st.sampled_from(["", "\n{}", "\0", " \n" * 300]),
)
async def test_whatever_the_provider_sends_is_an_answer_or_a_named_fault(
    body: Any, status: int, behind: str
) -> None:
    async def handle(_: Request) -> Response:
        return Response(
            status, json.dumps(body).encode() + behind.encode(), {"content-type": "application/json"}
        )

    server = HttpServer(handle)
    await server.start()
    llm = OpenAiLlm("sk-x", SystemClock(), f"{server.url}/v1")
    try:
        answer, fault = await llm.complete(REQUEST, timeout_s=5), None
    except LlmError as failed:
        answer, fault = None, failed
    finally:
        await llm.close()
        await server.stop()
    if fault is not None:
        assert status == 200 or (fault.fault is LlmFault.RATE_LIMITED) == (status == 429)
        assert fault.code is None or len(fault.code) <= 64
    else:
        assert status == 200
        assert answer is not None
        assert isinstance(answer.content, str)
        usage = answer.usage or Usage(1, 0)
        counts = (usage.input, usage.output, usage.cached, usage.cache_write)
        assert all(type(count) is int and count >= 0 for count in counts)
        assert usage.input > 0
