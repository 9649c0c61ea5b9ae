"""What the OpenAI stand-in served, in micro-baht: computed from its side of the socket alone."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from core.domain.money import charge, share_of, to_micro_baht, worst_case
from core.domain.prices import load_prices
from core.domain.prompt import Message
from core.domain.role_manager import asked_for_less
from core.domain.tokens import prompt_bound
from core.local.openai_api import Call
from core.local.openai_audio import Transcription
from core.ports.llm import Usage


def served(call: Call, thb_per_usd: Decimal) -> int:
    """What the call's tokens cost; 0 if none were billed."""
    if call.usage is None:
        return 0
    usage = Usage(
        input=call.usage.prompt,
        output=call.usage.completion,
        cached=call.usage.cached,
        cache_write=call.usage.cache_write,
    )
    return charge(load_prices().price_at(call.model, call.started_ms), usage, thb_per_usd).micro_baht


def listened(call: Transcription, thb_per_usd: Decimal) -> int:
    """What writing a recording down costs by the seconds that were billed."""
    price = load_prices().audio_price_at(call.model, call.started_ms)
    return price.of_seconds(Decimal(str(call.seconds)), thb_per_usd) if price else 0


def worst(call: Call, model: str, thb_per_usd: Decimal) -> int:
    """What the call as it was received could have cost at most, had it been made to `model`: with the words
    that a second attempt may add."""
    schema = call.body["response_format"]["json_schema"]
    messages = [Message(message["role"], message["content"]) for message in call.messages]
    bound = prompt_bound(asked_for_less(messages), schema_name=schema["name"], schema=schema["schema"])
    price = load_prices().price_at(model, call.started_ms)
    return worst_case(price, bound, int(call.body["max_completion_tokens"]), thb_per_usd)


def models_due(
    calls: Sequence[Call], primary: str, fallback: str, budget_baht: str, share: str, thb_per_usd: Decimal
) -> list[str]:
    """The model of each of a clinic's calls, made one after the other, by the rule: the primary model while
    what was served and this call's worst case stay within the budget's `share`."""
    limit = share_of(to_micro_baht(Decimal(budget_baht)), Decimal(share))
    spent, due = 0, []
    for call in calls:
        due.append(primary if spent + worst(call, primary, thb_per_usd) <= limit else fallback)
        spent += served(call, thb_per_usd)
    return due
