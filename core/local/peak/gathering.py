"""From what the stand-ins remember to evidence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

from core.domain.money import charge
from core.domain.prices import Prices, load_prices
from core.domain.turn import COLLECTION
from core.local.line_state import Delivery, LineCall
from core.local.openai_answers import QUOTE_CLOSE, QUOTE_OPEN
from core.local.openai_api import Call
from core.local.peak.evidence import Answer, Evidence, Message, ModelCall
from core.local.simulator import LineSimulator, Sent
from core.local.stack import LocalStack
from core.ports.documents import DocumentStore, Where
from core.ports.llm import Usage

_QUOTED = re.compile(f"{QUOTE_OPEN}(.*?){QUOTE_CLOSE}")
_THB_PER_USD = Decimal(36)


async def gather(
    evidence: Evidence,
    stack: LocalStack,
    documents: DocumentStore,
    simulator: LineSimulator,
    campaign: set[str],
) -> None:
    """Fill `evidence` with what LINE, OpenAI, the queue and the journal know at the end."""
    texts = {sent.text for sent in simulator.sent.values()}
    clinics = {sent.clinic.channel.channel_id: sent.clinic.org_id for sent in simulator.sent.values()}
    prices, end_ms = load_prices(), evidence.end_ms
    evidence.messages = [_message(sent, campaign) for sent in simulator.sent.values()]
    evidence.answers = [_answer(d, clinics.get(d.channel_id, "")) for d in stack.line.deliveries]
    first = [_call(call, texts, prices, end_ms) for call in stack.openai.calls]
    second = [_call(call, texts, prices, end_ms) for call in stack.backup.calls]
    evidence.calls = [*first, *(replace(call, is_backup=True) for call in second)]
    evidence.broken_rules = [f"{rule.call}: {rule.rule}" for rule in stack.line.broken_rules]
    evidence.most_running = max(stack.openai.most, stack.backup.most)
    # A clinic's limit holds at each provider.
    most = stack.openai.most_by_clinic, stack.backup.most_by_clinic
    evidence.most_by_clinic = {name: max(m[name] for m in most) for name in {*most[0], *most[1]}}
    evidence.dead = len(stack.tasks.dead)
    evidence.dispatches = _dispatches(stack)
    evidence.stopped = frozenset(await _stopped(documents))


def _dispatches(stack: LocalStack) -> Counter[str]:
    """Of every task of an event, by its id."""
    store = stack.tasks.queue().store
    count: Counter[str] = Counter()
    for task in (*store.finished, *store.tasks.values()):
        count[json.loads(task.body)["event"]["event_id"]] += task.dispatches
    return count


def _message(sent: Sent, campaign: set[str]) -> Message:
    acked = [ack.at_ms for ack in sent.acks if ack.status == 200]
    return Message(
        event_id=sent.event_id,
        clinic=sent.clinic.org_id,
        chat_id=sent.chat_id,
        text=sent.text,
        timestamp_ms=sent.timestamp_ms,
        sent_ms=sent.sent_ms,
        reply_token=sent.reply_token,
        acked_ms=min(acked, default=None),
        campaign=sent.event_id in campaign,
    )


def _answer(delivery: Delivery, clinic: str) -> Answer:
    said = "\n".join(delivery.texts)
    return Answer(
        clinic=clinic,
        chat_id=delivery.to,
        quoted=tuple(_QUOTED.findall(said)),
        by_reply=delivery.how is LineCall.REPLY,
        reply_token=delivery.reply_token,
        at_ms=delivery.at_ms,
    )


def _call(call: Call, texts: set[str], prices: Prices, end_ms: int) -> ModelCall:
    cost = 0
    if call.usage is not None:
        served = call.usage
        usage = Usage(served.prompt, served.completion, served.cached, served.cache_write)
        cost = charge(prices.price_at(call.model, call.started_ms), usage, _THB_PER_USD).micro_baht
    return ModelCall(
        clinic=call.clinic,
        started_ms=call.started_ms,
        ended_ms=call.ended_ms or end_ms,
        outcome=call.outcome,
        quoted=tuple(line for line in call.last_words.splitlines() if line in texts),
        cost_micro_baht=cost,
    )


async def _stopped(documents: DocumentStore) -> Iterator[str]:
    """Events whose turn the journal closed because the budget had no room: after the first such answer in an
    hour a customer is told nothing more."""
    turns = await documents.query(COLLECTION, [Where("failure", "==", "budget")])
    return (event["id"] for turn in turns for event in turn.data.get("events", ()))
