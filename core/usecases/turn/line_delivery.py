"""A finished reply goes to LINE exactly once: by reply token while it is fresh, else by push.

A push carries a retry key, so LINE itself accepts it once. A reply has nothing of the kind but its token,
which LINE takes once: after a reply that may have been accepted, only the same reply is tried again, and
never a push (LINE Developers, "Retry failed API requests").

Messages that LINE refuses as such (400) are sent once more as bare text, by the same token or under the same
retry key: if LINE has accepted them after all, it does not accept these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from core.domain.errors import ChannelUnavailableError, FairlaneError, LineUnavailableError
from core.domain.event import TOKEN_FRESH_MS
from core.domain.messages import bare, retry_key
from core.domain.turn import DELIVERY_UNKNOWN, UNDELIVERABLE
from core.ports import log
from core.ports.clock import Clock
from core.ports.line import ChannelCredentials, Line, LineError, LineFault, LineMessage, Sent

REPLY, PUSH, NONE = "reply", "push", "none"

_BACKOFF_S = 0.25
_MAX_WAIT_S = 4.0
_LAST_TRY_S = 6.0  # no try begins later; with the client's own limit of 5 s all ends after 11 s

_WITH_RETRY_AFTER = (LineError, ChannelUnavailableError)
_ALERTS = {
    LineFault.QUOTA: "line.quota_exhausted",
    LineFault.UNAUTHORIZED: "line.unauthorized",
}

Call = Callable[[Sequence[LineMessage]], Awaitable[Sent]]
Mark = Callable[[str | None], Awaitable[None]]
"""Stores how LINE may have accepted this turn ("reply", "push"), or None: it certainly has not."""


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """`token_age_ms` since the token's event arrived here, by the corrected clock; a redelivered event brings
    a fresh token. `called_before`: how an earlier run of this turn may have reached LINE, from the journal.
    `push_allowed` False: worth a free reply only (the budget message)."""

    channel: ChannelCredentials
    chat_id: str
    messages: Sequence[LineMessage] = field(repr=False)
    turn_id: str
    reply_token: str | None = field(default=None, repr=False)
    token_age_ms: int = 0
    called_before: str | None = None
    push_allowed: bool = True

    @property
    def route(self) -> str:
        """What is called first: the journal marks the turn with it beforehand."""
        if self.called_before:
            return self.called_before
        if self.reply_token and token_is_fresh(self.token_age_ms):
            return REPLY
        return PUSH if self.push_allowed else NONE


@dataclass(frozen=True, slots=True)
class Delivered:
    """`presumed`: LINE's own word is missing, but its refusal of a fresh token means that it accepted before.
    `failure`: why it is not delivered, and will not be without a person's decision."""

    how: str
    message_ids: tuple[str, ...] = ()
    presumed: bool = False
    failure: str | None = None


def token_is_fresh(age_ms: int) -> bool:
    return age_ms <= TOKEN_FRESH_MS


