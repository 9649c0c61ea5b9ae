"""What a clinic's opening hours mean for a turn: whether the bot answers, and what it says of them."""

from __future__ import annotations

from core.domain.clinic import Clinic, Mode
from core.domain.moment import Moment
from core.domain.spoken_days import spoken
from core.domain.texts import text

MODE_OFF = "mode is off"
MODE_AFTER_HOURS = "mode is after_hours and the clinic is open"
SILENT_MODES = frozenset({MODE_OFF, MODE_AFTER_HOURS})


def silence_of(clinic: Clinic, moment: Moment) -> str:
    """Why the clinic's bot says nothing now, in words for whoever asks; "" if it answers."""
    if clinic.mode is Mode.OFF:
        return MODE_OFF
    if clinic.mode is Mode.AFTER_HOURS and clinic.hours.is_open(moment.local):
        return MODE_AFTER_HOURS
    return ""


def state_of(clinic: Clinic, moment: Moment) -> dict[str, str]:
    """For the prompt's changing part: whether the clinic is open, and if not, when it opens next. Nothing for
    a clinic whose hours are not known."""
    if not clinic.hours.are_known:
        return {}
    if clinic.hours.is_open(moment.local):
        return {"clinic": "open"}
    opens = clinic.hours.next_opening(moment.local)
    return {"clinic": "closed"} | ({"opens": f"{opens:%A %Y-%m-%d %H:%M}"} if opens else {})


def handed_over(clinic: Clinic, moment: Moment) -> str:
    """What a customer reads whom people will answer: while the clinic is closed, when it opens."""
    opens = clinic.hours.next_opening(moment.local)
    if opens is None or opens == moment.local:
        return text(clinic, "handoff")
    return text(clinic, "handoff_closed", opens=spoken(opens, moment.local, clinic.language))
