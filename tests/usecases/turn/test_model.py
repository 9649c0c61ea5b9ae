"""Attempts, backoff, time limits and money of one question to the model, by a clock that tests can turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from core.domain.role_manager import asked_for_less
from core.ports.llm import LlmAnswer, LlmError, LlmFault, LlmRequest, Usage
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, Refusal, SlotLostError, SlotRequest
from core.usecases.turn.hold import AskFailedError, Hold
from core.usecases.turn.model import AskModel, RetryPolicy
from core.usecases.turn.quote import Bill, BilledCall
from tests.support.clock import FakeClock
from tests.support.holds import PROMPT, a_hold

REQUEST = SlotRequest("bkk-smile", "turn/1", 0)
GOOD = LlmAnswer('{"reply": "good"}', Usage(10, 5), "gpt", "stop")
BROKEN = LlmAnswer("broken", Usage(10, 5), "gpt", "stop")
CUT = LlmAnswer("cut", Usage(10, 100), "gpt", "length")


def fault(kind: LlmFault, retry_after_s: float | None = None) -> LlmError:
    after_ms = None if retry_after_s is None else round(retry_after_s * 1000)
    return LlmError(kind, kind.value, status=500, retry_after_ms=after_ms)


@dataclass
class HeldSlot:
    request: SlotRequest
    outcome: Outcome | None = None
    waited_ms: int = 40
    place: int = 7


@dataclass
class Scene:
    """The model's answers in order; a float is a call that hangs for that long (or until its limit)."""

    clock: FakeClock
    answers: Sequence[LlmAnswer | Exception | float]
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    no_slot_at: int | None = None
    refusal: Refusal = Refusal.WAITED
    lost_at: int | None = None
    room: bool = True
    limits_s: list[float] = field(default_factory=list)
    began_s: list[float] = field(default_factory=list)
    slots: list[HeldSlot] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    requests: list[LlmRequest] = field(default_factory=list)
    held: Hold = field(default_factory=a_hold)

    async def complete(self, request: LlmRequest, *, timeout_s: float) -> LlmAnswer:
        answer = self.answers[len(self.limits_s)]
        self.limits_s.append(timeout_s)
        self.requests.append(request)
        self.began_s.append(self.clock.monotonic())
        self.steps.append("call")
        if isinstance(answer, float):
            self.clock.advance(min(answer, timeout_s))
            raise fault(LlmFault.AMBIGUOUS)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @asynccontextmanager
    async def hold(
        self, request: SlotRequest, *, on_wait: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[HeldSlot]:
        if len(self.slots) == self.no_slot_at:
            raise NoSlotError(self.refusal, 500, place=7)
        self.slots.append(HeldSlot(request))
        self.steps.append("slot")
        if len(self.slots) - 1 == self.lost_at:
            raise SlotLostError("lost before the call")
        try:
            yield self.slots[-1]
        finally:
            self.steps.append("free")

    def check_now(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...

    async def ask(self) -> str:
        async def wait() -> None: ...

        self.held = a_hold(self.steps, room=self.room)
        model = AskModel(self, self, self.clock, self.policy, jitter=lambda: 0.5)
        return (await model(self.held, REQUEST, wait)).reply

    @property
    def bill(self) -> Bill:
        return self.held.bill


async def failure(scene: Scene) -> str:
    with pytest.raises(AskFailedError) as caught:
        await scene.ask()
    return caught.value.reason


async def test_good_answer_takes_one_slot_and_reserves_inside_it(clock: FakeClock) -> None:
    scene = Scene(clock, [GOOD])
    assert await scene.ask() == "good"
    assert scene.steps == ["slot", "reserve", "call", "free"]
    assert scene.limits_s == [8]
    assert scene.slots[0].outcome == Outcome(OutcomeKind.OK, tokens=15)
    model = scene.held.record.money.model
    assert scene.bill == Bill([BilledCall(model, GOOD)], attempts=1, waited_ms=40, asked=model)


async def test_three_attempts_with_doubling_backoff_and_the_slot_free_meanwhile(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.RETRYABLE)] * 3)
    assert await failure(scene) == "http_500"
    gaps = [b - a for a, b in zip(scene.began_s, scene.began_s[1:], strict=False)]
    assert gaps == [1.25, 2.25]  # 1 and 2 seconds, and half of the jitter
    assert scene.steps == ["slot", "reserve", "call", "free"] + ["slot", "call", "free"] * 2
    assert scene.bill.attempts == 3
    assert scene.bill.uncertain_or_paid == 0
    assert [slot.request.ticket for slot in scene.slots] == ["turn/1/1", "turn/1/2", "turn/1/3"]
    assert [slot.request.place for slot in scene.slots] == [None, 7, 7]


