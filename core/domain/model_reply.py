"""What the model answers: one JSON object by a strict schema, and how it is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from core.domain.booking_wish import BookingWish, WishAction, read_wish
from core.domain.errors import FairlaneError
from core.domain.memory import ProposedFact
from core.domain.messages import one_line
from core.domain.plain_text import plain
from core.domain.questions import MAX_QUESTION_CHARS, MAX_TOPIC_CHARS, Missing
from core.domain.stages import Stage
from core.domain.unicode import well_formed
from core.domain.visible import is_damaged, looks_empty

MAX_QUICK_REPLIES = 4
QUICK_REPLY_CHARS = 300  # LINE's limit of what a tap sends

# How an answer ends, where the ending says more than its content does; these stand in the journal, too.
CUT_OFF = "length"
REFUSAL = "refusal"
CONTENT_FILTER = "content_filter"
NO_MESSAGE = "null_message"
NO_CHOICE = "no_choice"
_DECLINED = frozenset({REFUSAL, CONTENT_FILTER, NO_MESSAGE, NO_CHOICE})

FOR_STAFF = _DECLINED | {CUT_OFF, "content_policy_violation", "invalid_prompt"}
"""Why a question got no answer, where the customer's sending it again would end the same way."""


class SchemaError(FairlaneError):
    """The model's answer is not what was asked for. It was paid; asking once more may help."""


class CutOffError(SchemaError):
    """The answer was longer than it was allowed to be: asking for the same again would end the same way."""


