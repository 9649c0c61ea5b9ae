"""A turn's commits: each is made once, whatever the store says of it.

The store may answer with an error although a commit was made, and a busy document may refuse one for a while.
So every commit writes an id of its own into the turn, its `operation`. After any failure the turn is read
again: the id tells whether the commit was made. If it was not, it is proposed anew, on what was read, after a
pause that grows; when its time is over, the failure is raised. What the turn counts in its clinic's day is
part of the same commit.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.domain.errors import DocumentsUnavailableError
from core.domain.turn import TurnRecord
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, Document, DocumentStore, Key, Write
from core.usecases.journal.books import turn_key
from core.usecases.journal.entries import ContendedError, Stored, stored_from, update_of
from core.usecases.journal.stats import counting_turns

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.02, 0.6


@dataclass(frozen=True, slots=True)
class Proposal:
    """`record` instead of `base` (None: it is new), and what is written with it. `leads` False: a change that
    says itself whether it was made, and that must not hide whether a leader's was."""

    record: TurnRecord
    base: Stored | None
    also: Sequence[Write] = ()
    leads: bool = True


@dataclass(frozen=True, slots=True)
class Effect:
    """What a turn's commit changes besides turn and books: `writes`, from the document as it was `read`, and
    after a failure as it was read again."""

    key: Key
    read: Document | None
    writes: Callable[[Document | None], Sequence[Write]]


def writes_of(effects: Sequence[Effect], documents: Sequence[Document | None] | None) -> list[Write]:
    """`documents`: as they were read again, None if they were not."""
    found = [effect.read for effect in effects] if documents is None else documents
    return [
        write for effect, document in zip(effects, found, strict=True) for write in effect.writes(document)
    ]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read after a failure: the turn, and the other documents that the proposal rests on."""

    turn: Stored | None
    others: Sequence[Document | None]


Propose = Callable[[Seen | None], Proposal | Stored]
"""What to commit, first without having seen anything again. A Stored: nothing more is to be done. It raises
what ends the matter (TurnMovedError)."""


class TurnCommits:
    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock

    async def commit(
        self, turn_id: str, propose: Propose, others: Sequence[Key] = (), *, within_s: float
    ) -> Stored:
        """Raises ContendedError or DocumentsUnavailableError after `within_s`; with the latter alone the
        commit may still have been made."""
        operation = uuid.uuid4().hex
        pauses = _Pauses(self._clock, within_s)
        seen: Seen | None = None
        failure: Exception | None = None
        while True:
            proposal = propose(seen)
            if isinstance(proposal, Stored):
                return proposal
            if failure and pauses.over:
                raise _final(failure) from failure
            record = replace(proposal.record, operation=operation) if proposal.leads else proposal.record
            writes = [_turn_write(record, proposal.base), *proposal.also, *_counting(record, proposal.base)]
            try:
                versions = await self._documents.commit(writes)
            except (ConflictError, DocumentsUnavailableError) as exc:
                failure = exc
            else:
                return Stored(record, versions[0])
            seen = await self._see_again([turn_key(turn_id), *others], pauses)
            if seen.turn and seen.turn.record.operation == operation:
                return seen.turn

    async def _see_again(self, keys: Sequence[Key], pauses: _Pauses) -> Seen:
        """Once more also when the time is over: what has been made of it must be known."""
        while True:
            await pauses.pause()
            try:
                turn, *others = await self._documents.get_many(keys)
            except DocumentsUnavailableError:
                if pauses.over:
                    raise
            else:
                return Seen(stored_from(turn) if turn else None, others)


class _Pauses:
    """Random ones, the longest twice as long each time, so that many who contend spread out."""

    def __init__(self, clock: Clock, within_s: float) -> None:
        self._clock = clock
        self._until = clock.monotonic() + within_s
        self._longest_s = _FIRST_PAUSE_S
        self.over = False

    async def pause(self) -> None:
        pause_s = random.uniform(self._longest_s / 4, self._longest_s)
        self._longest_s = min(2 * self._longest_s, _MAX_PAUSE_S)
        self.over = self._clock.monotonic() + pause_s > self._until
        if not self.over:
            await self._clock.sleep(pause_s)


def _final(failure: Exception) -> Exception:
    return ContendedError("a turn's commit") if isinstance(failure, ConflictError) else failure


def _counting(record: TurnRecord, base: Stored | None) -> Sequence[Write]:
    return counting_turns([(base.record if base else None, record)])


def _turn_write(record: TurnRecord, base: Stored | None) -> Write:
    return update_of(base, record) if base else Create(turn_key(record.id), record.encode())
