"""Health facts are remembered only with the customer's consent (Thailand's Personal Data Protection Act,
section 26). Until the customer has decided they stay in the session, and go with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from core.domain import memory
from core.domain.event import EventKind, InboundEvent
from core.domain.memory import CustomerMemory, Fact, ProposedFact
from core.domain.session import Session

GIVE: Final = "fairlane:consent"
DECLINE: Final = "fairlane:decline"
"""What a tap on the question's two quick replies sends, in this order."""

_HEALTH = ("allerg", "illness", "disease", "medic", "pregnan", "health", "symptom")


def is_health(key: str) -> bool:
    """By the beginning of the fact's key: allergy, illness, medicine, pregnancy, and what else says so."""
    return key.lower().lstrip("_ ").startswith(_HEALTH)


def tapped(event: InboundEvent) -> bool | None:
    """The customer's decision, if the event is one. In a group nobody decides for another."""
    if event.kind != EventKind.POSTBACK or event.chat_type != "user":
        return None
    return {GIVE: True, DECLINE: False}.get(event.text)


@dataclass(frozen=True, slots=True)
class Learnt:
    """After a turn: what is remembered, what waits for consent, and whether to ask for it now."""

    memory: CustomerMemory
    awaiting: tuple[Fact, ...] = ()
    ask: bool = False


def learn(
    known: CustomerMemory,
    session: Session,
    proposals: Sequence[ProposedFact],
    *,
    turn_id: str,
    at_ms: int,
    words: str,
) -> Learnt:
    """Of a customer's own chat; in a group nothing is learnt. Health facts that were remembered without
    consent wait for it, too. A conversation is asked once."""

    def merged(facts: Sequence[Fact], wanted: Sequence[ProposedFact]) -> tuple[Fact, ...]:
        return memory.merge(facts, wanted, turn_id=turn_id, at_ms=at_ms, words=words)

    if known.consent:
        return Learnt(replace(known, facts=merged(known.facts, proposals)))
    health = [proposal for proposal in proposals if is_health(proposal.key)]
    others = [proposal for proposal in proposals if not is_health(proposal.key)]
    kept = replace(known, facts=merged([fact for fact in known.facts if not is_health(fact.key)], others))
    if known.consent is not None:
        return Learnt(kept)
    before = [fact for fact in known.facts if is_health(fact.key)]
    awaiting = merged([*before, *session.awaiting_consent], health)
    return Learnt(kept, awaiting, ask=bool(awaiting) and not session.consent_asked)


def decided(
    known: CustomerMemory, session: Session, *, given: bool, at_ms: int
) -> tuple[CustomerMemory, Session]:
    """Given: what waited is remembered. Declined, or withdrawn: health facts are erased."""
    ordinary = [fact for fact in known.facts if not is_health(fact.key)]
    health = {fact.key: fact for fact in (*known.facts, *session.awaiting_consent) if is_health(fact.key)}
    facts = (*ordinary, *health.values())[-memory.MAX_FACTS :] if given else tuple(ordinary)
    return (
        replace(known, facts=facts, consent=given, consent_ms=at_ms),
        replace(session, awaiting_consent=()),
    )


def in_prompt(known: CustomerMemory, session: Session) -> CustomerMemory:
    """What the model may know in this conversation: also what waits for consent."""
    said = {fact.key: fact for fact in (*known.facts, *session.awaiting_consent)}
    return replace(known, facts=tuple(said.values()))
