"""One reply from the model: attempts under slots, within a deadline, retrying only what can succeed.

This is the one layer that retries LLM calls: the SDK's own retries are off, and the queue never runs a turn
again once its fallback was sent.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from core.domain.errors import FairlaneError
from core.domain.model_reply import CUT_OFF, CutOffError, DeclinedError, ModelReply, SchemaError, parse_reply
from core.domain.price_guard import PriceGuard
from core.domain.role_manager import asked_for_less, asked_without
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
from core.usecases.turn.hold import AskFailedError, Hold, OtherProviderError, Uncovered
from core.usecases.turn.quote import Bill, BilledCall

OUTCOMES = {
    LlmFault.RETRYABLE: OutcomeKind.FAILED,
    LlmFault.AMBIGUOUS: OutcomeKind.FAILED,
    LlmFault.RATE_LIMITED: OutcomeKind.RATE_LIMITED,
    LlmFault.QUOTA: OutcomeKind.QUOTA,
    LlmFault.NO_MODEL: OutcomeKind.NEUTRAL,
    LlmFault.REJECTED: OutcomeKind.NEUTRAL,
}


_KEY_REFUSED = frozenset({401, 403})
_REFUSED_S = 0.1
_UNKNOWN_S = 60.0
"""How long a model that its provider does not know is not asked again, where another one can be."""


class AskAgainError(FairlaneError):
    """No customer may read this answer. One more attempt, which asks `amended`, may bring another."""

    def __init__(self, reason: str, amended: LlmRequest) -> None:
        super().__init__(reason)
        self.reason = reason
        self.amended = amended


class UncoveredError(AskAgainError):
    def __init__(self, uncovered: Uncovered, amended: LlmRequest) -> None:
        super().__init__("uncovered_amounts", amended)
        self.uncovered = uncovered


class _RetryError(FairlaneError):
    """This attempt failed; the provider asks for `wait_s` before the next one. `refused`: it was no attempt,
    since nothing was done. `elsewhere`: the next one asks another provider, which has done nothing to be
    spared for."""

    def __init__(
        self, reason: str, wait_s: float = 0.0, *, refused: bool = False, elsewhere: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.refused = refused
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds. One time limit an attempt; the number of limits is the number of attempts."""

    attempt_timeouts_s: tuple[float, ...] = default("LLM_ATTEMPT_TIMEOUTS_S")
    deadline_s: float = default("LLM_DEADLINE_S")
    backoff_s: float = default("LLM_BACKOFF_S")
    jitter_s: float = default("LLM_JITTER_S")
    slot_wait_s: float = default("SLOT_WAIT_S")


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
        self._unknown_until: dict[str, float] = {}

    async def __call__(
        self,
        hold: Hold,
        slot_request: SlotRequest,
        on_wait: Callable[[], Awaitable[None]],
        guard: PriceGuard | None = None,
    ) -> ModelReply:
        """The reply; `hold.bill` is filled in as attempts are made, also when this raises. The slot is free
        during a backoff. `guard`: holds back what it does not cover; `hold.uncovered` has it then.

        Raises NoSlotError if no first attempt could start, or if the provider wants to be asked later than
        the deadline and nothing was billed (the turn may be put back), AskFailedError if it started and no
        answer will come; and what Hold.reserve raises.
        """
        deadline = _Deadline(self._clock, self._policy.deadline_s)
        hold.out |= {model for model, until in self._unknown_until.items() if self._clock.monotonic() < until}
        try:
            async for attempt in self._attempts(hold.bill, deadline):
                with attempt:
                    await hold.cover()
                    provider = hold.provider
                    async with self._slot(slot_request, hold, deadline, on_wait) as slot:
                        slot_request = replace(slot_request, place=slot.place)
                        request = await _reserved(hold, provider)
                        deadline.begin()
                        answer = await self._call(request, slot, hold, deadline)
                    reply = _reply(answer, request, hold, guard)
        except _RetryError as exc:
            may_wait = exc.refused or (exc.wait_s and exc.wait_s >= deadline.left_s)
            if may_wait and not hold.bill.uncertain_or_paid:
                retry_ms = round(max(exc.wait_s, self._policy.backoff_s) * 1000)
                raise NoSlotError(Refusal.COOLDOWN, retry_ms, slot_request.place) from exc
            raise AskFailedError(exc.reason) from exc
        return reply

    def _attempts(self, bill: Bill, deadline: _Deadline) -> AsyncRetrying:
        """Until no attempt is left, or the next one could not start before the deadline. In between: 1, 2,
        4 … seconds plus jitter, or longer if the provider asked for it. What was refused waits a moment: its
        slot is what it really waits for. The first attempt elsewhere waits for nothing."""
        refusals = 0

        def must_stop(state: RetryCallState) -> bool:
            if bill.attempts >= len(self._policy.attempt_timeouts_s):
                return True
            return deadline.left_s <= state.upcoming_sleep

        def wait_s(state: RetryCallState) -> float:
            nonlocal refusals
            failure = state.outcome.exception() if state.outcome else None
            assert isinstance(failure, _RetryError)  # noqa: S101  nothing else is tried again
            backoff_s = self._policy.backoff_s * 2.0 ** max(0, bill.attempts - 1)
            if failure.elsewhere and bill.attempts <= 1:
                return 0.0
            if failure.refused:
                refusals += 1
                backoff_s = min(self._policy.backoff_s, _REFUSED_S * 2.0 ** (refusals - 1))
            return max(backoff_s + self._jitter() * min(self._policy.jitter_s, backoff_s), failure.wait_s)

        return AsyncRetrying(
            retry=retry_if_exception_type(_RetryError),
            wait=wait_s,
            stop=must_stop,
            sleep=self._clock.sleep,
            reraise=True,
        )

    @asynccontextmanager
    async def _slot(
        self, wanted: SlotRequest, hold: Hold, deadline: _Deadline, on_wait: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[Slot]:
        bill = hold.bill
        request = replace(
            wanted,
            ticket=f"{wanted.ticket}/{bill.attempts + 1}",
            wait_s=min(self._policy.slot_wait_s, deadline.left_s),
            provider=hold.provider,
            can_go_elsewhere=hold.other_model is not None,
        )
        try:
            async with self._slots.hold(request, on_wait=on_wait) as slot:
                bill.waited_ms += slot.waited_ms
                yield slot
        except NoSlotError as exc:
            if request.can_go_elsewhere and exc.reason is Refusal.CIRCUIT:
                raise _gone_elsewhere(hold, hold.quote.models_of(request.provider), "circuit") from exc
            # A turn that has begun is not put back, unless nothing was done for it yet, or this process ends:
            # another one goes on.
            if not deadline.runs or not bill.attempts or exc.reason is Refusal.DRAINING:
                raise
            raise AskFailedError(f"no_slot_{exc.reason.value}") from exc
        except SlotLostError as exc:
            raise _RetryError("slot_lost") from exc

    async def _call(self, request: LlmRequest, slot: Slot, hold: Hold, deadline: _Deadline) -> LlmAnswer:
        bill = hold.bill
        timeout_s = min(self._policy.attempt_timeouts_s[bill.attempts], max(deadline.left_s, 0.05))
        bill.attempts, bill.asked = bill.attempts + 1, request.model
        began = self._clock.monotonic()

        def note(outcome: str, **fields: object) -> None:
            duration_ms = round((self._clock.monotonic() - began) * 1000)
            _log(bill.attempts, outcome, request.model, duration_ms, fields)

        try:
            answer = await self._llm.complete(request, timeout_s=timeout_s)
        except LlmError as exc:
            slot.outcome = Outcome(OUTCOMES[exc.fault], exc.retry_after_ms)
            note(exc.fault.value, status=exc.status, code=exc.code)
            if exc.fault is LlmFault.AMBIGUOUS:
                bill.calls.append(BilledCall(request.model))
            raise self._after(exc, hold, deadline) from exc
        except BaseException:
            # Cut off on its way (the slot was lost, this process ends): it may be billed.
            bill.calls.append(BilledCall(request.model))
            raise
        used = answer.usage
        slot.outcome = Outcome(OutcomeKind.OK, tokens=used.input + used.output if used else None)
        bill.calls.append(BilledCall(request.model, answer))
        note("ok", finish=answer.finish_reason)
        return answer

    def _after(self, exc: LlmError, hold: Hold, deadline: _Deadline) -> FairlaneError:
        """How a turn goes on whose attempt failed."""
        bill, model = hold.bill, hold.model
        wait_s = (exc.retry_after_ms or 0) / 1000
        reason = exc.code or (f"http_{exc.status}" if exc.status else exc.fault.value)
        if exc.fault is LlmFault.NO_MODEL:
            log.error("model.not_found", model=model, status=exc.status, code=exc.code)
            self._unknown_until[model] = self._clock.monotonic() + _UNKNOWN_S
            hold.out.add(model)
        if exc.fault is LlmFault.RATE_LIMITED and wait_s < deadline.left_s:
            bill.attempts -= 1
            return _RetryError(reason, wait_s, refused=True)
        if (exc.fault.is_providers or exc.status in _KEY_REFUSED) and hold.turn_to_other():
            log.warning("llm.elsewhere", model=hold.model, instead_of=model, reason=reason)
            return _RetryError(reason, elsewhere=True)
        if exc.fault is LlmFault.RATE_LIMITED:
            bill.attempts -= 1
            return _RetryError(reason, wait_s, refused=True)
        if exc.fault in {LlmFault.QUOTA, LlmFault.NO_MODEL, LlmFault.REJECTED}:
            return AskFailedError(reason)
        return _RetryError(reason, wait_s)


def examined(answer: LlmAnswer, request: LlmRequest, guard: PriceGuard | None = None) -> ModelReply:
    """The reply, if a customer may read it. Every check of a reply stands here; one that asks again says how.

    Raises AskAgainError, DeclinedError. No amended request may be longer than the one that
    core.usecases.turn.quote computes the worst case from. An answer that was cut off is asked for in another
    way: the same call would end like the first.
    """
    try:
        reply = parse_reply(answer.content, answer.finish_reason)
    except CutOffError as exc:
        raise AskAgainError(CUT_OFF, replace(request, messages=asked_for_less(request.messages))) from exc
    except SchemaError as exc:
        raise AskAgainError("bad_answer", request) from exc
    amounts = guard.uncovered(reply.reply, reply.quick_replies) if guard else ()
    if amounts:
        amended = replace(request, messages=asked_without(request.messages, amounts))
        raise UncoveredError(Uncovered(reply, amounts), amended)
    return reply


async def _reserved(hold: Hold, provider: str) -> LlmRequest:
    try:
        return await hold.reserve(provider)
    except OtherProviderError as exc:
        raise _RetryError("other_provider", elsewhere=True) from exc


def _gone_elsewhere(hold: Hold, models: set[str], reason: str) -> _RetryError:
    """These can't be asked now: the next attempt asks the other model. Nothing was done yet."""
    instead_of, turned = hold.model, hold.turn_to_other()
    hold.out |= models
    log.info("llm.elsewhere", model=hold.model, instead_of=instead_of, reason=reason, turned=turned)
    return _RetryError(reason, elsewhere=True)


def _reply(answer: LlmAnswer, request: LlmRequest, hold: Hold, guard: PriceGuard | None) -> ModelReply:
    """The examined reply. The next attempt asks what the examination wants to know, once a turn; and once
    more where an amount that nothing covers stood in it."""
    try:
        return examined(answer, request, guard)
    except DeclinedError as exc:
        raise AskFailedError(exc.reason) from exc
    except UncoveredError as exc:
        is_first, hold.uncovered, hold.request = hold.uncovered is None, exc.uncovered, exc.amended
        raise (_RetryError if is_first else AskFailedError)(exc.reason) from exc
    except AskAgainError as exc:
        if len(hold.bill.answered) > 1:
            raise AskFailedError(exc.reason) from exc
        hold.request = exc.amended
        raise _RetryError(exc.reason) from exc


class _Deadline:
    """Of all attempts and backoffs; it runs from the reservation on."""

    def __init__(self, clock: Clock, within_s: float) -> None:
        self._clock = clock
        self._within_s = within_s
        self._until: float | None = None

    @property
    def runs(self) -> bool:
        return self._until is not None

    @property
    def left_s(self) -> float:
        return self._within_s if self._until is None else self._until - self._clock.monotonic()

    def begin(self) -> None:
        if self._until is None:
            self._until = self._clock.monotonic() + self._within_s


def _log(attempt: int, outcome: str, model: str, duration_ms: int, fields: Mapping[str, object]) -> None:
    log.info("llm.attempt", attempt=attempt, outcome=outcome, model=model, duration_ms=duration_ms, **fields)
