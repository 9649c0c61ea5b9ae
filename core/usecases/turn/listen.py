"""A turn's voice messages, written down: inside a slot and the turn's hold, three tries, once a message.

What was written down is stored at once, with its cost: whatever fails afterwards, it is not paid again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from core.domain.media import MediaState, words_bytes
from core.domain.role_manager import shortened
from core.domain.turn import TurnEvent
from core.domain.visible import looks_empty
from core.ports import log
from core.ports.clock import Clock
from core.ports.llm import LlmError, LlmFault
from core.ports.slots import NoSlotError, OutcomeKind, Refusal, Slot, SlotLostError, SlotRequest, Slots
from core.ports.slots import Outcome as SlotOutcome
from core.ports.transcriber import Transcriber
from core.usecases.turn.hold import AskFailedError, Hold
from core.usecases.turn.model import OUTCOMES, RetryPolicy
from core.usecases.turn.quote import Heard

_ITS_OWN_FAULT: Final = frozenset({400, 413, 415, 422})
"""The provider's answers to a recording that it can't read."""


class Listen:
    """`model`: what writes down."""

    def __init__(
        self,
        transcriber: Transcriber,
        slots: Slots,
        clock: Clock,
        policy: RetryPolicy,
        model: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._transcriber = transcriber
        self._slots = slots
        self._clock = clock
        self._policy = policy
        self._model = model
        self._jitter = jitter

    async def __call__(
        self,
        hold: Hold,
        request: SlotRequest,
        on_wait: Callable[[], Awaitable[None]],
        voices: Mapping[str, bytes],
    ) -> int | None:
        """The place under which the slot was waited for; `hold.record` has the words then.

        Raises NoSlotError if no first try could start, AskFailedError if the provider does not write down
        what it could, and what Hold.reserve raises.
        """
        heard = Heard()
        try:
            return await self._tries(hold, request, on_wait, voices, heard)
        finally:
            if await hold.reserved():
                await hold.listened(heard)

    async def _tries(
        self,
        hold: Hold,
        request: SlotRequest,
        on_wait: Callable[[], Awaitable[None]],
        voices: Mapping[str, bytes],
        heard: Heard,
    ) -> int | None:
        until = self._clock.monotonic() + self._policy.deadline_s
        tries = len(self._policy.attempt_timeouts_s)
        for number, timeout_s in enumerate(self._policy.attempt_timeouts_s, 1):
            wanted = replace(
                request, ticket=f"{request.ticket}/voice/{number}", wait_s=self._policy.slot_wait_s, tokens=0
            )
            try:
                async with self._slots.hold(wanted, on_wait=on_wait) as slot:
                    request = replace(request, place=slot.place)
                    await hold.claim()
                    hold.bill.waited_ms += slot.waited_ms
                    await self._write_down(hold, slot, voices, heard, timeout_s)
                break
            except NoSlotError as exc:
                if number == 1 or exc.reason is Refusal.DRAINING:
                    raise
                raise AskFailedError(f"no_slot_{exc.reason.value}") from exc
            except (LlmError, SlotLostError) as exc:
                pause_s = self._pause_s(exc, number)
                if number == tries or self._clock.monotonic() + pause_s >= until:
                    raise AskFailedError(f"voice_{_reason(exc)}") from exc
                await self._clock.sleep(pause_s)
        return request.place

    async def _write_down(
        self, hold: Hold, slot: Slot, voices: Mapping[str, bytes], heard: Heard, timeout_s: float
    ) -> None:
        """All that is left. Raises LlmError of what may be tried again, AskFailedError of what may not."""
        events = {event.id: event for event in hold.quote.media.voices}
        for event_id, audio in voices.items():
            if event_id not in heard.states:
                await self._one(hold, slot, events[event_id], audio, heard, timeout_s)

    async def _one(
        self, hold: Hold, slot: Slot, event: TurnEvent, audio: bytes, heard: Heard, timeout_s: float
    ) -> None:
        began = self._clock.monotonic()
        worst = hold.quote.listening_to(event)
        try:
            transcript = await self._transcriber.transcribe(self._model, audio, timeout_s=timeout_s)
        except LlmError as exc:
            slot.outcome = SlotOutcome(OUTCOMES[exc.fault], exc.retry_after_ms)
            self._log(exc.fault.value, began, status=exc.status, code=exc.code)
            if exc.fault is LlmFault.AMBIGUOUS:
                heard.ambiguous += 1
                heard.ambiguous_cost += worst
                await hold.cover_listening(worst)
            if exc.fault is LlmFault.REJECTED and exc.status in _ITS_OWN_FAULT:
                heard.states[event.id] = MediaState.UNREADABLE
                return
            if exc.fault in {LlmFault.QUOTA, LlmFault.NO_MODEL, LlmFault.REJECTED}:
                raise AskFailedError(f"voice_{_reason(exc)}") from exc
            raise
        except BaseException:
            # Cut off on its way (the slot was lost, this process ends): it may be billed.
            heard.ambiguous += 1
            heard.ambiguous_cost += worst
            raise
        slot.outcome = SlotOutcome(OutcomeKind.OK)
        words = shortened(transcript.text.strip(), words_bytes(event))
        heard.states[event.id] = MediaState.EMPTY if looks_empty(words) else MediaState.HEARD
        heard.words[event.id] = "" if looks_empty(words) else words
        heard.cost += hold.quote.written_down(event, transcript)
        heard.seconds += hold.quote.seconds_of(event, transcript)
        self._log("ok", began, seconds=float(hold.quote.seconds_of(event, transcript)))

    def _pause_s(self, exc: LlmError | SlotLostError, number: int) -> float:
        asked_s = (exc.retry_after_ms or 0) / 1000 if isinstance(exc, LlmError) else 0.0
        backoff_s = self._policy.backoff_s * 2.0 ** (number - 1)
        return max(backoff_s + self._jitter() * self._policy.jitter_s, asked_s)

    def _log(self, outcome: str, began: float, **fields: object) -> None:
        duration_ms = round((self._clock.monotonic() - began) * 1000)
        log.info("voice.attempt", outcome=outcome, model=self._model, duration_ms=duration_ms, **fields)


def _reason(exc: LlmError | SlotLostError) -> str:
    if isinstance(exc, SlotLostError):
        return "slot_lost"
    return exc.code or (f"http_{exc.status}" if exc.status else exc.fault.value)
