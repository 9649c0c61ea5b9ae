"""A turn of the journal, for people and for programs. Customers' words only where they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from core.domain.money import format_baht
from core.domain.notice import Notice
from core.domain.task import EffectTask
from core.domain.turn import TurnRecord, TurnState

STYLES = {
    TurnState.DELIVERED: "green",
    TurnState.FAILED: "red",
    TurnState.RESERVED: "yellow",
    TurnState.ANSWERED: "yellow",
    TurnState.IGNORED: "dim",
}
_SILENCES = {
    "group_talk": "group talk: we were neither mentioned nor quoted",
    "handoff": "people have the chat",
    "unfollowed": "the customer has left",
    "forgotten": "its customer was forgotten while it was on its way",
    "silent_postback": "a button that the clinic says needs no answer",
}
"""Why a turn was ignored, by the reason in the journal."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a turn's timeline: received, enqueued, begun, reserved, answered, replayed, or its end."""

    name: str
    at_ms: int
    note: str = ""


def timeline(turn: TurnRecord) -> list[Step]:
    """In order of time. `received`: LINE's timestamp; `enqueued`: arrival at the webhook."""
    money, steps = turn.money, []
    for event in turn.events:
        steps.append(Step("received", event.timestamp_ms, f"{event.kind} {event.id}"))
        steps.append(Step("enqueued", event.arrived_ms, event.id))
    arrived_ms = min((event.arrived_ms for event in turn.events), default=turn.created_ms)
    queued = f"{_seconds(turn.created_ms - arrived_ms)} after the first message arrived"
    steps.append(Step("begun", turn.created_ms, queued))
    if turn.reserved_ms is not None:
        held = format_baht(money.worst_micro_baht, decimals=4)
        steps.append(Step("reserved", turn.reserved_ms, f"{money.model}, at most {held} a call"))
    if turn.answered_ms is not None:
        called = f"{turn.attempts} attempts, waited {_seconds(turn.waited_ms)} for slots"
        steps.append(Step("answered", turn.answered_ms, called if turn.attempts else "without a call"))
    if turn.delivered_ms is not None and turn.state.final:
        note = _why(turn) or _delivery(turn)
        steps.append(Step(turn.state.value, turn.delivered_ms, note))
    if turn.replayed_ms is not None:
        steps.append(Step("replayed", turn.replayed_ms, f"as {turn.replayed_as}"))
    return sorted(steps, key=lambda step: step.at_ms)


def turn_json(turn: TurnRecord, *, texts: bool = False) -> dict[str, Any]:
    """Times in Unix ms, money in micro-baht. Never the reply token."""
    money = turn.money
    events = [
        {
            "id": event.id,
            "kind": event.kind,
            "received_ms": event.timestamp_ms,
            "enqueued_ms": event.arrived_ms,
            "message_id": event.message_id,
            "media": event.media,
            **({"text": event.text} if texts else {}),
        }
        for event in turn.events
    ]
    said = {"reply": turn.reply, "quick_replies": list(turn.quick_replies), "updates": dict(turn.updates)}
    return {
        "turn_id": turn.id,
        "org_id": turn.org_id,
        "channel": turn.channel,
        "chat_id": turn.chat_id,
        "chat_type": turn.chat_type,
        "user_id": turn.user_id,
        "state": turn.state.value,
        "failure": turn.failure,
        "guard": dict(turn.guard) or None,
        "question_id": turn.question_id,
        "clinic_version": turn.clinic_version,
        "prompt": dict(turn.prompt) or None,
        "events": events,
        "overflow": turn.overflow,
        "begun_ms": turn.created_ms,
        "reserved_ms": turn.reserved_ms,
        "answered_ms": turn.answered_ms,
        "ended_ms": turn.delivered_ms,
        "waited_ms": turn.waited_ms,
        "attempts": turn.attempts,
        "decision": money.decision,
        "reason": money.reason,
        "flagged": money.flagged,
        "model": money.model,
        "usage": dict(money.usage),
        "pictures": money.pictures,
        "audio": dict(money.audio) or None,
        "cost_micro_baht": money.cost_micro_baht,
        "held_micro_baht": money.held_micro_baht,
        "ambiguous_attempts": money.ambiguous_attempts,
        "delivered_how": turn.delivered_how,
        "presumed": turn.presumed,
        "delivering": turn.delivering,
        "line_message_ids": list(turn.line_message_ids),
        "stage": turn.updates.get("stage"),
        "service": turn.updates.get("service"),
        "facts_used": list(turn.facts_used),
        "timeline": [{"step": s.name, "at_ms": s.at_ms, "note": s.note} for s in timeline(turn)],
        "replayed_as": turn.replayed_as,
        "replayed_ms": turn.replayed_ms,
        "trace": turn.trace,
        **(said if texts else {}),
    }


def notice_json(notice: Notice, *, texts: bool = False) -> dict[str, Any]:
    """A notice to staff, and who has dealt with it. Times in Unix ms."""
    told = {"name": notice.name, "detail": notice.detail}
    return {
        "id": notice.id,
        "kind": notice.kind,
        "state": notice.state.value,
        "reason": notice.reason,
        "created_ms": notice.created_ms,
        "sent_ms": notice.sent_ms,
        "desk_chat_id": notice.desk_chat_id or None,
        "taps": {action: {"at_ms": tap.at_ms, "by": tap.by} for action, tap in notice.taps.items()},
        **(told if texts else {}),
    }


