"""One task of the queue: lead the conversation and answer what waits, or put the event back.

Returning means that the task is finished with: its event was answered, or recorded as failed, or has a
successor in the queue. An exception means that the queue must send the task again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from core.domain.errors import (
    ChannelUnavailableError,
    FairlaneError,
    RedisUnavailableError,
    UnavailableError,
)
from core.domain.event import Conversation, EventKind
from core.domain.session import Session
from core.domain.task import TurnTask
from core.ports import log
from core.ports.backlog import Backlog
from core.ports.clock import CorrectableClock
from core.ports.mailbox import AlreadyDone, Delay, Held, Lead, Mailbox, NotYet, Waiting
from core.ports.slots import NoSlotError, Refusal, Slots
from core.ports.tasks import TaskQueue
from core.usecases.journal.entries import ContendedError, TurnMovedError
from core.usecases.turn.answer import Answer
from core.usecases.turn.context import Turn
from core.usecases.turn.give_up import GiveUp
from core.usecases.turn.read_marks import ReadMarks

_SOON_MS = 100
_BEHIND_MS = 1_000
_OURS = frozenset({Refusal.TAKEN, Refusal.DRAINING})
"""Refusals that say nothing about the clinic's line."""


class LeadLostError(FairlaneError):
    """The conversation's lease was lost: somebody else may lead, this turn must stop."""


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """`lease_s`: the conversation's. `lead_for_s`: how long one task goes on with what arrives meanwhile.
    `drain_s`: how long running turns may go on after SIGTERM (the platform allows 10 s in all).
    `patience_s`: no event is put back beyond it; then its customer is told. `channel_pause_s`: how long a
    stored reply waits for its channel at LINE at a time; `channel_patience_s`: until its event is so old."""

    lease_s: float
    patience_s: float
    lead_for_s: float = 45.0
    drain_s: float = 6.0
    channel_pause_s: float = 5.0
    channel_patience_s: float = 600.0


