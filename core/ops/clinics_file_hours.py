"""A clinic's hours, holidays and mode in the clinics file."""

from __future__ import annotations

from core.domain.clinic import Mode
from core.domain.errors import InvalidInputError
from core.domain.hours import OpeningHours, opening_hours, parse_day, with_days
from core.ops.yaml_fields import Fields, text_of
from core.usecases.clinics.documents import MODES

_WEEK = 'expected days and hours, such as {mon-fri: "10:00-20:00", sun: closed}'
_HOLIDAYS = 'expected a list of days, such as ["2026-12-31"]'


def read_hours(entry: Fields) -> OpeningHours:
    """What can be read of them; every problem is noted with its line."""
    week: dict[str, str] = {}
    for days, spans, line in entry.pairs("hours", _WEEK):
        try:
            opening_hours({days: spans})
            week = with_days(week, days, spans)
        except InvalidInputError as exc:
            entry.problem("hours", str(exc), line)
    holidays = []
    for node in entry.items("holidays", _HOLIDAYS):
        try:
            parse_day(text_of(node) or "")
        except InvalidInputError as exc:
            entry.problem("holidays", str(exc), node.start_mark.line + 1)
        else:
            holidays.append(text_of(node) or "")
    return opening_hours(week, holidays)


def read_mode(entry: Fields) -> Mode | None:
    """None if it is not named. YAML knows `off` as a word for false, too."""
    written = entry.text("mode", f"expected {MODES}", pattern="live|after_hours|off|(?i:false)")
    if written is None:
        return None
    return Mode.OFF if written.lower() == "false" else Mode(written)
