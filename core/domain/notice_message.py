"""A notice as staff see it at LINE: a template with buttons, or a text if there is nothing to tap.

LINE's limits: https://developers.line.biz/en/reference/messaging-api/#buttons
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.domain.clinic import Clinic
from core.domain.desk import tap_data
from core.domain.messages import one_line, split_text, units
from core.domain.notice import Action, Notice, NoticeKind
from core.domain.texts import desk_text
from core.domain.visible import looks_empty

TEMPLATE_UNITS, ALT_UNITS, TEXT_UNITS = 160, 400, 1_000
_NAME_UNITS, _WHY_UNITS, _APPOINTMENT_UNITS = 40, 60, 100
_LIST_WORDS_UNITS, _MAX_LISTED = 60, 20


def notice_messages(clinic: Clinic, notice: Notice, words: str) -> tuple[dict[str, Any], ...]:
    """`words`: the customer's last ones, "" if they were taken back. The same for the same arguments, since a
    push that is tried again must be."""
    if not notice.actions:
        return ({"type": "text", "text": _body(clinic, notice, words, TEXT_UNITS)},)
    template = {
        "type": "buttons",
        "text": _body(clinic, notice, words, TEMPLATE_UNITS),
        "actions": [_button(clinic, action, notice.id) for action in notice.actions],
    }
    alt_text = _body(clinic, notice, words, ALT_UNITS)
    return ({"type": "template", "altText": alt_text, "template": template},)


def open_matters(clinic: Clinic, notices: Sequence[Notice]) -> str:
    """What a mention in the desk is answered with, without any customer's words."""
    if not notices:
        return desk_text(clinic, "open_none")
    lines = [desk_text(clinic, "open_some", count=len(notices))]
    for notice in notices[:_MAX_LISTED]:
        parts = [_title(clinic, notice), _cut(shown(notice.name), _NAME_UNITS), _why(clinic, notice)]
        if taken := notice.taps.get(Action.TAKE):
            parts.append(desk_text(clinic, "open_taken", by=by(clinic, taken.by)))
        lines.append("• " + " · ".join(filter(None, parts)))
    if len(notices) > _MAX_LISTED:
        lines.append("…")
    return "\n".join(lines)


def by(clinic: Clinic, name: str) -> str:
    """Who of the staff it was."""
    return _cut(shown(name), _NAME_UNITS) or desk_text(clinic, "somebody")


def customer(clinic: Clinic, notice: Notice) -> str:
    return _cut(shown(notice.name), _NAME_UNITS) or desk_text(clinic, "customer")


def shown(text: str) -> str:
    """Words that others wrote, on one line and without what LINE would refuse."""
    line = one_line(text)
    return "" if looks_empty(line) else line


def _title(clinic: Clinic, notice: Notice) -> str:
    return desk_text(clinic, notice.kind, count=notice.count)


def _why(clinic: Clinic, notice: Notice) -> str:
    limit = _APPOINTMENT_UNITS if notice.kind == NoticeKind.BOOKING else _WHY_UNITS
    detail = _cut(shown(notice.detail), limit)
    template_needs_it = notice.kind in {"handoff", "booking"}
    return "" if template_needs_it and not detail else desk_text(clinic, f"{notice.kind}_why", detail=detail)


def _body(clinic: Clinic, notice: Notice, words: str, limit: int) -> str:
    """Title and name, the words as far as there is room, and why."""
    head = "\n".join(filter(None, [_title(clinic, notice), _cut(shown(notice.name), _NAME_UNITS)]))
    why = _why(clinic, notice)
    room = limit - units(head) - units(why) - len("\n«»\n")
    said = _cut(shown(words), room)
    return _cut("\n".join(filter(None, [head, said and f"«{said}»", why])), limit)


def _button(clinic: Clinic, action: Action, notice_id: str) -> dict[str, str]:
    label = desk_text(clinic, action.value)
    return {"type": "postback", "label": label, "data": tap_data(action, notice_id), "displayText": label}


def _cut(text: str, limit: int) -> str:
    if units(text) <= limit:
        return text
    return split_text(text, limit, most=1)[0] if limit > 1 else ""
