"""What a turn's calls may cost at most, and what they did cost: pure arithmetic over one price list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal

from core.domain.budget import Candidate, DayBooks, Decision, Kind, Reason, decide
from core.domain.charges import ChargeKind, ChargeLine
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.money import charge, to_micro_baht, worst_case
from core.domain.prices import Prices
from core.domain.prompt import Prompt
from core.domain.providers import Providers
from core.domain.role_manager import longest_asked
from core.domain.tokens import prompt_bound, request_estimate
from core.domain.turn import TurnRecord
from core.ports.llm import LlmAnswer, LlmRequest, Usage
from core.usecases.journal.books import OtherCharge, Settlement

UNCOUNTED = Usage(0, 0)
"""Of an answer that came without counts: an answered call, charged at its worst case."""


@dataclass(frozen=True, slots=True)
class BilledCall:
    """`answer` None: nobody knows what became of it."""

    model: str
    answer: LlmAnswer | None = None

    @property
    def is_counted(self) -> bool:
        return self.answer is not None and self.answer.usage is not None


@dataclass(slots=True)
class Bill:
    """What the attempts so far have cost or may have cost. `attempts` leaves out those that the provider
    refused for its rates; `asked`: the model of the last one."""

    calls: list[BilledCall] = field(default_factory=list)
    attempts: int = 0
    waited_ms: int = 0
    asked: str = ""

    @property
    def answered(self) -> list[LlmAnswer]:
        return [call.answer for call in self.calls if call.answer]

    @property
    def ambiguous(self) -> int:
        return sum(call.answer is None for call in self.calls)

    @property
    def uncertain_or_paid(self) -> int:
        return len(self.calls)


@dataclass(frozen=True, slots=True)
class Quote:
    """One turn's worst cases, for the primary model, for the fallback and for the one that is asked while
    these can't be (each if it has a price and the clinic may ask its provider). The prices of `now_ms` hold
    for the whole turn: one that changes meanwhile must not make a charge larger than its hold.
    """

    clinic: Clinic
    prompt: Prompt
    prices: Prices
    thb_per_usd: Decimal
    now_ms: int
    input_bound: int
    primary: Candidate
    fallback: Candidate | None
    outage: Candidate | None = None
    providers: Providers = field(default_factory=Providers)

    @classmethod
    def of(
        cls,
        clinic: Clinic,
        prompt: Prompt,
        prices: Prices,
        thb_per_usd: Decimal,
        now_ms: int,
        *,
        providers: Providers | None = None,
    ) -> Quote:
        """Raises UnpricedModelError if the primary model has no price, BarredProviderError if the clinic may
        not ask its provider."""
        providers = providers or Providers()
        # The longest prompt that a call of this turn may have: see core.usecases.turn.model.examined.
        longest = longest_asked(clinic, prompt.messages)
        bound = prompt_bound(longest, schema_name=prompt.schema_name, schema=prompt.schema)

        def candidate(model: str) -> Candidate:
            price = prices.price_at(model, now_ms)
            return Candidate(model, worst_case(price, bound, clinic.model.max_tokens, thb_per_usd))

        def spare(model: str | None) -> Candidate | None:
            usable = model and prices.is_priced(model, now_ms) and _allows(clinic, providers, model)
            return candidate(model) if model and usable else None

        if not _allows(clinic, providers, clinic.model.model_name):
            raise BarredProviderError(clinic.model.model_name)
        primary, fallback = candidate(clinic.model.model_name), spare(clinic.budget.fallback_model)
        outage = spare(clinic.model.outage_model)
        return cls(
            clinic,
            prompt,
            prices,
            thb_per_usd,
            now_ms,
            bound,
            primary,
            fallback,
            outage=outage if outage and providers.knows(outage.model) else None,
            providers=providers,
        )

    @property
    def tokens(self) -> int:
        """An estimate of what one call uses, for the provider's tokens per minute."""
        return request_estimate(self.input_bound, self.clinic.model.max_tokens)

    def choose(self, day: DayBooks, out: Collection[str] = ()) -> tuple[Decision, int]:
        """The decision on a day as it was read, and the day's budget in micro-baht. `out`: models that can't
        be asked now."""
        policy = self.clinic.budget
        decision = decide(policy, day, self.primary, self.fallback, self.outage, out)
        return decision, to_micro_baht(policy.daily_budget_baht)

    def worst(self, model: str) -> int:
        """What a call of one of the turn's models costs at most, in micro-baht."""
        return next(each.worst_micro_baht for each in self._candidates if each.model == model)

    def models_of(self, provider: str) -> set[str]:
        """Those of the turn's models that are this provider's."""
        return {each.model for each in self._candidates if self.providers.of(each.model) == provider}

    @property
    def _candidates(self) -> list[Candidate]:
        return [each for each in (self.primary, self.fallback, self.outage) if each]

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
        model = bill.asked or money.model
        lines = [(call, self._line(call, reserved)) for call in bill.calls]
        own = [(call, line) for call, line in lines if call.model == model]
        calls = [line for _, line in own if line.kind is ChargeKind.CALL]
        unknown = [line for _, line in lines if line.kind is ChargeKind.UNKNOWN]
        own_unknown = [line for line in unknown if line.model == model]
        others = _others(lines, model)
        price = self.prices.price_at(model, self.now_ms).record()
        usages = _usages([call for call, _ in own])
        settled = replace(record, attempts=bill.attempts, waited_ms=bill.waited_ms).with_money(
            model=model,
            worst_micro_baht=self._worst(model, reserved),
            held_micro_baht=0,
            cost_micro_baht=money.cost_micro_baht + _sum([line for _, line in lines]),
            ambiguous_micro_baht=money.ambiguous_micro_baht + _sum(unknown),
            ambiguous_attempts=money.ambiguous_attempts + len(unknown),
            usage=_total(money.usage, usages),
            price=price,
            thb_per_usd=str(self.thb_per_usd),
            service_tier=bill.answered[-1].service_tier if bill.answered else None,
            others={**money.others, **{other.model: other.cost for other in others}},
        )
        if self.outage and model == self.outage.model != money.model:
            settled = settled.with_money(decision=Kind.OUTAGE.value, reason=Reason.OUTAGE.value)
        return settled, Settlement(
            record.id,
            model,
            released=money.held_micro_baht,
            cost=_sum(calls),
            usages=usages,
            calls=calls,
            ambiguous=len(unknown),
            ambiguous_cost=_sum(own_unknown),
            price=price,
            thb_per_usd=str(self.thb_per_usd),
            downgraded=settled.money.decision == Kind.FALLBACK,
            others=others,
            held_as=money.model,
        )

    def _line(self, call: BilledCall, reserved: TurnRecord) -> ChargeLine:
        """By its own model's price; the worst case of what the provider did not count."""
        price = self.prices.price_at(call.model, self.now_ms)
        thb_per_usd, answer = str(self.thb_per_usd), call.answer
        if answer is None or answer.usage is None:
            worst = self._worst(call.model, reserved)
            unknown = ChargeLine(ChargeKind.UNKNOWN, call.model, worst)
            return replace(unknown, price=price.record(), thb_per_usd=thb_per_usd)
        tier = self.prices.tier_multiplier(answer.service_tier)
        return ChargeLine(
            ChargeKind.CALL,
            call.model,
            charge(price, answer.usage, self.thb_per_usd, multiplier=tier).micro_baht,
            usage=asdict(answer.usage),
            price=price.record(),
            thb_per_usd=thb_per_usd,
            service_tier=answer.service_tier,
        )

    def _worst(self, model: str, reserved: TurnRecord) -> int:
        """The worst case that the turn's hold was computed with."""
        money = reserved.money
        return money.worst_micro_baht if model == money.model else self.worst(model)