async def test_attempts_that_never_answer_end_within_the_deadline(clock: FakeClock) -> None:
    scene = Scene(clock, [60.0] * 3)
    began = clock.monotonic()
    await failure(scene)
    assert scene.limits_s == [8, 10, pytest.approx(29 - 8 - 1.25 - 10 - 2.25)]
    assert clock.monotonic() - began <= 29
    assert scene.bill.ambiguous == 3


async def test_provider_s_wish_is_waited_for_if_it_is_longer_than_the_backoff(clock: FakeClock) -> None:
    busy = LlmError(LlmFault.RETRYABLE, "503", status=503, retry_after_ms=5_000)
    soon = LlmError(LlmFault.RETRYABLE, "503", status=503, retry_after_ms=100)
    scene = Scene(clock, [busy, soon, GOOD])
    assert await scene.ask() == "good"
    assert scene.began_s[1] - scene.began_s[0] == 5
    assert scene.began_s[2] - scene.began_s[1] == 2.25


async def test_refused_calls_are_no_attempts_and_wait_for_a_slot_again(clock: FakeClock) -> None:
    refused = [fault(LlmFault.RATE_LIMITED)] * 6
    scene = Scene(clock, [*refused, fault(LlmFault.RETRYABLE), *refused, fault(LlmFault.RETRYABLE), GOOD])
    assert await scene.ask() == "good"
    assert scene.bill.attempts == 3
    assert scene.limits_s == [8] * 7 + [10] * 7 + [pytest.approx(10)]
    assert scene.steps[1:] == ["reserve", *["call", "free", "slot"] * 14, "call", "free"]
    assert all(slot.request.place == 7 for slot in scene.slots[1:])
    assert scene.slots[0].outcome == Outcome(OutcomeKind.RATE_LIMITED)


async def test_provider_s_wish_with_a_refusal_is_waited_for_without_a_slot(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.RATE_LIMITED, 5), GOOD])
    assert await scene.ask() == "good"
    assert scene.began_s[1] - scene.began_s[0] == 5
    assert scene.slots[0].outcome == Outcome(OutcomeKind.RATE_LIMITED, 5000)


async def test_calls_that_are_refused_until_the_deadline_are_the_queues_to_wait_for(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.RATE_LIMITED)] * 100)
    began = clock.monotonic()
    with pytest.raises(NoSlotError) as raised:
        await scene.ask()
    assert raised.value.reason is Refusal.COOLDOWN
    assert clock.monotonic() - began <= 29


async def test_wish_past_the_deadline_is_the_queues_to_wait_for_if_nothing_was_billed(
    clock: FakeClock,
) -> None:
    scene = Scene(clock, [fault(LlmFault.RATE_LIMITED, 29)])
    began = clock.monotonic()
    with pytest.raises(NoSlotError) as raised:
        await scene.ask()
    assert (raised.value.reason, raised.value.retry_after_ms) == (Refusal.COOLDOWN, 29_000)
    assert raised.value.place is not None
    assert clock.monotonic() == began


async def test_wish_past_the_deadline_after_an_attempt_that_may_be_billed_ends_it_at_once(
    clock: FakeClock,
) -> None:
    scene = Scene(clock, [fault(LlmFault.AMBIGUOUS), fault(LlmFault.RATE_LIMITED, 29)])
    await failure(scene)
    assert scene.bill.ambiguous == 1


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(LlmFault.QUOTA, OutcomeKind.QUOTA), (LlmFault.REJECTED, OutcomeKind.NEUTRAL)],
)
async def test_what_can_never_succeed_is_not_tried_again(
    clock: FakeClock, kind: LlmFault, outcome: OutcomeKind
) -> None:
    scene = Scene(clock, [fault(kind)])
    await failure(scene)
    assert scene.bill.attempts == 1
    assert scene.slots[0].outcome == Outcome(outcome)


