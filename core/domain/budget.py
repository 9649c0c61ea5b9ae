"""The one decision before every call (primary, fallback, outage, stop) and the books that it is taken on.

The document `org_ai_spend/{org_id}:{day}`, whose schema is DayBooks:

    org_id, day        as in the document's name, for queries
    budget_micro_baht  the day's budget as the last reservation saw it
    spent, held        micro-baht charged, and reserved by calls that run
    holds              {turn_id: {amount, expires_ms, model}}; their amounts sum up to `held`
    turns, downgraded, stopped, ambiguous    counters; ambiguous counts charges at the worst case
    thresholds         {"50": true, …}: events that this day has had
    by_model           {model: {turns, input, cached, cache_write, output, spent_micro_baht,
                       pictures and audio_ms where there were some}}
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from core.domain.clinic import BudgetPolicy
from core.domain.money import share_of, to_micro_baht

THRESHOLDS = (50, 80, 100)
MODEL_COUNTERS = ("turns", "input", "cached", "cache_write", "output", "spent_micro_baht")
MEDIA_COUNTERS = ("pictures", "audio_ms")
"""Pictures that a model was shown, and what it has listened to; only where there were some."""


class Kind(StrEnum):
    PRIMARY = "primary"
    FALLBACK = "fallback"
    STOP = "stop"
    OUTAGE = "outage"


class Reason(StrEnum):
    """Why a decision fell as it did."""

    WITHIN_THRESHOLD = "within_threshold"
    WITHIN_BUDGET = "within_budget"  # no downgrade is set up: the primary has the whole budget
    THRESHOLD_REACHED = "threshold_reached"
    BUDGET_SPENT = "budget_spent"
    BUDGET_SPENT_NO_HARD_STOP = "budget_spent_no_hard_stop"
    OUTAGE = "outage"  # what the budget allows can't be asked now


@dataclass(frozen=True, slots=True)
class Decision:
    """`worst_micro_baht` is what the call must reserve. `flagged`: it goes beyond the budget, knowingly."""

    kind: Kind
    model: str | None
    worst_micro_baht: int
    reason: Reason
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that could be called, and what that costs at most."""

    model: str
    worst_micro_baht: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Money reserved by a running turn; past `expires_ms` its turn has crashed and nobody took it over."""

    turn_id: str
    amount: int
    expires_ms: int
    model: str


@dataclass(frozen=True, slots=True)
class DayBooks:
    """A clinic's day. Amounts are micro-baht."""

    spent: int = 0
    held: int = 0
    holds: Mapping[str, Hold] = field(default_factory=dict)
    turns: int = 0
    downgraded: int = 0
    stopped: int = 0
    ambiguous: int = 0
    thresholds: frozenset[int] = frozenset()
    budget_micro_baht: int | None = None
    by_model: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def committed(self) -> int:
        """Spent or reserved: what a decision may not add to beyond its limit."""
        return self.spent + self.held

    @classmethod
    def parse(cls, data: Mapping[str, Any] | None) -> DayBooks:
        """From the document, or of a day that has none yet."""
        data = data or {}
        holds = {
            turn: Hold(turn, hold["amount"], hold["expires_ms"], hold["model"])
            for turn, hold in data.get("holds", {}).items()
        }
        return cls(
            spent=data.get("spent", 0),
            held=data.get("held", 0),
            holds=holds,
            turns=data.get("turns", 0),
            downgraded=data.get("downgraded", 0),
            stopped=data.get("stopped", 0),
            ambiguous=data.get("ambiguous", 0),
            thresholds=frozenset(int(percent) for percent in data.get("thresholds", {})),
            budget_micro_baht=data.get("budget_micro_baht"),
            by_model={
                model: {
                    **{name: counts.get(name, 0) for name in MODEL_COUNTERS},
                    **{name: counts[name] for name in MEDIA_COUNTERS if counts.get(name)},
                }
                for model, counts in data.get("by_model", {}).items()
            },
        )

    def expired(self, now_ms: int) -> tuple[Hold, ...]:
        """Holds whose turn is gone: the next reservation charges them in full; they may have been billed."""
        return tuple(hold for hold in self.holds.values() if hold.expires_ms <= now_ms)


