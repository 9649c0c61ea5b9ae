"""Answer a turn again that failed or got stuck: safe to repeat, never a second reply to an answered event.

A replay is a new event, `{turn}-r{n}`, in the queue. If the turn's reply is stored but LINE did not accept
it, or if the turn is stuck, the event is claimed for the turn beforehand: whoever leads the conversation then
finishes that turn, and no second answer is paid. Otherwise the customer's words are answered in a new turn.
"""

from __future__ import annotations

import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from core.domain.event import ChatType, EventKind, InboundEvent
from core.domain.event_kinds import rules_of
from core.domain.task import TurnTask
from core.domain.turn import CLAIMS, COLLECTION, FORGOTTEN, UNDELIVERABLE, TurnRecord, TurnState, claim
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, DocumentStore, Key, Merge, Write
from core.ports.tasks import TaskQueue
from core.usecases.journal.entries import Stored

STUCK_MS = 600_000
"""A turn that has not ended so long after its last step has no leader any more."""
_TRIES = 10


class Outcome(StrEnum):
    FINISHING = "finishing"  # the turn itself goes on: its stored reply is pushed, or its call is made
    NEW_TURN = "new turn"  # the customer's words are answered in a new turn
    UNDER_WAY = "under way"  # it has a leader, or its replay waits in the queue
    ANSWERED = "answered"  # a reply was delivered: nothing is sent
    IGNORED = "ignored"  # fairlane kept silent on purpose: nothing is sent
    FORGOTTEN = "forgotten"  # the customer's words were erased: nothing is left to answer
    UNKNOWN = "unknown"  # not in the journal


_NOTHING_TO_DO = {TurnState.DELIVERED: Outcome.ANSWERED, TurnState.IGNORED: Outcome.IGNORED}


@dataclass(frozen=True, slots=True)
class Replay:
    """`turn_id` as asked for. `by`: the turn that has answered, or will. `event_id`: what was enqueued."""

    turn_id: str
    outcome: Outcome
    by: str | None = None
    event_id: str | None = None

    @property
    def refused(self) -> bool:
        return self.outcome in {Outcome.FORGOTTEN, Outcome.UNKNOWN}


