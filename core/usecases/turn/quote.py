"""What a turn's calls may cost at most, and what they did cost: pure arithmetic over one price list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal

from core.domain.budget import Candidate, DayBooks, Decision, Kind, decide
from core.domain.charges import ChargeKind, ChargeLine
from core.domain.clinic import Clinic
from core.domain.money import charge, to_micro_baht, worst_case
from core.domain.prices import Price, Prices
from core.domain.prompt import Prompt
from core.domain.role_manager import longest_asked
from core.domain.tokens import prompt_bound, request_estimate
from core.domain.turn import TurnRecord
from core.ports.llm import LlmAnswer, LlmRequest, Usage
from core.usecases.journal.books import Settlement

UNCOUNTED = Usage(0, 0)
"""Of an answer that came without counts: an answered call, charged at its worst case."""


@dataclass(slots=True)
class Bill:
    """What the attempts so far have cost or may have cost."""

    answered: list[LlmAnswer] = field(default_factory=list)
    ambiguous: int = 0
    attempts: int = 0
    waited_ms: int = 0

    @property
    def uncertain_or_paid(self) -> int:
        return len(self.answered) + self.ambiguous


@dataclass(frozen=True, slots=True)
class Quote:
    """One turn's worst cases, for the primary model and for the fallback (if it has a price). The prices of
    `now_ms` hold for the whole turn: one that changes meanwhile must not make a charge larger than its hold.
    """

    clinic: Clinic
    prompt: Prompt
    prices: Prices
    thb_per_usd: Decimal
    now_ms: int
    input_bound: int
    primary: Candidate
    fallback: Candidate | None

    @classmethod
    def of(cls, clinic: Clinic, prompt: Prompt, prices: Prices, thb_per_usd: Decimal, now_ms: int) -> Quote:
        """Raises UnpricedModelError if the primary model has no price."""
        # The longest prompt that a call of this turn may have: see core.usecases.turn.model.examined.
        longest = longest_asked(clinic, prompt.messages)
        bound = prompt_bound(longest, schema_name=prompt.schema_name, schema=prompt.schema)

        def candidate(model: str) -> Candidate:
            price = prices.price_at(model, now_ms)
            return Candidate(model, worst_case(price, bound, clinic.model.max_tokens, thb_per_usd))

        name = clinic.budget.fallback_model
        fallback = candidate(name) if name and prices.is_priced(name, now_ms) else None
        primary = candidate(clinic.model.model_name)
        return cls(clinic, prompt, prices, thb_per_usd, now_ms, bound, primary, fallback)

    @property
    def tokens(self) -> int:
        """An estimate of what one call uses, for the provider's tokens per minute."""
        return request_estimate(self.input_bound, self.clinic.model.max_tokens)

    def choose(self, day: DayBooks) -> tuple[Decision, int]:
        """The decision on a day as it was read, and the day's budget in micro-baht."""
        policy = self.clinic.budget
        return decide(policy, day, self.primary, self.fallback), to_micro_baht(policy.daily_budget_baht)

    def request(self, model: str) -> LlmRequest:
        takes = self.prices.capabilities(model)
        return LlmRequest(
            model=model,
            messages=self.prompt.messages,
            max_tokens=self.clinic.model.max_tokens,
            schema_name=self.prompt.schema_name,
            schema=self.prompt.schema,
            temperature=takes.temperature_to_send(self.clinic.model.temperature),
            reasoning_effort=takes.reasoning_effort,
            output_limit=takes.output_limit,
            cache_key=self.prompt.cache_key,
        )

    def settlement(
        self, reserved: TurnRecord, bill: Bill, record: TurnRecord
    ) -> tuple[TurnRecord, Settlement]:
        """`record`, which replaces `reserved`, with what its calls have cost, and the same for the books."""
        money = reserved.money
        price = self.prices.price_at(money.model, self.now_ms)
        calls = [
            self._charged(money.model, price, answer, answer.usage)
            for answer in bill.answered
            if answer.usage
        ]
        cost = sum(call.micro_baht for call in calls)
        ambiguous = bill.ambiguous + sum(answer.usage is None for answer in bill.answered)
        ambiguous_cost = ambiguous * money.worst_micro_baht
        usages = [answer.usage or UNCOUNTED for answer in bill.answered]
        settled = replace(record, attempts=bill.attempts, waited_ms=bill.waited_ms).with_money(
            held_micro_baht=0,
            cost_micro_baht=money.cost_micro_baht + cost + ambiguous_cost,
            ambiguous_micro_baht=money.ambiguous_micro_baht + ambiguous_cost,
            ambiguous_attempts=money.ambiguous_attempts + ambiguous,
            usage=_total(money.usage, usages),
            price=price.record(),
            thb_per_usd=str(self.thb_per_usd),
            service_tier=bill.answered[-1].service_tier if bill.answered else None,
        )
        return settled, Settlement(
            record.id,
            money.model,
            released=money.held_micro_baht,
            cost=cost,
            usages=usages,
            calls=calls,
            ambiguous=ambiguous,
            ambiguous_cost=ambiguous_cost,
            price=price.record(),
            thb_per_usd=str(self.thb_per_usd),
            downgraded=money.decision == Kind.FALLBACK,
        )

    def _charged(self, model: str, price: Price, answer: LlmAnswer, usage: Usage) -> ChargeLine:
        multiplier = self.prices.tier_multiplier(answer.service_tier)
        return ChargeLine(
            ChargeKind.CALL,
            model,
            charge(price, usage, self.thb_per_usd, multiplier=multiplier).micro_baht,
            usage=asdict(usage),
            price=price.record(),
            thb_per_usd=str(self.thb_per_usd),
            service_tier=answer.service_tier,
        )


def _total(before: Mapping[str, int], usages: Sequence[Usage]) -> dict[str, int]:
    """Tokens of all answered attempts (an answer that broke the schema was paid, too)."""
    return {
        kind: before.get(kind, 0) + sum(getattr(usage, kind) for usage in usages)
        for kind in ("input", "cached", "cache_write", "output")
    }
