"""Who speaks in a group: short labels that stay the same, and what a member's prompt may hold of the others.

A member's health and what a turn has learnt about a member are that member's: they stand in no other member's
prompt. What else was said is the group's conversation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from string import ascii_uppercase

from core.domain.session import Exchange, Session
from core.domain.thai_text import normalized

_HEALTH = re.compile(
    r"แพ้|โรค|เบาหวาน|ความดัน|หอบหืด|หัวใจ|ท้อง|ครรภ์|ให้นมบุตร|ประจำตัว|(?:กิน|ทาน|ใช้|ฉีด)ยา|ยา(?:ละลาย|ความดัน|เบาหวาน)|ผ่าตัด|มะเร็ง|เอดส์"
    r"|allerg|pregnan|diabet|asthma|disease|illness|medicat|medicine|cancer|\bhiv\b"
)


def label(session: Session, user_id: str | None) -> str:
    """A letter for each who has spoken in this conversation, "" for one that LINE does not name."""
    if not user_id:
        return ""
    known = session.speakers
    place = known.index(user_id) if user_id in known else len(known)
    round_, letter = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(round_ + 1) if round_ else "")


def tells_of_health(text: str) -> bool:
    """Whether the model took it for a fact or not."""
    return _HEALTH.search(normalized(text)) is not None


def as_heard_by(session: Session, user_id: str | None) -> Session:
    """A group's conversation for this member's prompt: each message under its speaker's label, without what
    is another's own, and with only this member's wishes."""
    own = {exchange.turn_id for exchange in session.exchanges if exchange.speaker == user_id}
    heard = tuple(
        _labelled(session, exchange)
        for exchange in session.exchanges
        if exchange.turn_id in own or not exchange.is_personal
    )
    others = {turn_id for turn_id in session.learnt_from.values() if turn_id not in own}
    return replace(session.without_turns(others), exchanges=heard)


def _labelled(session: Session, exchange: Exchange) -> Exchange:
    name = label(session, exchange.speaker)
    return replace(exchange, customer_text=f"[{name}]\n{exchange.customer_text}") if name else exchange
