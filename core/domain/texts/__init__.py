"""Every text that customers read and that no model wrote, one file a language; what staff read; and the
model's house rules.

A clinic's own words (`messages` in the clinics file) come before these.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from core.domain.clinic import Clinic
from core.domain.visible import looks_empty

LANGUAGES: Final = ("th", "en")

TEXT_KEYS: Final = frozenset(
    {
        "budget",  # the clinic's budget of the day is used up
        "busy",  # no answer in time, or none that sending again could not bring
        "price_unsure",  # the model's answer named amounts that the clinic does not state
        "staff",  # no answer, and none to be had from the model
        "greeting",  # a customer has added the clinic
        "privacy",  # follows the greeting, unless the clinic has its own notice
        "consent",  # may health facts be remembered? With two buttons:
        "consent_yes",
        "consent_no",
        "consent_given",  # answers a tap on the first
        "consent_declined",  # on the second, also later: a withdrawal
        "handoff",  # people take over
        "booking_confirmed",  # `{service}` and `{when}` stand in this one and the next two
        "booking_declined",
        "booking_reminder",
        "handoff_closed",  # people take over when the clinic opens: `{opens}` says when
        "urgent",  # people have the chat, and the customer writes that something is urgent
        "handoff_ended",  # the bot is back, on an operator's command
        "sticker",
        "image",  # pictures are not looked at: the clinic has it so, or the model takes none
        "image_lost",  # the picture can't be had from LINE
        "image_large",
        "image_unreadable",  # not a still picture that can be opened
        "audio",  # voice messages are not listened to
        "audio_lost",  # the voice message can't be had, or not be opened
        "audio_long",
        "audio_empty",  # nobody says anything in it
        "video",
        "file",
        "unsupported",  # a message of a kind that has no words for us
        "no_words",  # a text with nothing in it but our name, or emoji
    }
)


def text(clinic: Clinic, key: str, **values: str) -> str:
    """The clinic's own text for `key`, else its language's (Thai if there is none). `{clinic}` is its
    name, and `values` stand for their names in the same way.

    Raises KeyError for a key that is not in TEXT_KEYS.
    """
    language = clinic.language if clinic.language in LANGUAGES else "th"
    own = clinic.messages.get(key, "")
    template = texts_of(language)[key] if looks_empty(own) else own
    for name, value in {"clinic": clinic.name, **values}.items():
        template = template.replace(f"{{{name}}}", value)
    return template.strip()


def desk_text(clinic: Clinic, key: str, **values: object) -> str:
    """What the clinic's staff read. `{clinic}` is its name, others are `values`. Raises KeyError."""
    language = clinic.language if clinic.language in LANGUAGES else "th"
    template = desk_texts(language)[key]
    for name, value in {"clinic": clinic.name, **values}.items():
        template = template.replace(f"{{{name}}}", str(value))
    return template


def greeting(clinic: Clinic) -> str:
    """For a new customer: the greeting and how their data is handled."""
    own = clinic.privacy_notice.strip()
    notice = text(clinic, "privacy") if looks_empty(own) else own
    return f"{text(clinic, 'greeting')}\n\n{notice}"


@cache
def texts_of(language: str) -> Mapping[str, str]:
    """All texts of a language, by key."""
    return _toml(f"{language}.toml")


@cache
def desk_texts(language: str) -> Mapping[str, str]:
    """All texts for staff of a language, by key."""
    texts: Mapping[str, str] = _toml("desk.toml")[language]
    return texts


@cache
def house_rules() -> str:
    """What every clinic's assistant keeps to: the beginning of every prompt."""
    return str(_toml("house_rules.toml")["rules"]).strip()


@cache
def shorter_rule() -> str:
    """What the assistant is told when its first answer was cut off."""
    return str(_toml("house_rules.toml")["shorter"]).strip()


@cache
def unstated_rule() -> str:
    """What the assistant is told when its first answer named amounts that the clinic does not state;
    `{amounts}` are these."""
    return str(_toml("house_rules.toml")["unstated"]).strip()


@cache
def blind_rule() -> str:
    """What a model is told that takes no pictures, where there are some."""
    return str(_toml("house_rules.toml")["blind"]).strip()


@cache
def urgent_words() -> tuple[str, ...]:
    """Symptoms that can't wait, Thai and English."""
    return tuple(_toml("house_rules.toml")["urgent"])


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__name__).joinpath(name).read_text("utf-8"))