async def test_hold_grows_before_an_ambiguous_attempt_is_repeated(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.AMBIGUOUS), fault(LlmFault.RETRYABLE), GOOD])
    assert await scene.ask() == "good"
    assert scene.steps == [
        *("slot", "reserve", "call", "free"),
        *("grow", "slot", "call", "free"),  # the first may have been billed
        *("slot", "call", "free"),  # the second was not: what is held still covers the third
    ]
    assert scene.bill.ambiguous == 1


async def test_budget_that_has_no_room_for_a_repetition_ends_it(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.AMBIGUOUS), GOOD], room=False)
    assert await failure(scene) == "budget"
    assert scene.bill.attempts == 1


async def test_answer_that_breaks_the_schema_is_repeated_once_and_both_are_billed(clock: FakeClock) -> None:
    scene = Scene(clock, [BROKEN, GOOD])
    assert await scene.ask() == "good"
    assert scene.bill.answered == [BROKEN, GOOD]
    assert "grow" in scene.steps
    scene = Scene(clock, [BROKEN, BROKEN, GOOD])
    assert await failure(scene) == "bad_answer"
    assert scene.bill.attempts == 2


async def test_answer_that_was_cut_off_is_asked_for_once_more_in_another_way(clock: FakeClock) -> None:
    scene = Scene(clock, [CUT, GOOD])
    assert await scene.ask() == "good"
    assert scene.bill.answered == [CUT, GOOD]
    assert "grow" in scene.steps
    first, second = scene.requests
    assert first.messages == PROMPT.messages
    assert second == replace(first, messages=asked_for_less(PROMPT.messages))


@pytest.mark.parametrize(
    ("answers", "reason"), [([CUT, CUT], "length"), ([CUT, BROKEN], "bad_answer"), ([BROKEN, CUT], "length")]
)
async def test_two_answers_that_cannot_be_used_end_it_by_the_reason_of_the_second(
    clock: FakeClock, answers: list[LlmAnswer], reason: str
) -> None:
    scene = Scene(clock, [*answers, GOOD])
    assert await failure(scene) == reason
    assert scene.bill.attempts == 2


@pytest.mark.parametrize("reason", ["refusal", "content_filter", "null_message"])
async def test_model_that_declines_is_not_asked_again(clock: FakeClock, reason: str) -> None:
    scene = Scene(clock, [LlmAnswer("", Usage(10, 5), "gpt", reason), GOOD])
    assert await failure(scene) == reason
    assert scene.bill.attempts == 1


async def test_no_slot_for_the_first_attempt_leaves_nothing_behind(clock: FakeClock) -> None:
    scene = Scene(clock, [], no_slot_at=0)
    with pytest.raises(NoSlotError):
        await scene.ask()
    assert scene.steps == []


async def test_no_slot_for_a_repetition_ends_it(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.RETRYABLE)], no_slot_at=1)
    assert await failure(scene) == "no_slot_waited"


async def test_slot_that_is_lost_in_the_middle_counts_as_ambiguous(clock: FakeClock) -> None:
    scene = Scene(clock, [SlotLostError("lost"), GOOD])
    assert await scene.ask() == "good"
    assert scene.bill.ambiguous == 1
    assert scene.bill.attempts == 2
    assert "grow" in scene.steps


async def test_slot_that_is_lost_before_the_call_costs_nothing(clock: FakeClock) -> None:
    scene = Scene(clock, [GOOD], lost_at=0)
    assert await scene.ask() == "good"
    assert scene.bill.ambiguous == 0
    assert "grow" not in scene.steps


async def test_process_that_ends_hands_a_repetition_on(clock: FakeClock) -> None:
    scene = Scene(clock, [fault(LlmFault.RETRYABLE)], no_slot_at=1, refusal=Refusal.DRAINING)
    with pytest.raises(NoSlotError):
        await scene.ask()
