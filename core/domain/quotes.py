"""What a customer quotes: a message of ours, or of theirs, as the journal has it while it keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from core.domain.messages import reply_messages
from core.domain.turn import TurnRecord

MAX_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Quote:
    """`is_ours`: the clinic said it. `user_id`: else who did. `text` is "" if its words were erased."""

    message_id: str
    is_ours: bool
    text: str
    user_id: str | None = None


def quote_from(record: TurnRecord, message_id: str) -> Quote | None:
    """The message as it stands in a turn, or None if it is none of its messages."""
    if message_id in record.line_message_ids:
        parts = [str(message["text"]) for message in reply_messages(record.reply)]
        place = record.line_message_ids.index(message_id)
        return Quote(message_id, True, parts[place][:MAX_CHARS] if place < len(parts) else "")
    for event in record.events:
        if event.message_id == message_id:
            said = event.text or (f"[{event.note}]" if event.note else "")
            return Quote(message_id, False, said[:MAX_CHARS], event.user_id)
    return None