class _Heart:
    """Renews a lease in the background. Whoever gives the lease up holds the lock and stops it: a renewal in
    between would take a turn that has just ended for one that was taken over."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.beating: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.beating:
            self.beating.cancel()


class RunTurn:
    def __init__(
        self,
        mailbox: Mailbox,
        tasks: TaskQueue,
        slots: Slots,
        backlog: Backlog,
        answer: Answer,
        give_up: GiveUp,
        clock: CorrectableClock,
        marks: ReadMarks,
        policy: RunPolicy,
    ) -> None:
        self._mailbox = mailbox
        self._tasks = tasks
        self._slots = slots
        self._backlog = backlog
        self._answer = answer
        self._give_up = give_up
        self._clock = clock
        self._marks = marks
        self._policy = policy
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, task: TurnTask) -> None:
        """Raises UnavailableError when a dependency is down, DefectAfterCallError when it must end."""
        running = asyncio.create_task(self._run(task))
        self._running.add(running)
        try:
            await running
        finally:
            self._running.discard(running)
            running.cancel()

    async def give_up(self, task: TurnTask, reason: str) -> None:
        """End as failed what a defect keeps from being answered (see core.usecases.turn.give_up); an operator
        can replay it. Raises UnavailableError."""
        try:
            await self._give_up(task.event, task.trace, reason)
        except ChannelUnavailableError as exc:
            await self._put_back(task, self._channel_pause(task, exc), "channel")
        except TurnMovedError:
            await self._put_back(task, round(self._policy.lease_s * 1000), "lost")
        except ContendedError as exc:
            await self._put_back(task, exc.retry_after_ms, "contended")

    async def record_malformed(self, body: bytes, reason: str) -> None:
        """Keep a trace of a task that fairlane did not write. Best effort: the log has it in any case."""
        with suppress(UnavailableError, TurnMovedError, ContendedError):
            await self._give_up.record_malformed(body, reason)

    async def drain(self) -> None:
        """Hand back what waits, let what runs finish, and after `drain_s` put back what still runs."""
        waiters = asyncio.create_task(self._slots.drain())
        if self._running:
            await asyncio.wait({waiters, *self._running}, timeout=self._policy.drain_s)
        for running in self._running:
            running.cancel("draining")
        if self._running:
            await asyncio.wait(self._running, timeout=1.5)

    async def _run(self, task: TurnTask) -> None:
        event = task.event
        if event.kind == EventKind.UNSEND and event.message_id:
            await self._mailbox.remove(event.conversation, event.message_id)
        begun = await self._mailbox.begin(event)
        self._clock.correct(begun.now_ms)
        match begun:
            case AlreadyDone():
                log.info("turn.duplicate")
            case Held():
                await self._put_back(task, begun.lease_ms + 100, "held")
            case NotYet():
                if begun.reason is Delay.REDIS_LOST:
                    self._slots.check_now()
                await self._put_back(task, begun.wait_ms, begun.reason.value)
            case Lead():
                await self._lead(task, begun)
                await self._marks.settled()

    async def _lead(self, task: TurnTask, lead: Lead) -> None:
        """Answer what waits, then what arrived meanwhile. The event has a successor in the queue if it is not
        answered now."""
        try:
            async with self._leading(task.event.conversation, lead.fence) as heart:
                own_is_done = await self._answer_all(task, lead, heart)
            if not own_is_done:
                await self._put_back(task, 0, "not_yet")
        except NoSlotError as exc:
            await self._put_back(task, await self._due_in(task, exc), exc.reason.value, exc.place)
        except LeadLostError as exc:
            log.warning("turn.lost", reason=type(exc).__name__, detail=str(exc))
            # Whoever leads the conversation now takes the event along if it is there in time.
            await self._put_back(task, _SOON_MS, "lost")
        except TurnMovedError as exc:
            log.warning("turn.lost", reason=type(exc).__name__, detail=str(exc))
            # Who has the turn itself goes on with it for nobody knows how long.
            await self._put_back(task, round(self._policy.lease_s * 1000), "lost")
        except ContendedError as exc:
            # Its clinic's day alone is busy: a 503 would slow the queue for all.
            await self._put_back(task, exc.retry_after_ms, "contended", task.place)
        except ChannelUnavailableError as exc:
            await self._wait_for_channel(task, exc)
        except asyncio.CancelledError:
            await self._put_back(task, 0, "draining")

    async def _answer_all(self, task: TurnTask, lead: Lead, heart: _Heart) -> bool:
        """Round by round. Whether the task's own event is done: finishing what an earlier leader left behind
        may take all the time. What waits besides it has tasks of its own."""
        conversation, session = task.event.conversation, Session.decode(lead.session)
        until = self._clock.monotonic() + self._policy.lead_for_s
        own_is_done = False
        waiting: Waiting | None = lead.waiting
        while waiting and waiting.events:
            turn = Turn(
                conversation=conversation,
                fence=lead.fence,
                waiting=waiting,
                session=session,
                trace=task.trace,
                leader_id=task.event.event_id,
                place=task.place,
            )
            answered = await self._answer(turn)
            session = answered.session
            own_is_done = own_is_done or task.event.event_id in answered.done_ids
            go_on = self._clock.monotonic() < until
            async with heart.lock:
                waiting = await self._mailbox.finish(
                    conversation, lead.fence, answered.done_ids, session=session.encode(), go_on=go_on
                )
                if not (waiting and waiting.events):
                    heart.stop()
        if waiting is None:
            raise LeadLostError("the conversation was taken over before the turn was finished")
        return own_is_done

    @asynccontextmanager
    async def _leading(self, conversation: Conversation, fence: int) -> AsyncIterator[_Heart]:
        """Renew the lease while the body runs, cancel the body when it is lost, and give the lease up if the
        body does not end by itself. A lease that can't be given up runs out."""
        body = asyncio.current_task()
        lost = False
        heart = _Heart()

        async def beat() -> None:
            nonlocal lost
            held_until = self._clock.monotonic() + self._policy.lease_s
            while self._clock.monotonic() < held_until:
                await self._clock.sleep(self._policy.lease_s / 3)
                asked = self._clock.monotonic()
                try:
                    async with heart.lock:
                        if not await self._mailbox.renew(conversation, fence):
                            break
                except RedisUnavailableError:
                    continue  # the lease may still stand; it is lost for certain only when it has run out
                held_until = asked + self._policy.lease_s
            lost = True
            if body:
                body.cancel()

        heart.beating = asyncio.create_task(beat())
        ended = False
        try:
            yield heart
            ended = True
        except asyncio.CancelledError:
            if lost and body and body.uncancel() == 0:
                raise LeadLostError("the conversation's lease was lost") from None
            raise
        finally:
            heart.stop()
            if not ended:
                try:
                    await self._mailbox.finish(conversation, fence, ())
                except RedisUnavailableError:
                    log.info("turn.lease_left")

    async def _wait_for_channel(self, task: TurnTask, refused: ChannelUnavailableError) -> None:
        """The reply is stored, and a successor delivers it: one clinic's trouble at LINE must not slow the
        queue for all, as a 503 would."""
        age_ms = self._clock.now_ms() - task.event.arrived_ms
        if age_ms > self._policy.channel_patience_s * 1000:
            log.warning("line.channel_unavailable", detail=str(refused))
            await self.give_up(task, "channel_unavailable")
        else:
            await self._put_back(task, self._channel_pause(task, refused), "channel")

    def _channel_pause(self, task: TurnTask, refused: ChannelUnavailableError) -> int:
        """As long as LINE asks for, and ever longer, since each try is one of the queue's dispatches."""
        first_ms = self._policy.channel_pause_s * 1000
        retry_after_ms = first_ms if refused.retry_after_ms is None else refused.retry_after_ms
        age_ms = self._clock.now_ms() - task.event.arrived_ms
        return round(min(max(retry_after_ms, first_ms / 5, age_ms / 4), first_ms * 12))

    async def _due_in(self, task: TurnTask, refused: NoSlotError) -> int:
        """In ms: when its place in the clinic's backlog is due, or its patience ends: a circuit may stay open
        for longer (if an operator closes it, what waits is brought forward). An event past patience can still
        be here: it waits behind a turn whose messages are younger."""
        until_ms = task.event.arrived_ms + round(self._policy.patience_s * 1000) + 50
        until_ms = max(until_ms, self._clock.now_ms() + _BEHIND_MS)
        hint_ms = min(refused.retry_after_ms, until_ms - self._clock.now_ms())
        if refused.reason in _OURS:
            return hint_ms
        successor = task.successor(refused.place)
        try:
            return await self._backlog.again(successor, shut_ms=hint_ms, patience_until_ms=until_ms)
        except RedisUnavailableError:
            return hint_ms

    async def _put_back(self, task: TurnTask, delay_ms: int, reason: str, place: int | None = None) -> None:
        """A successor first, then this task may end: the event is never without a task."""
        await self._tasks.create(task.successor(place), delay_ms=delay_ms)
        log.info("turn.putback", reason=reason, delay_ms=delay_ms, hop=task.hop + 1)
