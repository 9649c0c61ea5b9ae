"""A clinic's fields, each written once: what the clinics file may say, and what the documents hold.

A field has the same name in the clinics file, in the document, and in its dataclass (core.domain.clinic),
whose default holds where nothing is set. Two readers go by this: core.ops.clinics_file refuses whatever is
wrong; core.usecases.clinics.documents is lenient, since people edit documents in the console, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.domain.clinic import (
    MAX_GATHER_S,
    MAX_REMIND_HOURS,
    NOTICE_KINDS,
    Bookings,
    DeskSettings,
    Handoff,
    Limits,
    Retention,
)
from core.domain.media import MediaSettings
from core.domain.texts import LANGUAGES, TEXT_KEYS

MIN_OUTPUT_TOKENS: Final = 100
"""Below, an answer is cut off within its JSON: it is paid for and can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """`nullable`: written as nothing, it is None, whatever the default is."""

    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Text(_Field):
    """`expected`: what the file's reader says of another. `visible`: customers read it as it stands here."""

    expected: str = "expected text"
    pattern: str = r"(?s).*\S.*"
    max_chars: int = 1_000
    required: bool = False
    visible: bool = False


class Model(_Field):
    """A model that can be called and charged."""


class Flag(_Field):
    """True or false."""


@dataclass(frozen=True, slots=True)
class Whole(_Field):
    """`high` None: CHAT_MAX_CONCURRENT. With a `low` above 0, a stored 0 says nothing."""

    low: int
    high: int | None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Number(_Field):
    low: int
    high: int
    example: str


@dataclass(frozen=True, slots=True)
class Exact(_Field):
    """A decimal number. `is_baht`: at most six decimals, as micro-baht have."""

    low: int
    high: int
    example: str
    is_baht: bool = False


@dataclass(frozen=True, slots=True)
class Texts(_Field):
    """`allowed` None: any."""

    expected: str
    allowed: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Group(_Field):
    """Fields of a dataclass of their own, `kind`."""

    kind: type[Any]
    fields: Schema


@dataclass(frozen=True, slots=True)
class Keyed(_Field):
    """Texts by key, each a MESSAGE."""

    keys: frozenset[str]


Kind = Text | Model | Flag | Whole | Number | Exact | Texts | Group | Keyed
Schema = Mapping[str, Kind]

MESSAGE: Final = Text(max_chars=5_000, visible=True)
"""Each text of `messages`."""

CLINIC: Final[Schema] = {
    "name": Text("expected the clinic's name, as customers know it", required=True),
    "persona": Text(max_chars=20_000),  # goes into every prompt, and is paid for with every turn
    "language": Text(f"expected {' or '.join(LANGUAGES)}", "|".join(LANGUAGES)),
    "memory": Flag(),
    "privacy_notice": MESSAGE,
    "limits": Group(
        Limits,
        {
            "max_concurrent": Whole(1, None, " (CHAT_MAX_CONCURRENT, all clinics together)"),
            "messages_per_minute": Whole(1, 60_000),
        },
    ),
    "handoff": Group(
        Handoff,
        {
            "keywords": Texts("expected a list of words, such as [staff, แอดมิน]"),
            "hours": Whole(1, 720),
        },
    ),
    "retention": Group(Retention, {"memory_days": Whole(1, 3_650), "unfollow_days": Whole(1, 3_650)}),
    "bookings": Group(Bookings, {"remind_hours": Number(0, MAX_REMIND_HOURS, "24")}),
    "desk": Group(
        DeskSettings,
        {"notify": Texts(f"expected a list of {', '.join(NOTICE_KINDS)}", frozenset(NOTICE_KINDS))},
    ),
    "media": Group(MediaSettings, {"images": Flag(), "voice": Flag()}),
    "messages": Keyed(TEXT_KEYS),
    "price_guard": Flag(),
    "silent_postbacks": Texts("expected a list of postback data: [menu=2]"),
    "providers": Texts("expected a list of names in LLM_PROVIDERS, such as [openai]"),
    "gather_s": Number(0, round(MAX_GATHER_S), "1.0"),
}
"""`orgs/{org_id}`, but for what is read in ways of its own: `line`, `hours` with `holidays`, `mode`, and
what the clinic has approved (`prices`, `answers`)."""

MODEL: Final[Schema] = {
    "model_name": Model(),
    "max_tokens": Whole(MIN_OUTPUT_TOKENS, 100_000),
    "temperature": Number(0, 2, "0.4", nullable=True),
    "outage_model": Model(nullable=True),
}
"""`ai_model_config/{org_id|default}`."""

BUDGET: Final[Schema] = {
    "daily_budget_baht": Exact(0, 100_000_000, "300 or 300.50", is_baht=True),
    "hard_stop_enabled": Flag(),
    "model_downgrade_enabled": Flag(),
    "downgrade_threshold": Exact(0, 1, "0.8"),
    "fallback_model": Model(nullable=True),
}
"""`org_ai_budgets/{org_id|default}`."""