def decide(
    policy: BudgetPolicy,
    day: DayBooks,
    primary: Candidate,
    fallback: Candidate | None,
    outage: Candidate | None = None,
    out: Collection[str] = (),
) -> Decision:
    """Which model may be called now. `fallback` None: the clinic has none that is priced. `outage` takes the
    place of a model that is `out` (its provider's circuit is open, or does not know it) while the budget has
    room for it; without such a one, the model that is out has to be waited for.

    With the downgrade on, the primary has the budget up to the threshold and the fallback the rest. With it
    off, or with nothing to fall back to, the primary has all of it.
    """
    decision = _by_budget(policy, day, primary, fallback)
    if decision.model not in out or outage is None or outage.model in out:
        return decision
    beyond = day.committed + outage.worst_micro_baht > to_micro_baht(policy.daily_budget_baht)
    if beyond and policy.hard_stop_enabled:
        return decision
    return Decision(Kind.OUTAGE, outage.model, outage.worst_micro_baht, Reason.OUTAGE, flagged=beyond)


def _by_budget(
    policy: BudgetPolicy, day: DayBooks, primary: Candidate, fallback: Candidate | None
) -> Decision:
    budget = to_micro_baht(policy.daily_budget_baht)
    downgrade = policy.model_downgrade_enabled and fallback is not None and fallback.model != primary.model
    limit = min(budget, share_of(budget, policy.downgrade_threshold)) if downgrade else budget
    if day.committed + primary.worst_micro_baht <= limit:
        reason = Reason.WITHIN_THRESHOLD if downgrade else Reason.WITHIN_BUDGET
        return Decision(Kind.PRIMARY, primary.model, primary.worst_micro_baht, reason)
    if downgrade and fallback and day.committed + fallback.worst_micro_baht <= budget:
        return Decision(Kind.FALLBACK, fallback.model, fallback.worst_micro_baht, Reason.THRESHOLD_REACHED)
    if policy.hard_stop_enabled:
        return Decision(Kind.STOP, None, 0, Reason.BUDGET_SPENT)
    kind, chosen = (Kind.FALLBACK, fallback) if fallback else (Kind.PRIMARY, primary)
    return Decision(
        kind, chosen.model, chosen.worst_micro_baht, Reason.BUDGET_SPENT_NO_HARD_STOP, flagged=True
    )


def may_grow(policy: BudgetPolicy, day: DayBooks, more_micro_baht: int) -> bool:
    """May a running turn reserve another worst case for a retry? Its model stays; only the budget counts."""
    if not policy.hard_stop_enabled:
        return True
    return day.committed + more_micro_baht <= to_micro_baht(policy.daily_budget_baht)


def crossed_thresholds(day: DayBooks, decision: Decision, budget_micro_baht: int) -> tuple[int, ...]:
    """Percentages that this decision's reservation reaches for the first time today.

    Counted on what is committed, as the decision is. A budget that can't pay for one more call is used up,
    whatever small rest it has.
    """
    after = day.committed + decision.worst_micro_baht
    used_up = decision.reason in {Reason.BUDGET_SPENT, Reason.BUDGET_SPENT_NO_HARD_STOP}
    return tuple(
        percent
        for percent in THRESHOLDS
        if percent not in day.thresholds
        and (used_up or after >= share_of(budget_micro_baht, Decimal(percent) / 100))
    )


def budget_day(now_ms: int, timezone: str) -> str:
    """The day (YYYYMMDD) that a reservation made now belongs to, where the budget's day begins and ends."""
    return datetime.fromtimestamp(now_ms / 1000, ZoneInfo(timezone)).strftime("%Y%m%d")