class BarredProviderError(InvalidInputError):
    """The clinic's own model is one of a provider that it may not ask."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model {model!r} is of a provider that is not among the clinic's providers")


def _allows(clinic: Clinic, providers: Providers, model: str) -> bool:
    return not clinic.providers or providers.of(model) in clinic.providers


def _others(lines: Sequence[tuple[BilledCall, ChargeLine]], model: str) -> list[OtherCharge]:
    """What calls of other models have cost, one entry a model."""
    names = dict.fromkeys(call.model for call, _ in lines if call.model != model)
    return [
        OtherCharge(
            name,
            [line for _, line in lines if line.model == name],
            _usages([call for call, _ in lines if call.model == name]),
        )
        for name in names
    ]


def _sum(lines: Sequence[ChargeLine]) -> int:
    return sum(line.micro_baht for line in lines)


def _usages(calls: Sequence[BilledCall]) -> list[Usage]:
    """Of the answered ones, counted or not."""
    return [call.answer.usage or UNCOUNTED for call in calls if call.answer]


def _total(before: Mapping[str, int], usages: Sequence[Usage]) -> dict[str, int]:
    """Tokens of all answered attempts (an answer that broke the schema was paid, too)."""
    return {
        kind: before.get(kind, 0) + sum(getattr(usage, kind) for usage in usages)
        for kind in ("input", "cached", "cache_write", "output")
    }
