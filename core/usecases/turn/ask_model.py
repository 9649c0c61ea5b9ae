"""One answer from the model: attempts under slots, within a deadline, retrying only what can succeed.

This is the one layer that retries LLM calls: the SDK's own retries are off, and the queue never runs a turn
again once its fallback was sent (audit row 10).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from core.domain.errors import FairlaneError
from core.domain.model_reply import CUT_OFF, CutOffError, DeclinedError, SchemaError
from core.domain.settings import default
from core.ports import log
from core.ports.clock import Clock
from core.ports.llm import Llm, LlmAnswer, LlmError, LlmFault, LlmRequest
from core.ports.slots import (
    NoSlotError,
    Outcome,
    OutcomeKind,
    Refusal,
    Slot,
    SlotLostError,
    SlotRequest,
    Slots,
)

T = TypeVar("T")

_OUTCOMES = {
    LlmFault.RETRYABLE: OutcomeKind.FAILED,
    LlmFault.AMBIGUOUS: OutcomeKind.FAILED,
    LlmFault.RATE_LIMITED: OutcomeKind.RATE_LIMITED,
    LlmFault.QUOTA: OutcomeKind.QUOTA,
    LlmFault.REJECTED: OutcomeKind.NEUTRAL,
}


class AskFailedError(FairlaneError):
    """No answer will come: attempts or time are used up, or the failure is permanent. `reason` is short."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model gave no answer: {reason}")
        self.reason = reason


class _RetryError(FairlaneError):
    """This attempt failed; `wait_s` is the provider's own wish."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds. One time limit an attempt; the number of limits is the number of attempts."""

    attempt_timeouts_s: tuple[float, ...] = default("LLM_ATTEMPT_TIMEOUTS_S")
    deadline_s: float = default("LLM_DEADLINE_S")
    backoff_s: float = default("LLM_BACKOFF_S")
    jitter_s: float = default("LLM_JITTER_S")
    slot_wait_s: float = default("SLOT_WAIT_S")


@dataclass(slots=True)
class Bill:
    """What the attempts so far have cost or may have cost."""

    answered: list[LlmAnswer] = field(default_factory=list)
    ambiguous: int = 0
    attempts: int = 0
    waited_ms: int = 0

    @property
    def uncertain_or_paid(self) -> int:
        return len(self.answered) + self.ambiguous


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """`reserve` runs inside the first slot, before the first call: it books the worst case and returns the
    request (the model is decided there). `grow` books one more worst case and says whether there was room.
    `parse` turns an answer into a value or raises SchemaError or DeclinedError. `shorter` turns a request
    whose answer was cut off into one within the same worst case."""

    org_id: str
    ticket: str
    reserve: Callable[[], Awaitable[LlmRequest]]
    grow: Callable[[], Awaitable[bool]]
    parse: Callable[[LlmAnswer], T]
    shorter: Callable[[LlmRequest], LlmRequest]
    on_wait: Callable[[], Awaitable[None]]
    org_cap: int | None = None
    tokens: int = 0
    place: int | None = None


class AskModel:
    def __init__(
        self,
        llm: Llm,
        slots: Slots,
        clock: Clock,
        policy: RetryPolicy,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._llm = llm
        self._slots = slots
        self._clock = clock
        self._policy = policy
        self._jitter = jitter

    async def __call__(self, ask: Ask[T], bill: Bill) -> T:
        """The parsed answer; `bill` is filled in as attempts are made, also when this raises.

        Raises NoSlotError if no first attempt could start, or if the provider wants to be asked later than
        the deadline and nothing was billed (the turn may be put back), AskFailedError if it started and no
        answer will come.
        """
        run = _Run(self._llm, self._slots, self._clock, self._policy, ask, bill)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_RetryError),
            wait=self._wait,
            stop=run.must_stop,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            return await retrying(run.attempt)
        except _RetryError as exc:
            if exc.wait_s and exc.wait_s >= run.left_s() and not bill.uncertain_or_paid:
                raise NoSlotError(Refusal.COOLDOWN, round(exc.wait_s * 1000), run.place) from exc
            raise AskFailedError(exc.reason) from exc

    def _wait(self, state: RetryCallState) -> float:
        """Backoff 1, 2, 4 … plus jitter, or longer if the provider asked for it."""
        failure = state.outcome.exception() if state.outcome else None
        wish = failure.wait_s if isinstance(failure, _RetryError) else 0.0
        backoff = self._policy.backoff_s * 2.0 ** (state.attempt_number - 1)
        return max(backoff + self._jitter() * self._policy.jitter_s, wish)


