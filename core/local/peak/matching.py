"""Which answer answers which message: by what LINE accepted, to whom, and what it quotes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from core.local.peak.evidence import Answer, Evidence, Message


@dataclass(slots=True)
class Fate:
    """What became of one message. `fixed`: the answer is a fixed text (busy, budget), not the model's."""

    message: Message
    answers: list[Answer] = field(default_factory=list)
    stopped: bool = False

    @property
    def lost(self) -> bool:
        return not self.answers and not self.stopped

    @property
    def fixed(self) -> bool:
        return bool(self.answers) and not self.answers[0].quoted

    @property
    def latency_ms(self) -> int | None:
        """Since the customer sent it."""
        return self.answers[0].at_ms - self.message.sent_ms if self.answers else None


def fates(evidence: Evidence) -> list[Fate]:
    """One a message. An answer that quotes several messages (they were coalesced) answers each of them."""
    by_chat: dict[tuple[str, str], list[Fate]] = defaultdict(list)
    for message in sorted(evidence.messages, key=lambda m: m.timestamp_ms):
        fate = Fate(message, stopped=message.event_id in evidence.stopped)
        by_chat[message.clinic, message.chat_id].append(fate)
    answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in sorted(evidence.answers, key=lambda a: a.at_ms):
        answers[answer.clinic, answer.chat_id].append(answer)
    for chat, chats_fates in by_chat.items():
        for answer in answers[chat]:
            for fate in _answered(answer, chats_fates):
                fate.answers.append(answer)
    return [fate for chats_fates in by_chat.values() for fate in chats_fates]


def _answered(answer: Answer, chats_fates: Sequence[Fate]) -> list[Fate]:
    if answer.quoted:
        return [fate for fate in chats_fates if fate.message.text in answer.quoted]
    # A fixed text: the token says for which event; what came before it was coalesced with it.
    asked = [
        fate for fate in chats_fates if answer.by_reply and fate.message.reply_token == answer.reply_token
    ]
    until_ms = asked[-1].message.timestamp_ms if asked else answer.at_ms
    open_ones = [f for f in chats_fates if not f.answers and f.message.timestamp_ms <= until_ms]
    return [*open_ones, *(fate for fate in asked if fate not in open_ones)]


def overtaken(all_fates: Iterable[Fate]) -> list[Fate]:
    """Messages that were answered after a later one of the same conversation, although they had been
    acknowledged before that later one was sent."""
    by_chat: Mapping[tuple[str, str], list[Fate]] = defaultdict(list)
    for fate in all_fates:
        if fate.answers:
            by_chat[fate.message.clinic, fate.message.chat_id].append(fate)
    found = []
    for chats_fates in by_chat.values():
        chats_fates.sort(key=lambda fate: fate.message.timestamp_ms)
        for i, fate in enumerate(chats_fates):
            at_ms, acked_ms = fate.answers[0].at_ms, fate.message.acked_ms
            if acked_ms is not None and any(
                later.answers[0].at_ms < at_ms and acked_ms <= later.message.sent_ms
                for later in chats_fates[i + 1 :]
            ):
                found.append(fate)
    return found