@dataclass(frozen=True, slots=True)
class Effects:
    """What a turn has caused besides its reply; of what is no notice, the name alone."""

    tasks: Sequence[EffectTask]
    notices: Sequence[Notice]

    def as_json(self, *, texts: bool) -> list[dict[str, Any]]:
        known = {notice.id: notice_json(notice, texts=texts) for notice in self.notices}
        return [{"effect": task.kind, "id": task.id, **known.get(task.id, {})} for task in self.tasks]

    def __rich__(self) -> RenderableType:
        out = Table(box=None, show_header=False, pad_edge=False)
        known = {notice.id: notice for notice in self.notices}
        for task in self.tasks:
            notice = known.get(task.id)
            why = f" ({notice.reason})" if notice and notice.reason else ""
            taps = (
                ", ".join(f"{action} by {tap.by or 'staff'}" for action, tap in notice.taps.items())
                if notice
                else ""
            )
            out.add_row(task.kind, task.id, Text(f"{notice.state.value}{why}" if notice else ""), Text(taps))
        return out


@dataclass(frozen=True, slots=True)
class TurnsTable:
    """One line a turn, for people. Ids are never broken: where there is not room for all columns, the least
    important ones are left out, and why a turn failed is shortened."""

    turns: Sequence[TurnRecord]
    timezone: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [_cells(turn, self.timezone) for turn in self.turns]
        room, widths = options.max_width + _GAP, dict[str, int]()
        for name in _BY_IMPORTANCE:
            width = max([len(name), *(len(row[name]) for row in cells)])
            if name == "failure":
                width = max(len(name), min(width, room - _GAP))
            if width + _GAP <= room or not widths:
                widths[name] = width
                room -= width + _GAP
        out = Table(box=None, pad_edge=False, header_style="bold")
        names = [name for name in _COLUMNS if name in widths]
        for name in names:
            justify: JustifyMethod = "right" if name in {"attempts", "waited", "cost"} else "left"
            out.add_column(name, no_wrap=True, justify=justify, width=widths[name])
        for turn, row in zip(self.turns, cells, strict=True):
            styles = {"state": STYLES[turn.state]}
            out.add_row(*(Text(row[name], style=styles.get(name, "")) for name in names))
        yield out


_COLUMNS = ["begun", "turn", "clinic", "chat", "state", "failure", "model", "attempts", "waited", "cost"]
_BY_IMPORTANCE = [
    "turn",
    "state",
    "begun",
    "clinic",
    "failure",
    "cost",
    "chat",
    "model",
    "attempts",
    "waited",
]
_GAP = 2


def _cells(turn: TurnRecord, timezone: str) -> dict[str, str]:
    return {
        "begun": shown_time(turn.created_ms, timezone),
        "turn": turn.id,
        "clinic": turn.org_id,
        "chat": turn.chat_id,
        "state": turn.state.value,
        "failure": _why(turn),
        "model": turn.money.model,
        "attempts": str(turn.attempts),
        "waited": _seconds(turn.waited_ms),
        "cost": format_baht(turn.money.cost_micro_baht, decimals=4),
    }


def turn_page(turn: TurnRecord, timezone: str, *, texts: bool = False) -> RenderableType:
    """What happened, when and why."""
    money = turn.money
    head = Text.assemble((turn.id, "bold"), "  ", (turn.state.value, STYLES[turn.state]))
    facts = Table(box=None, show_header=False, pad_edge=False)
    stage = " · ".join(str(turn.updates[k]) for k in ("stage", "service") if turn.updates.get(k))
    rows = {
        "clinic": turn.org_id + (f", version {turn.clinic_version}" if turn.clinic_version else ""),
        "chat": f"{turn.chat_id} ({turn.chat_type})",
        "decision": " · ".join(
            filter(None, (money.decision, money.reason, "flagged" if money.flagged else ""))
        ),
        "model": f"{money.model}, {turn.attempts} attempts" if money.model else "none",
        "cost": format_baht(money.cost_micro_baht, decimals=6),
        "delivered": "" if turn.state is TurnState.IGNORED else _delivery(turn),
        "silent because": _why(turn) if turn.state is TurnState.IGNORED else "",
        "failure": turn.failure or "",
        "stage, service": stage,
        "memory used": ", ".join(turn.facts_used),
        "left out": f"{turn.overflow} earlier messages" if turn.overflow else "",
        "trace": turn.trace,
    }
    for name, value in rows.items():
        if value:
            facts.add_row(name, Text(value))
    return Group(head, facts, Text(), _steps(turn, timezone), Text(), _words(turn, texts=texts))


def _why(turn: TurnRecord) -> str:
    """Why a turn failed, or why it was ignored."""
    if turn.state is TurnState.IGNORED:
        return _SILENCES.get(turn.money.reason, turn.money.reason)
    return turn.failure or ""


def _delivery(turn: TurnRecord) -> str:
    how = turn.delivered_how or "not yet"
    shown = f"by {how}" if how in {"reply", "push"} else how
    return f"{shown}, presumed: LINE refused the token as used" if turn.presumed else shown


def _steps(turn: TurnRecord, timezone: str) -> Table:
    out = Table(box=None, show_header=False, pad_edge=False)
    steps = timeline(turn)
    for step in steps:
        after = _seconds(step.at_ms - steps[0].at_ms)
        out.add_row(shown_time(step.at_ms, timezone), f"+{after}", step.name, Text(step.note))
    return out


def _words(turn: TurnRecord, *, texts: bool) -> RenderableType:
    if not texts:
        return Text("What was said is private: --texts shows it.", style="dim")
    out = Table(box=None, show_header=False, pad_edge=False)
    for event in turn.events:
        out.add_row("customer", Text(event.text or f"({event.kind})"))
    out.add_row("reply", Text(turn.reply or "(none)"))
    return out


def shown_time(at_ms: int, timezone: str) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"