class LineDelivery:
    def __init__(self, line: Line, clock: Clock) -> None:
        self._line = line
        self._clock = clock

    async def __call__(self, delivery: DeliveryRequest, mark: Mark) -> Delivered:
        """Deliver now, within about 11 s, or raise LineUnavailableError (ChannelUnavailableError, if the
        trouble is this channel's alone): to be tried again later.

        The journal holds `delivery.route` when this is called. `mark` corrects it: before a reply gives way
        to a push, and when a reply that certainly was not accepted must be tried again later, or by another
        instance. Without that, the next run would presume a reply that no one has.
        """
        try:
            if delivery.route == REPLY:
                return await self._reply(delivery, mark)
            if delivery.route == PUSH:
                return await self._push(delivery)
        except ChannelUnavailableError:
            raise
        except LineUnavailableError as exc:
            if await self._is_up(delivery.channel):
                raise ChannelUnavailableError(f"of this chat alone: {exc}") from exc
            raise
        return Delivered(NONE)

    async def _is_up(self, channel: ChannelCredentials) -> bool:
        """Does LINE answer something else? Then what it fails at is one chat's trouble, not everybody's."""
        try:
            await self._line.bot_info(channel)
        except LineError as exc:
            return exc.fault is not LineFault.AMBIGUOUS
        except LineUnavailableError:
            return False
        return True

    async def _reply(self, delivery: DeliveryRequest, mark: Mark) -> Delivered:
        doubt = _Doubt(delivery.called_before is not None)
        token = delivery.reply_token
        if token is None:  # the journal lost it: whether the reply arrived can't be asked any more
            return _unknown()
        call = partial(self._line.reply, delivery.channel, token)
        try:
            sent = await self._sent(call, delivery.messages, doubt)
        except LineUnavailableError:
            if not doubt.exists:
                await mark(None)
            raise
        except asyncio.CancelledError:
            if not doubt.exists:
                with suppress(FairlaneError):  # a cancellation is heard of, whatever becomes of the mark
                    await mark(None)
            raise
        except LineError as exc:
            if exc.fault is not LineFault.INVALID_TOKEN:
                return _failed(exc)
            if doubt.exists:
                return _presumed() if token_is_fresh(delivery.token_age_ms) else _unknown()
            if not delivery.push_allowed:
                return Delivered(NONE)
            await mark(PUSH)
            return await self._push(delivery)
        return _done(REPLY, sent)

    async def _push(self, delivery: DeliveryRequest) -> Delivered:
        key = retry_key(delivery.turn_id)
        call = partial(self._line.push, delivery.channel, delivery.chat_id, retry_key=key)
        try:
            sent = await self._sent(call, delivery.messages, _Doubt())
        except LineError as exc:
            return _failed(exc)
        return _done(PUSH, sent)

    async def _sent(self, call: Call, messages: Sequence[LineMessage], doubt: _Doubt) -> Sent:
        """Repeat the same call while that can help, with bare text once LINE refuses the messages as such.
        Raises LineError if it never can help, LineUnavailableError if it did not in this time; `doubt` then
        says whether LINE may have accepted, also after a cancellation."""
        began = self._clock.monotonic()

        def too_late(state: RetryCallState) -> bool:
            return self._clock.monotonic() - began + state.upcoming_sleep > _LAST_TRY_S

        retrying = AsyncRetrying(
            retry=retry_if_exception(_passes),
            wait=_wait_s,
            stop=too_late,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt, doubt.watching():
                    sent = await call(messages)
        except LineError as exc:
            if _passes(exc):
                raise _unavailable(exc) from exc
            text = bare(messages)
            if exc.fault is not LineFault.REJECTED or exc.status != 400 or text == list(messages):
                raise
            log.warning("line.bare_text", detail=str(exc))
        else:
            return sent
        return await self._sent(call, text, doubt)


@dataclass(slots=True)
class _Doubt:
    """May LINE have accepted, although no call of ours has heard so?"""

    exists: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """One call."""
        try:
            yield
        except LineError as exc:
            if exc.fault is LineFault.AMBIGUOUS:
                self.exists = True
                log.warning("line.ambiguous", status=exc.status)
            raise
        except asyncio.CancelledError:
            self.exists = True
            raise


def _passes(failure: BaseException) -> bool:
    """Can the same call succeed later?"""
    if isinstance(failure, LineError):
        return failure.fault in {LineFault.AMBIGUOUS, LineFault.RATE_LIMITED}
    return isinstance(failure, LineUnavailableError)


def _unavailable(exc: LineError) -> LineUnavailableError:
    if exc.fault is LineFault.RATE_LIMITED:
        return ChannelUnavailableError(f"LINE: {exc}", retry_after_ms=exc.retry_after_ms)
    return LineUnavailableError(f"LINE: {exc}")


def _wait_s(state: RetryCallState) -> float:
    """0.25, 0.5, 1 … seconds, or as long as LINE asks for; beyond `_LAST_TRY_S` the queue waits."""
    failure = state.outcome.exception() if state.outcome else None
    asked_s = (failure.retry_after_ms or 0) / 1000 if isinstance(failure, _WITH_RETRY_AFTER) else 0.0
    backoff: float = _BACKOFF_S * 2.0 ** (state.attempt_number - 1)
    return max(asked_s, min(backoff, _MAX_WAIT_S))


def _done(how: str, sent: Sent) -> Delivered:
    log.info("line.delivered", how=how, messages=len(sent.message_ids), duplicate=sent.duplicate)
    return Delivered(how, sent.message_ids)


def _presumed() -> Delivered:
    log.warning("line.delivery_presumed", how=REPLY)
    return Delivered(REPLY, presumed=True)


def _unknown() -> Delivered:
    """LINE may have accepted the reply before its token ran out, or not: a person decides whether it is sent
    again."""
    log.error("line.delivery_unknown", how=REPLY)
    return Delivered(NONE, failure=DELIVERY_UNKNOWN)


def _failed(exc: LineError) -> Delivered:
    log.error(_ALERTS.get(exc.fault, "line.rejected"), status=exc.status, detail=str(exc))
    return Delivered(NONE, failure=f"{UNDELIVERABLE}: {exc.fault.value}")