class _Run(Generic[T]):
    """The attempts of one ask."""

    def __init__(
        self, llm: Llm, slots: Slots, clock: Clock, policy: RetryPolicy, ask: Ask[T], bill: Bill
    ) -> None:
        self._llm = llm
        self._slots = slots
        self._clock = clock
        self._policy = policy
        self._ask = ask
        self._bill = bill
        self._request: LlmRequest | None = None
        self._deadline: float | None = None
        self._booked = 1
        self.place = ask.place

    def must_stop(self, state: RetryCallState) -> bool:
        """No attempt is left, or the next one could not start before the deadline."""
        if state.attempt_number >= len(self._policy.attempt_timeouts_s):
            return True
        return self.left_s() <= state.upcoming_sleep

    def left_s(self) -> float:
        if self._deadline is None:
            return self._policy.deadline_s
        return self._deadline - self._clock.monotonic()

    async def attempt(self) -> T:
        """One attempt under one slot; the slot is free again during the backoff."""
        await self._book()
        try:
            async with self._slots.hold(self._slot_request(), on_wait=self._ask.on_wait) as slot:
                self.place = slot.place
                self._bill.waited_ms += slot.waited_ms
                answer = await self._call(slot)
        except NoSlotError as exc:
            # A turn that has begun is not put back, except when this process ends: another one goes on.
            if self._deadline is None or exc.reason is Refusal.DRAINING:
                raise
            raise AskFailedError(f"no_slot_{exc.reason.value}") from exc
        except SlotLostError as exc:
            raise _RetryError("slot_lost") from exc
        return self._parsed(answer)

    def _slot_request(self) -> SlotRequest:
        return SlotRequest(
            org_id=self._ask.org_id,
            ticket=f"{self._ask.ticket}/{self._bill.attempts + 1}",
            wait_s=min(self._policy.slot_wait_s, self.left_s()),
            org_cap=self._ask.org_cap,
            tokens=self._ask.tokens,
            place=self.place,
        )

    async def _book(self) -> None:
        """Money first: an attempt that was or may have been billed has used up what was held for it."""
        if self._deadline is None or self._bill.uncertain_or_paid < self._booked:
            return
        if not await self._ask.grow():
            raise AskFailedError("budget")
        self._booked += 1

    async def _call(self, slot: Slot) -> LlmAnswer:
        if self._request is None:
            self._request = await self._ask.reserve()
            self._deadline = self._clock.monotonic() + self._policy.deadline_s
        timeout_s = min(self._policy.attempt_timeouts_s[self._bill.attempts], max(self.left_s(), 0.05))
        self._bill.attempts += 1
        began = self._clock.monotonic()
        try:
            answer = await self._llm.complete(self._request, timeout_s=timeout_s)
        except LlmError as exc:
            slot.outcome = Outcome(_OUTCOMES[exc.fault], exc.retry_after_ms)
            self._log(began, exc.fault.value, status=exc.status, code=exc.code)
            self._bill.ambiguous += exc.fault is LlmFault.AMBIGUOUS
            reason = exc.code or (f"http_{exc.status}" if exc.status else exc.fault.value)
            if exc.fault in {LlmFault.QUOTA, LlmFault.REJECTED}:
                raise AskFailedError(reason) from exc
            raise _RetryError(reason, (exc.retry_after_ms or 0) / 1000) from exc
        except BaseException:
            # Cut off on its way (the slot was lost, this process ends): it may be billed.
            self._bill.ambiguous += 1
            raise
        used = answer.usage
        slot.outcome = Outcome(OutcomeKind.OK, tokens=used.input + used.output if used else None)
        self._bill.answered.append(answer)
        self._log(began, "ok", finish=answer.finish_reason)
        return answer

    def _parsed(self, answer: LlmAnswer) -> T:
        """The answer's value. One that can't be used is asked for once more, one that was cut off in another
        way: the same call would end like the first."""
        try:
            return self._ask.parse(answer)
        except DeclinedError as exc:
            raise AskFailedError(exc.reason) from exc
        except SchemaError as exc:
            reason = CUT_OFF if isinstance(exc, CutOffError) else "bad_answer"
            if len(self._bill.answered) > 1:
                raise AskFailedError(reason) from exc
            if self._request is not None and isinstance(exc, CutOffError):
                self._request = self._ask.shorter(self._request)
            raise _RetryError(reason) from exc

    def _log(self, began: float, outcome: str, **fields: object) -> None:
        log.info(
            "llm.attempt",
            attempt=self._bill.attempts,
            outcome=outcome,
            model=self._request.model if self._request else None,
            duration_ms=round((self._clock.monotonic() - began) * 1000),
            **fields,
        )