class DeclinedError(FairlaneError):
    """The model will not answer this; `reason` is how its answer ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model declined: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ModelReply:
    """`reply` goes to the customer. None: the model has nothing new to say about it. `handoff`: the reason
    why people should take over. `missing`: what the clinic's own words do not answer. `is_unsure`: `reply`
    is our text instead of one with amounts that nothing covers."""

    reply: str
    service: str | None = None
    area: str | None = None
    stage: Stage | None = None
    preference: str | None = None
    facts: tuple[ProposedFact, ...] = ()
    handoff: str | None = None
    missing: Missing | None = None
    booking: BookingWish | None = None
    quick_replies: tuple[str, ...] = ()
    is_unsure: bool = False

    @property
    def updates(self) -> dict[str, str]:
        """For Session.with_turn and the journal."""
        said = {
            "service": self.service,
            "area": self.area,
            "stage": self.stage,
            "preference": self.preference,
        }
        return {name: value for name, value in said.items() if value is not None}


SCHEMA_NAME = "clinic_reply"


def _object(**properties: Any) -> dict[str, Any]:
    # Strict mode wants every property required and no others.
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_TEXT_OR_NULL: Final = {"type": ["string", "null"]}


def _text_or_null(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "description": description}


# Only keywords that strict structured outputs have always known: a schema that is refused is a 400, which is
# never retried. Lengths and counts are asked for in words and enforced by parse_reply.
SCHEMA: dict[str, Any] = _object(
    reply=_text("What the customer reads. Plain text, no Markdown."),
    service=_text_or_null("The service the customer is interested in; null if nothing new."),
    area=_text_or_null("Part of the body, or branch, that it is about; null if nothing new."),
    stage={
        "type": "string",
        "enum": [stage.value for stage in Stage],
        "description": "Stage after this reply.",
    },
    preference=_text_or_null("Wishes for time, staff or method; null if nothing new."),
    facts={
        "type": "array",
        "description": "Lasting facts about the customer to remember; mostly empty.",
        "items": _object(
            key=_text("Short English name such as nickname or allergy."),
            value=_text("At most 200 characters; empty to forget the fact."),
            because=_text("The customer's own words it rests on, copied exactly from the last message."),
        ),
    },
    handoff={
        "anyOf": [
            _object(needed={"type": "boolean"}, reason=_text("Why people should take over, in a few words.")),
            {"type": "null"},
        ]
    },
    missing={
        "anyOf": [
            _object(
                topic=_text("In one to three words."), question=_text("The question, short and general.")
            ),
            {"type": "null"},
        ]
    },
    booking={
        "anyOf": [
            _object(
                action={"type": "string", "enum": [action.value for action in WishAction]},
                service=_TEXT_OR_NULL,
                date=_text_or_null("YYYY-MM-DD, counted from Now."),
                time=_text_or_null("HH:MM, 24 hours."),
                name=_TEXT_OR_NULL,
                phone=_TEXT_OR_NULL,
                note=_text_or_null("What else staff must know."),
            ),
            {"type": "null"},
        ]
    },
    quick_replies={
        "type": "array",
        "description": "Up to 4 answers the customer may tap, each at most 20 characters; may be empty.",
        "items": {"type": "string"},
    },
)


def parse_reply(content: str, finish_reason: str) -> ModelReply:
    """Raises SchemaError for what has no reply that can be given to a customer, CutOffError if it was cut off
    as well, DeclinedError if the model will not answer.

    The answer is paid: the first object counts, whatever stands around it, and of its properties those that
    are whole. Only `reply` is insisted on; any other property that is missing or can't be read counts as
    absent, and too many or too long quick replies are left out.
    """
    if finish_reason in _DECLINED:
        raise DeclinedError(finish_reason)
    raw = _first_object(content) if isinstance(content, str) else {}
    reply = _string(raw.get("reply"))
    unusable = CutOffError if finish_reason == CUT_OFF else SchemaError
    if reply is None or looks_empty(reply):
        raise unusable(f"the answer has no whole reply, it ended by {finish_reason}")
    if is_damaged(reply):
        raise unusable("control characters stand in the reply, where letters were lost")
    reply = plain(reply)
    if looks_empty(reply):
        raise unusable("the reply is nothing but Markdown")
    return ModelReply(
        reply=reply,
        service=_string(raw.get("service")),
        area=_string(raw.get("area")),
        stage=_stage(raw.get("stage")),
        preference=_string(raw.get("preference")),
        facts=_facts(raw.get("facts")),
        handoff=_handoff(raw.get("handoff")),
        missing=_missing(raw.get("missing")),
        booking=read_wish(raw.get("booking")),
        quick_replies=_quick_replies(raw.get("quick_replies")),
    )


_BLANKS = re.compile(r"\s*+")
_DECODER = json.JSONDecoder(strict=False)  # a line feed in a string is taken as one


def _first_object(content: str) -> dict[str, Any]:
    """The whole properties of the first JSON object in `content`, up to where it ends or breaks off."""
    found: dict[str, Any] = {}
    at = content.find("{") + 1
    try:
        while at and content[at := _blanks_end(content, at)] == '"':
            key, at = _DECODER.raw_decode(content, at)
            if content[at := _blanks_end(content, at)] != ":":
                break
            value, at = _DECODER.raw_decode(content, _blanks_end(content, at + 1))
            ends_with = content[(at := _blanks_end(content, at)) : at + 1]
            if ends_with not in {",", "}", ""}:
                break  # a quotation mark in the text, not at its end
            found.setdefault(key, value)
            at = at + 1 if ends_with == "," else 0
    except (ValueError, IndexError, RecursionError):
        pass  # it breaks off here
    return found


def _blanks_end(content: str, at: int) -> int:
    found = _BLANKS.match(content, at)
    return found.end() if found else at


def _string(value: Any) -> str | None:
    return well_formed(value) if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _stage(value: Any) -> Stage | None:
    try:
        return Stage(value)
    except ValueError:
        return None


def _facts(value: Any) -> tuple[ProposedFact, ...]:
    """Whole ones: an empty value forgets a fact, one that can't be read must not."""
    entries = [entry for entry in _list(value) if isinstance(entry, dict)]
    read = [[_string(entry.get(name)) for name in ("key", "value", "because")] for entry in entries]
    return tuple(ProposedFact(*map(str, parts)) for parts in read if None not in parts)


def _handoff(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("needed") is not True:
        return None
    return _string(value.get("reason")) or "unspecified"


def _missing(value: Any) -> Missing | None:
    parts = [_string(value.get(name)) if isinstance(value, dict) else None for name in ("topic", "question")]
    topic, question = (one_line(part or "") for part in parts)
    if looks_empty(question) or is_damaged(question) or is_damaged(topic):
        return None
    return Missing(topic[:MAX_TOPIC_CHARS], question[:MAX_QUESTION_CHARS])


def _quick_replies(value: Any) -> tuple[str, ...]:
    texts = (text for entry in _list(value) if (text := _string(entry)) and not is_damaged(text))
    labels = dict.fromkeys(map(one_line, texts))
    fitting = (label for label in labels if len(label) <= QUICK_REPLY_CHARS and not looks_empty(label))
    return tuple(fitting)[:MAX_QUICK_REPLIES]
