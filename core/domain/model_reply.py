"""What the model answers: one JSON object by a strict schema, and how it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from core.domain.errors import FairlaneError
from core.domain.memory import ProposedFact
from core.domain.stages import Stage

MAX_QUICK_REPLIES = 4
QUICK_REPLY_CHARS = 300  # LINE's limit of what a tap sends


class SchemaError(FairlaneError):
    """The model's answer is not what was asked for. It was paid; asking once more may help."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """`reply` goes to the customer. None: the model has nothing new to say about it. `handoff`: the reason
    why people should take over."""

    reply: str
    service: str | None = None
    area: str | None = None
    stage: str | None = None
    preference: str | None = None
    facts: tuple[ProposedFact, ...] = ()
    handoff: str | None = None
    quick_replies: tuple[str, ...] = ()

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
    quick_replies={
        "type": "array",
        "description": "Up to 4 answers the customer may tap, each at most 20 characters; may be empty.",
        "items": {"type": "string"},
    },
)


def parse_reply(content: str, finish_reason: str) -> ModelReply:
    """Raises SchemaError for what can't be given to a customer or believed.

    Harmless deviations are repaired: a missing property is null, too many or too long quick replies are left
    out.
    """
    try:
        raw = json.loads(content)
    except ValueError as exc:
        # Says why if the provider cut it off: length, content_filter, refusal.
        raise SchemaError(f"the answer is not JSON, it ended by {finish_reason}") from exc
    if not isinstance(raw, dict):
        raise SchemaError("the answer is not a JSON object")
    reply = _string(raw, "reply")
    if reply is None or not reply.strip():
        raise SchemaError("the answer's reply is empty")
    return ModelReply(
        reply=reply.strip(),
        service=_string(raw, "service"),
        area=_string(raw, "area"),
        stage=_string(raw, "stage"),
        preference=_string(raw, "preference"),
        facts=_facts(raw),
        handoff=_handoff(raw),
        quick_replies=_quick_replies(raw),
    )


def _string(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if value is not None and not isinstance(value, str):
        raise SchemaError(f"the answer's {name} is not a text")
    return value


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    value = raw.get(name) or []
    if not isinstance(value, list):
        raise SchemaError(f"the answer's {name} is not a list")
    return value


def _facts(raw: dict[str, Any]) -> tuple[ProposedFact, ...]:
    entries = _list(raw, "facts")
    if not all(isinstance(entry, dict) for entry in entries):
        raise SchemaError("the answer's facts are not objects")
    return tuple(
        ProposedFact(
            _string(entry, "key") or "", _string(entry, "value") or "", _string(entry, "because") or ""
        )
        for entry in entries
    )


def _handoff(raw: dict[str, Any]) -> str | None:
    handoff = raw.get("handoff")
    if handoff is None:
        return None
    if not isinstance(handoff, dict) or not isinstance(handoff.get("needed"), bool):
        raise SchemaError("the answer's handoff is neither null nor {needed, reason}")
    return (_string(handoff, "reason") or "unspecified") if handoff["needed"] else None


def _quick_replies(raw: dict[str, Any]) -> tuple[str, ...]:
    entries = _list(raw, "quick_replies")
    if not all(isinstance(entry, str) for entry in entries):
        raise SchemaError("the answer's quick_replies are not texts")
    labels = dict.fromkeys(entry.strip() for entry in entries)
    return tuple(label for label in labels if 0 < len(label) <= QUICK_REPLY_CHARS)[:MAX_QUICK_REPLIES]
