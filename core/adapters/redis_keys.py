"""Every Redis key name of fairlane. Names are built nowhere else, least of all in Lua.

A hash tag (`{…}`) keeps the keys of a conversation, and those of a provider's slots, in one hash slot. Only
the generation, the rates, the backlogs and the clinics' marks stand outside: they are those of a whole Redis.
"""

from __future__ import annotations

from core.domain.event import Conversation
from core.domain.providers import DEFAULT_PROVIDER


def slots(part: str, provider: str = DEFAULT_PROVIDER) -> str:
    """A provider's slots: one hash tag, since every operation looks at all of it. By the provider's name, so
    that another order of them changes nothing."""
    tag = "slots" if provider == DEFAULT_PROVIDER else f"slots:{provider}"
    return f"slots:{{{tag}}}:{part}"


def slots_wake(process: str, provider: str = DEFAULT_PROVIDER) -> str:
    """The wake channel of one process: the grants of all its waiters at a provider are published here."""
    return slots(f"wake:{process}", provider)


def session(conversation: Conversation) -> str:
    """The conversation's state."""
    return f"conv:{conversation.key}"


def mailbox(conversation: Conversation, part: str) -> str:
    """The session's whole name is the hash tag, so that both lie in one hash slot."""
    return f"mail:{{{session(conversation)}}}:{part}"


GENERATION = "mail:generation"
"""Names the data that Redis has now: another one after it came back empty (lua/mailbox_order.lua)."""


TOLD = "backlog:told"
"""When the last one is due who is told that they were not reached: one line for all clinics."""


RESTORED = "backlog:restored"
"""Set while somebody writes the clinics' lines anew that Redis has lost."""


def backlog(org_id: str, part: str) -> str:
    """What is planned of a clinic's waiting turns (lua/backlog.lua)."""
    return f"backlog:{org_id}:{part}"


def clinic_mark(org_id: str) -> str:
    """Another one after the clinic was changed: whoever knows an older one reads the clinic anew."""
    return f"clinic:mark:{org_id}"


def shaper_org(org_id: str) -> str:
    return f"rate:org:{org_id}"


def shaper_sender(org_id: str, sender: str) -> str:
    return f"rate:sender:{org_id}:{sender}"


def line_token(channel_id: str, secret_digest: str) -> str:
    """A channel access token; a changed secret must not live on what the old one was issued."""
    return f"line:token:{channel_id}:{secret_digest}"


def display_name(org_id: str, user_id: str) -> str:
    """What LINE calls a person."""
    return f"line:name:{org_id}:{user_id}"
