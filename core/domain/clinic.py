"""A clinic and what it has set for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from core.domain.clinic_prices import ApprovedAnswer, ListedPrice
from core.domain.hours import OpeningHours
from core.domain.media import MediaSettings

ORG_ID = "[a-z0-9-]{1,40}"
"""What an org_id matches."""

GATHER_S, MAX_GATHER_S = 1.0, 3.0
MAX_REMIND_HOURS = 168

NOTICE_KINDS = ("handoff", "booking", "urgent", "failed")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`ai_model_config/{org_id|default}`: the audit's field names. `outage_model` is asked while another one
    can't be."""

    model_name: str = "gpt-6.1-terra"
    max_tokens: int = 600
    temperature: float | None = 0.4
    outage_model: str | None = None


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """`org_ai_budgets/{org_id|default}`: the audit's field names. A day's budget in baht, exactly."""

    daily_budget_baht: Decimal = Decimal(300)
    hard_stop_enabled: bool = True
    model_downgrade_enabled: bool = True
    downgrade_threshold: Decimal = Decimal("0.8")
    fallback_model: str | None = "gpt-6-luna"


@dataclass(frozen=True, slots=True)
class Limits:
    """None: the deployment's default (CHAT_MAX_CONCURRENT_PER_ORG, ORG_MESSAGES_PER_MINUTE)."""

    max_concurrent: int | None = None
    messages_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """When the bot goes silent for people: on a customer's `keywords`, for `hours`."""

    keywords: tuple[str, ...] = ()
    hours: int = 12


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that a customer is remembered: since something was last learned, and after an unfollow."""

    memory_days: int = 365
    unfollow_days: int = 30


@dataclass(frozen=True, slots=True)
class Bookings:
    """A confirmed appointment's reminder comes `remind_hours` before it; 0: none."""

    remind_hours: float = 24.0


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """Which kinds of notices are sent to the clinic's desk."""

    notify: tuple[str, ...] = NOTICE_KINDS


class Mode(StrEnum):
    """When the bot answers: always, only while the clinic is closed, never."""

    LIVE = "live"
    AFTER_HOURS = "after_hours"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Clinic:
    """`orgs/{org_id}`, with its model and budget. `messages` overrides texts by key (core.domain.texts).
    `gather_s`: how long a message that looks unfinished waits for another (core.domain.gathering).
    `prices`, `answers`: what may be said of them. `price_guard`: whether other amounts are held back
    (core.domain.price_guard); None: if there are prices. `version`: the latest of `org_versions`, 0 for none.
    `providers`: names of those that may be asked (core.domain.providers); none: all.
    `silent_postbacks`: data of buttons that say nothing to us, whole, or a beginning that ends with `*`."""

    org_id: str
    name: str
    bot_user_id: str
    channel_id: str
    persona: str = ""
    language: str = "th"
    memory: bool = True
    privacy_notice: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    budget: BudgetPolicy = field(default_factory=BudgetPolicy)
    limits: Limits = field(default_factory=Limits)
    handoff: Handoff = field(default_factory=Handoff)
    retention: Retention = field(default_factory=Retention)
    messages: Mapping[str, str] = field(default_factory=dict)
    prices: tuple[ListedPrice, ...] = ()
    answers: tuple[ApprovedAnswer, ...] = ()
    price_guard: bool | None = None
    silent_postbacks: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    gather_s: float = GATHER_S
    hours: OpeningHours = field(default_factory=OpeningHours)
    mode: Mode = Mode.LIVE
    bookings: Bookings = field(default_factory=Bookings)
    desk: DeskSettings = field(default_factory=DeskSettings)
    media: MediaSettings = field(default_factory=MediaSettings)
    version: int = 0

    def is_silent(self, postback_data: str) -> bool:
        """A tap on a button whose postback the clinic has for purposes of its own."""
        return any(
            postback_data.startswith(data[:-1]) if data.endswith("*") else postback_data == data
            for data in self.silent_postbacks
        )

    @property
    def guards_prices(self) -> bool:
        return bool(self.prices) if self.price_guard is None else self.price_guard

    @property
    def secret_name(self) -> str:
        return secret_name(self.org_id)


def secret_name(org_id: str) -> str:
    """Name of a clinic's LINE secret in the secret store."""
    return f"line-{org_id}"