class ReplayTurn:
    def __init__(self, documents: DocumentStore, tasks: TaskQueue, clock: Clock) -> None:
        self._documents = documents
        self._tasks = tasks
        self._clock = clock

    async def __call__(self, turn_id: str, *, dry_run: bool = False) -> Replay:
        """`dry_run`: say what would be done. Raises UnavailableError; repeating is safe after it, too."""
        for _ in range(_TRIES):
            try:
                return await self._replay(turn_id, dry_run=dry_run)
            except ConflictError:  # another replay, or a leader: look again
                await self._clock.sleep(random.uniform(0.005, 0.05))
        raise ConflictError(f"turn {turn_id!r} keeps changing: try again")

    async def _replay(self, turn_id: str, *, dry_run: bool) -> Replay:
        asked = await self._read(turn_id)
        if asked is None:
            return Replay(turn_id, Outcome.UNKNOWN)
        stored, owner = await self._latest(asked)
        record = stored.record
        outcome, event_id = self._decide(record, owner)
        if not dry_run and outcome in {Outcome.FINISHING, Outcome.NEW_TURN}:
            await self._documents.commit(self._begun(stored, outcome, str(event_id)))
        if not dry_run and event_id:
            await self._tasks.create(self._task(record, event_id))
        by = event_id if outcome is Outcome.NEW_TURN else record.id
        return Replay(turn_id, outcome, by, event_id)

    def _decide(self, record: TurnRecord, owner: str | None) -> tuple[Outcome, str | None]:
        """What is to be done about the latest turn, and the event to enqueue. `owner`: whose turn its latest
        replay belongs to."""
        if record.state in _NOTHING_TO_DO:
            return _NOTHING_TO_DO[record.state], None
        if not record.state.final and self._clock.now_ms() - _last_step_ms(record) < STUCK_MS:
            # A replay whose task did not reach the queue gets it now; names de-duplicate.
            return Outcome.UNDER_WAY, record.replayed_as if owner else None
        if not _answerable(record):
            return Outcome.FORGOTTEN, None
        if not record.state.final or _is_undeliverable(record):
            return Outcome.FINISHING, _next_id(record)
        if record.replayed_as and owner is None:
            return Outcome.UNDER_WAY, record.replayed_as
        return Outcome.NEW_TURN, _next_id(record)

    async def _latest(self, stored: Stored) -> tuple[Stored, str | None]:
        """The turn that a turn's replays have led to, and who owns the latest replay's event. An event may
        have been answered in the turn of another one that came with it: its claim tells."""
        while True:
            record = stored.record
            if not record.replayed_as:
                return stored, None
            (claimed,) = await self._documents.get_many([Key(CLAIMS, record.replayed_as)])
            owner = str(claimed.data["turn_id"]) if claimed else None
            later = await self._read(owner) if owner and owner != record.id else None
            if later is None or later.record.state is TurnState.IGNORED:
                return stored, owner  # a replay that was met with silence answered nothing
            stored = later

    async def _read(self, turn_id: str) -> Stored | None:
        (document,) = await self._documents.get_many([Key(COLLECTION, turn_id)])
        return Stored(TurnRecord.decode(turn_id, document.data), document.version) if document else None

    def _begun(self, stored: Stored, outcome: Outcome, event_id: str) -> Sequence[Write]:
        """One commit: from now on every repetition finds this replay."""
        record = stored.record
        changes: dict[str, Any] = {"replayed_as": event_id, "replayed_ms": self._clock.now_ms()}
        if outcome is Outcome.NEW_TURN:
            return [_merge(stored, changes)]
        if record.state is TurnState.FAILED:
            # LINE has refused it, or nobody knows and a person has decided: it goes by push. A stuck turn
            # keeps its mark and token: its reply may have arrived, and then only the same reply can be tried.
            answered = {"state": TurnState.ANSWERED.value, "failure": None}
            changes |= {**answered, "delivering": None, "reply_token": None}
        return [_merge(stored, changes), Create(Key(CLAIMS, event_id), claim(record))]

    def _task(self, record: TurnRecord, event_id: str) -> TurnTask:
        """Arrived now, without a reply token: answered by push."""
        now_ms, words, newest = self._clock.now_ms(), _words(record), record.events[-1]
        is_kept = bool(newest.text or newest.note)
        event = InboundEvent(
            event_id=event_id,
            org_id=record.org_id,
            chat_id=record.chat_id,
            kind=EventKind.TEXT if words else newest.kind,
            timestamp_ms=now_ms,
            arrived_ms=now_ms,
            channel=record.channel,
            chat_type=cast(ChatType, record.chat_type),
            user_id=record.user_id,
            text=words,
            # Of a single message, so that its unsending finds the replay as well; of the newest picture or
            # voice message if there are no words, so that it is fetched again. What was taken back has none.
            message_id=newest.message_id if is_kept and (len(record.events) == 1 or not words) else None,
            duration_ms=newest.duration_ms,
            external=bool(newest.external),
            mentioned=record.chat_type != "user",  # the turn was for us, and so is its replay
        )
        return TurnTask(event, record.trace or secrets.token_hex(16))


def _merge(stored: Stored, changes: dict[str, Any]) -> Merge:
    return Merge(Key(COLLECTION, stored.record.id), changes, if_version=stored.version)


def _words(record: TurnRecord) -> str:
    return "\n".join(event.text for event in record.events if event.text)


def _is_undeliverable(record: TurnRecord) -> bool:
    return (record.failure or "").startswith(UNDELIVERABLE)


def _answerable(record: TurnRecord) -> bool:
    """Is there anything left to send or answer? A picture never had words; a text without any was erased."""
    if record.state is TurnState.ANSWERED:
        return True  # without a reply it only has to be marked as delivered
    if _is_undeliverable(record):
        return bool(record.reply)
    had_words = any(rules_of(event.kind).has_words for event in record.events)
    return record.failure != FORGOTTEN and (bool(_words(record)) or not had_words)


def _last_step_ms(record: TurnRecord) -> int:
    steps = (record.created_ms, record.reserved_ms, record.answered_ms, record.replayed_ms)
    return max(step for step in steps if step is not None)


def _next_id(record: TurnRecord) -> str:
    """`{turn}-r1`, then `-r2`: ids that no other replay has."""
    last = record.replayed_as or record.id
    found = re.fullmatch(r"(.+)-r(\d+)", last)
    return f"{found[1]}-r{int(found[2]) + 1}" if found else f"{last}-r1"
