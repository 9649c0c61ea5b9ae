"""What a turn's calls may cost at most, and what they did cost: pure arithmetic over one price list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal

from core.domain.audio_prices import AudioPrice
from core.domain.budget import Candidate, DayBooks, Decision, Kind, Reason, decide
from core.domain.charges import ChargeKind, ChargeLine
from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.domain.media import MediaState, Wanted, voice_ms, with_media, words_bytes
from core.domain.money import charge, to_micro_baht, worst_case
from core.domain.prices import Prices
from core.domain.prompt import Prompt
from core.domain.providers import Providers
from core.domain.role_manager import asked_blindly, longest_asked
from core.domain.tokens import prompt_bound, request_estimate
from core.domain.turn import TurnEvent, TurnRecord
from core.ports.llm import LlmAnswer, LlmRequest, Usage
from core.ports.transcriber import Transcript
from core.usecases.journal.books import OtherCharge, Settlement

NOTHING_SENT = Wanted()

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


@dataclass(slots=True)
class Heard:
    """What became of a turn's voice messages so far: `states` and `words` by event id; their cost, and of
    attempts of which nobody knows what was billed, `ambiguous_cost`."""

    states: dict[str, MediaState] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    seconds: Decimal = Decimal(0)
    cost: int = 0
    ambiguous: int = 0
    ambiguous_cost: int = 0

    def told(self, event: TurnEvent) -> TurnEvent:
        state = self.states.get(event.id)
        return with_media(event, state, self.words.get(event.id, "")) if state else event


@dataclass(frozen=True, slots=True)
class Quote:
    """One turn's worst cases, for the primary model, for the fallback and for the one that is asked while
    these can't be (each if it has a price and the clinic may ask its provider). The prices of `now_ms` hold
    for the whole turn: one that changes meanwhile must not make a charge larger than its hold.
    `media`: pictures and voice messages that are to be fetched; the prompt may grow by them. `listening`:
    what writing the latter down costs at most, once, at `audio_price`; every decision holds it, too.
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
    media: Wanted = NOTHING_SENT
    audio_price: AudioPrice | None = None
    listening: int = 0

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
        media: Wanted = NOTHING_SENT,
        audio_price: AudioPrice | None = None,
    ) -> Quote:
        """Raises UnpricedModelError if the primary model has no price, BarredProviderError if the clinic may
        not ask its provider."""
        providers = providers or Providers()
        # The longest prompt that a call of this turn may have: see core.usecases.turn.model.examined.
        longest = longest_asked(clinic, prompt.messages)
        longest = asked_blindly(longest) if media.pictures else longest
        bound = (
            prompt_bound(longest, schema_name=prompt.schema_name, schema=prompt.schema) + media.text_tokens
        )
        listening = sum(_listening_to(event, audio_price, thb_per_usd) for event in media.voices)

        def candidate(model: str) -> Candidate:
            price = prices.price_at(model, now_ms)
            read = bound + len(media.pictures) * (prices.picture_tokens(model) or 0)
            return Candidate(model, listening + worst_case(price, read, clinic.model.max_tokens, thb_per_usd))

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
            media=media,
            audio_price=audio_price,
            listening=listening,
        )

    @property
    def tokens(self) -> int:
        """An estimate of what one call uses, for the provider's tokens per minute."""
        pictures = len(self.media.pictures) * (self.prices.picture_tokens(self.primary.model) or 0)
        return request_estimate(self.input_bound, self.clinic.model.max_tokens) + pictures

    def sees(self, model: str) -> bool:
        """Whether it is shown this turn's pictures."""
        return self.prices.picture_tokens(model) is not None

    @property
    def pictures(self) -> int:
        """How many stand in the prompt."""
        return sum(len(message.pictures) for message in self.prompt.messages)

    def choose(self, day: DayBooks, out: Collection[str] = ()) -> tuple[Decision, int]:
        """The decision on a day as it was read, and the day's budget in micro-baht. `out`: models that can't
        be asked now."""
        policy = self.clinic.budget
        decision = decide(policy, day, self.primary, self.fallback, self.outage, out)
        return decision, to_micro_baht(policy.daily_budget_baht)

    def worst(self, model: str) -> int:
        """What a call of one of the turn's models costs at most, in micro-baht."""
        worst = next(each.worst_micro_baht for each in self._candidates if each.model == model)
        return worst - self.listening

    def models_of(self, provider: str) -> set[str]:
        """Those of the turn's models that are this provider's."""
        return {each.model for each in self._candidates if self.providers.of(each.model) == provider}

    @property
    def _candidates(self) -> list[Candidate]:
        return [each for each in (self.primary, self.fallback, self.outage) if each]

    def request(self, model: str) -> LlmRequest:
        takes = self.prices.capabilities(model)
        messages = self.prompt.messages
        return LlmRequest(
            model=model,
            messages=messages if not self.pictures or self.sees(model) else asked_blindly(messages),
            max_tokens=self.clinic.model.max_tokens,
            schema_name=self.prompt.schema_name,
            schema=self.prompt.schema,
            temperature=takes.temperature_to_send(self.clinic.model.temperature),
            reasoning_effort=takes.reasoning_effort,
            output_limit=takes.output_limit,
            cache_key=self.prompt.cache_key,
        )

    def asked_instead(self, request: LlmRequest, model: str) -> LlmRequest:
        """The same of another model, with what was amended in it."""
        instead = self.request(model)
        if request.messages == self.request(request.model).messages:
            return instead
        blind = self.pictures and not self.sees(model)
        return replace(instead, messages=asked_blindly(request.messages) if blind else request.messages)

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
            pictures=self._shown(bill),
        )
        settled = settled.with_outcome(images=settled.money.pictures)
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
            pictures=settled.money.pictures,
        )

    def _shown(self, bill: Bill) -> int:
        return self.pictures if any(self.sees(call.model) for call in bill.calls) else 0

    def listening_to(self, event: TurnEvent) -> int:
        """What writing one voice message down costs at most, in micro-baht."""
        return _listening_to(event, self.audio_price, self.thb_per_usd)

    def written_down(self, event: TurnEvent, transcript: Transcript) -> int:
        """What it has cost; its worst case if the provider does not say."""
        price = self.audio_price
        if price and price.unit == "minute" and transcript.seconds is not None:
            return price.of_seconds(transcript.seconds, self.thb_per_usd)
        if price and price.unit == "tokens" and transcript.usage:
            return price.of_tokens(transcript.usage.input, transcript.usage.output, self.thb_per_usd)
        return self.listening_to(event)

    @staticmethod
    def seconds_of(event: TurnEvent, transcript: Transcript) -> Decimal:
        """As the provider counted, else as LINE says."""
        return transcript.seconds if transcript.seconds is not None else Decimal(voice_ms(event)) / 1000

    def listened(self, reserved: TurnRecord, heard: Heard) -> tuple[TurnRecord, Settlement]:
        """The turn after its voice messages were written down, and the same for the books: it goes on, and
        keeps one call's worst case."""
        money, price = reserved.money, self.audio_price.record() if self.audio_price else {}
        model, thb_per_usd = price.get("model", ""), str(self.thb_per_usd)
        keeps = money.worst_micro_baht - self.listening
        told = replace(reserved, events=tuple(map(heard.told, reserved.events))).with_money(
            worst_micro_baht=keeps,
            held_micro_baht=keeps,
            cost_micro_baht=money.cost_micro_baht + heard.cost + heard.ambiguous_cost,
            ambiguous_micro_baht=money.ambiguous_micro_baht + heard.ambiguous_cost,
            ambiguous_attempts=money.ambiguous_attempts + heard.ambiguous,
            audio={
                **price,
                "seconds": str(Decimal(money.audio.get("seconds", 0)) + heard.seconds),
                "micro_baht": money.audio.get("micro_baht", 0) + heard.cost,
            },
        )
        audio_ms = round(heard.seconds * 1000)
        call = ChargeLine(ChargeKind.CALL, model, heard.cost, usage={"audio_ms": audio_ms}, price=price)
        return told.with_outcome(voices=sum(e.media == MediaState.HEARD for e in told.events)), Settlement(
            reserved.id,
            model,
            released=money.held_micro_baht - keeps,
            cost=heard.cost,
            calls=[replace(call, thb_per_usd=thb_per_usd)] if heard.cost else [],
            ambiguous=heard.ambiguous,
            ambiguous_cost=heard.ambiguous_cost,
            price=price,
            thb_per_usd=thb_per_usd,
            ends=False,
            held_as=money.model,
            keeps=keeps,
            audio_ms=audio_ms,
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


def _listening_to(event: TurnEvent, price: AudioPrice | None, thb_per_usd: Decimal) -> int:
    seconds = Decimal(voice_ms(event)) / 1000
    return price.worst_case(seconds, words_bytes(event), thb_per_usd) if price else 0


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
