"""The role manager: builds the prompt of a turn.

First what is the same, byte for byte, in every turn of a clinic's day (house rules, persona, prices, approved
answers), so that the provider's prompt cache hits; then what changes (state, memory, date), the recent
exchanges, and last, in one user message, the customer's words as they were written.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from core.domain.clinic import Clinic
from core.domain.clinic_prices import prompt_part
from core.domain.event import MAX_WAITING, MAX_WAITING_CHARS
from core.domain.memory import CustomerMemory
from core.domain.model_reply import SCHEMA, SCHEMA_NAME
from core.domain.moment import Moment
from core.domain.opening import state_of
from core.domain.prompt import Message, Picture, Prompt
from core.domain.session import Session
from core.domain.texts import blind_rule, house_rules, shorter_rule, unstated_rule
from core.domain.tokens import prompt_bound, request_estimate, text_bound

WORDS_TOKENS = 3 * MAX_WAITING_CHARS + MAX_WAITING
"""Upper bound of the tokens of a customer's words, counted in bytes: all that a mailbox keeps fits whole,
each message on its own line. Only characters of four bytes (emoji) may exceed it."""

AMOUNTS_TOKENS = 400
"""Upper bound of the tokens of the amounts that are named to the model, in bytes."""


def build_prompt(
    clinic: Clinic,
    session: Session,
    memory: CustomerMemory,
    words: Sequence[str],
    moment: Moment,
    *,
    overflow: int = 0,
    also_sent: Sequence[str] = (),
    pictures: Sequence[tuple[int, Picture]] = (),
    quotes: Sequence[Mapping[str, str]] = (),
    speaker: str = "",
    appointments: Sequence[Mapping[str, str]] = (),
    words_tokens: int = WORDS_TOKENS,
) -> Prompt:
    """`words`: the waiting messages, in order of LINE's timestamp. `overflow`: how many earlier ones are left
    out. `also_sent`: notes of what came with them and has no words (image, …). `pictures`: each with how many
    of the words come before it. `quotes`: what they quote, and
    who said it. `speaker`: in a group, whose words they are. `appointments`: what the customer has or
    asked for. Longer words than `words_tokens` keep their beginning and end."""
    facts = memory.facts if clinic.memory else ()
    state: dict[str, Any] = {
        "service": session.service,
        "area": session.area,
        "stage": session.stage.value,
        "preference": session.preference,
        "greeted": session.greeted,
        **state_of(clinic, moment),
    }
    if memory.had_handoff(moment.now_ms):
        state["people_had_the_chat"] = True
    if speaker:
        state["speaker"] = speaker
    if appointments:
        state["appointments"] = list(appointments)
    if overflow:
        state["earlier_messages_left_out"] = overflow
    if also_sent:
        state["also_sent"] = list(also_sent)
    known = {fact.key: fact.value for fact in facts}
    changing = f"Now: {moment}\n<state>{_data(state)}</state>\n<memory>{_data(known)}</memory>"
    if quotes:
        changing += f"\n<quoted>{_data(list(quotes))}</quoted>"
    history = [
        message
        for exchange in session.exchanges
        for message in (Message("user", exchange.customer_text), Message("assistant", exchange.reply))
        if message.content
    ]
    return Prompt(
        messages=(
            Message("system", stable_prefix(clinic, moment.local.date())),
            Message("system", changing),
            *history,
            _asked(words, pictures, words_tokens),
        ),
        schema_name=SCHEMA_NAME,
        schema=SCHEMA,
        cache_key=f"fairlane-{clinic.org_id}",
        facts_used=tuple(fact.key for fact in facts),
    )


def _asked(words: Sequence[str], pictures: Sequence[tuple[int, Picture]], words_tokens: int) -> Message:
    """The customer's words, and their pictures between them; behind them if the words were shortened."""

    def joined(count: int) -> str:
        return "\n".join(filter(str.strip, words[:count]))

    whole = joined(len(words))
    said = shortened(whole, words_tokens)
    placed = ((len(joined(before)) if said == whole else len(said), picture) for before, picture in pictures)
    return Message("user", said, tuple(placed))


def least_request(clinic: Clinic, now_ms: int) -> int:
    """Tokens that any turn of this clinic asks the provider's rate for (core.domain.tokens): those of a new
    customer's first word."""
    prompt = build_prompt(clinic, Session(), CustomerMemory(), ["?"], Moment(now_ms))
    bound = prompt_bound(prompt.messages, schema_name=prompt.schema_name, schema=prompt.schema)
    return request_estimate(bound, clinic.model.max_tokens)


def asked_for_less(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same question after an answer that was cut off: before the customer's words stands that the next
    one must be shorter."""
    return (*messages[:-1], Message("system", shorter_rule()), *messages[-1:])


def asked_without(messages: Sequence[Message], amounts: Sequence[str]) -> tuple[Message, ...]:
    """The same question after an answer that named amounts of money that the clinic does not state."""
    named = ", ".join(amounts).encode(errors="replace")[:AMOUNTS_TOKENS].decode(errors="ignore")
    rule = unstated_rule().replace("{amounts}", named)
    return (*messages[:-1], Message("system", rule), *messages[-1:])


def asked_blindly(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same question to a model that takes no pictures: it is told that there are some."""
    last = replace(messages[-1], pictures=())
    return (*messages[:-1], Message("system", blind_rule()), last)


def longest_asked(clinic: Clinic, messages: Sequence[Message]) -> tuple[Message, ...]:
    """What a turn of `messages` may ask at most, whatever is wrong with its answers."""
    longest = asked_for_less(messages)
    return asked_without(longest, ["x" * AMOUNTS_TOKENS]) if clinic.guards_prices else longest


def stable_prefix(clinic: Clinic, day: date) -> str:
    """Depends on nothing but the clinic's own document and the day where it is."""
    language = {"th": "Thai", "en": "English"}.get(clinic.language, "Thai")
    hours = clinic.hours.in_words()
    holidays = ", ".join(sorted(closed.isoformat() for closed in clinic.hours.holidays))
    own = clinic.persona.strip(), prompt_part(clinic.prices, clinic.answers, day)
    stated = "\n\n".join(filter(None, own))
    return (
        f"{house_rules()}\n\nThe clinic: {clinic.name}\nLanguage when the customer's is unclear: {language}\n"
        + (f"Opening hours: {hours}\n" if hours else "")
        + (f"Closed on: {holidays}\n" if holidays else "")
        + f"<clinic>\n{stated}\n</clinic>"
    )


def _data(values: dict[str, Any] | list[Mapping[str, str]]) -> str:
    """JSON on one line that can't close the tag it stands in, whatever the values are."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def shortened(text: str, tokens: int) -> str:
    """`text` within a bound of tokens (UTF-8 bytes): if it is too long, its middle gives way to a note."""
    if text_bound(text) <= tokens:
        return text
    raw = text.encode(errors="replace")
    half = max((tokens - text_bound(_NOTE.format(len(text)))) // 2, 0)
    head = raw[:half].decode(errors="ignore")
    tail = raw[len(raw) - half :].decode(errors="ignore")
    # Vowel signs and tone marks at the beginning belong to a letter that was cut off.
    while tail and unicodedata.category(tail[0]) == "Mn":
        tail = tail[1:]
    return head + _NOTE.format(len(text) - len(head) - len(tail)) + tail


_NOTE = "\n[… {} characters left out …]\n"
