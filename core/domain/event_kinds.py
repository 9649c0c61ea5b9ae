"""Everything that a kind of event means, in one table: how it is read, and how it is answered.

Every other event type of LINE's is ignored on purpose, since nobody asks for anything by it: join,
memberJoined, memberLeft, beacon, accountLink, membership, videoPlayComplete, delivery, module, activated,
deactivated, botSuspended, botResumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from core.domain import line_words as words
from core.domain.event import EventKind, InboundEvent
from core.domain.thai_text import is_blank

Reader = Callable[[Mapping[str, Any], Mapping[str, Any], str | None], str | None]


class Action(StrEnum):
    ANSWER = "answer"  # by the model
    TEXT = "text"  # a fixed text, see core.domain.texts
    HANDOFF = "handoff"  # the customer asked for people: the text `handoff`, then silence
    FORGET_MESSAGE = "forget_message"  # unsend: out of mailbox, state and journal
    PURGE = "purge"  # the customer has left: the data goes after the retention
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class KindRules:
    """`read`: what it says, from LINE's JSON. `text_key`: the fixed text that answers it where it has no
    words; with words the model answers. `action`: what is done instead of an answer. `is_message`: LINE calls
    it a message. `has_words`: it always has some, so that one without has lost them. `everywhere`: it needs
    no answer, so it counts in groups and while another module has the chat (standby). `from_us`: it is a tap
    on something that we sent, so in a group, too, it is for us."""

    read: Reader
    text_key: str | None = None
    action: Action | None = None
    is_message: bool = False
    has_words: bool = False
    everywhere: bool = False
    from_us: bool = False


KINDS: Final[Mapping[str, KindRules]] = {
    EventKind.TEXT: KindRules(words.of_text, "no_words", is_message=True, has_words=True),
    EventKind.LOCATION: KindRules(words.of_location, "unsupported", is_message=True, has_words=True),
    EventKind.STICKER: KindRules(words.of_sticker, "sticker", is_message=True),
    EventKind.IMAGE: KindRules(words.of_nothing, "image", is_message=True),
    EventKind.AUDIO: KindRules(words.of_nothing, "audio", is_message=True),
    EventKind.VIDEO: KindRules(words.of_nothing, "video", is_message=True),
    EventKind.FILE: KindRules(words.of_nothing, "file", is_message=True),
    EventKind.UNKNOWN: KindRules(words.of_nothing, "unsupported", is_message=True),
    EventKind.POSTBACK: KindRules(words.of_postback, "unsupported", has_words=True, from_us=True),
    EventKind.FOLLOW: KindRules(words.of_nothing, "greeting"),
    EventKind.EDIT: KindRules(words.of_edit, action=Action.IGNORE, everywhere=True),
    EventKind.LEAVE: KindRules(words.of_nothing, action=Action.IGNORE, everywhere=True),
    EventKind.UNSEND: KindRules(words.of_unsend, action=Action.FORGET_MESSAGE, everywhere=True),
    EventKind.UNFOLLOW: KindRules(words.of_nothing, action=Action.PURGE, everywhere=True),
}

_UNKNOWN: Final = KindRules(words.of_nothing, action=Action.IGNORE)


def rules_of(kind: str) -> KindRules:
    """A kind that only a newer version knows is ignored."""
    return KINDS.get(kind, _UNKNOWN)


def is_wordless(kind: str) -> bool:
    """A message that may well have no words: a picture, a sticker."""
    rules = rules_of(kind)
    return rules.is_message and not rules.has_words


def note_of(event: InboundEvent) -> str:
    """What was done besides words, in a few: `image`, `sticker: bow, thanks`; "" if there was nothing."""
    if event.kind == EventKind.FOLLOW:
        return "added the clinic on LINE"
    if not is_wordless(event.kind) or (event.text and not event.hint):
        return ""
    return f"{event.kind}: {event.hint}" if event.hint else str(event.kind)


def asks_model(event: InboundEvent) -> bool:
    """It has words that a model answers."""
    return rules_of(event.kind).action is None and not is_blank(event.text)
