"""Notices to a clinic's staff as effects: written in the commit that causes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.domain import notice
from core.domain.notice import Notice, NoticeKind
from core.domain.turn import TurnRecord
from core.ports.documents import Create, Document, Increment, Key, Merge, Write
from core.usecases.journal.commits import Effect

HOUR_MS = 3_600_000
FAILURES_GATHER_MS = 60_000
"""How long a notice of failures waits for more of them."""
_NO_FAILURE = frozenset({None, "budget", "forgotten"})


def notice_key(notice_id: str) -> Key:
    return Key(notice.COLLECTION, notice_id)


def noticing(record: TurnRecord, effect: Notice) -> tuple[TurnRecord, Effect]:
    """The turn that causes a notice, and the notice, for one commit. One that is there is left as it is."""

    def writes(document: Document | None) -> Sequence[Write]:
        return () if document else [Create(notice_key(effect.id), effect.encode())]

    return record.causing(effect.task), Effect(notice_key(effect.id), None, writes)


def notice_of(record: TurnRecord, kind: NoticeKind, now_ms: int) -> Notice:
    """About the turn's customer."""
    return Notice(
        f"{record.id}-{kind}",
        record.org_id,
        kind,
        now_ms,
        turn_id=record.id,
        chat_id=record.chat_id,
        chat_type=record.chat_type,
        user_id=record.user_id or "",
    )


def noticing_failure(
    record: TurnRecord, now_ms: int, *, has_desk: bool
) -> tuple[TurnRecord, Sequence[Effect]]:
    """A failed turn counts in its clinic's notice of the hour, without being read; whoever is first causes
    it. A clinic that has used up its budget knows it already."""
    if record.failure in _NO_FAILURE or not has_desk:
        return record, ()
    hour = now_ms // HOUR_MS
    counted = Notice(failures_id(record.org_id, hour), record.org_id, NoticeKind.FAILED, hour * HOUR_MS)
    # Not its state, which is whatever became of it: without one it is pending.
    data = {name: value for name, value in counted.encode().items() if name in _SAME_FOR_ALL}
    task = replace(counted.task, due_ms=now_ms + FAILURES_GATHER_MS)
    merge = Merge(notice_key(counted.id), {**data, "count": Increment(1)})
    return record.causing(task), [Effect(notice_key(counted.id), None, lambda _: [merge])]


def failures_id(org_id: str, hour: int) -> str:
    return f"{org_id}-failed-{hour}"


_SAME_FOR_ALL = frozenset({"org_id", "kind", "created_ms", "created_at", "expire_at"})
