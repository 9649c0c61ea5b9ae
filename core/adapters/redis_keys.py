"""Every Redis key name of fairlane. Names are built nowhere else, least of all in Lua.

A hash tag (`{…}`) keeps the keys that one script touches in one hash slot.
"""

from __future__ import annotations

from core.domain.event import Conversation

SLOTS = "slots:{slots}"


def slots(part: str) -> str:
    """The slots' state: one hash tag, since every operation looks at all of it."""
    return f"{SLOTS}:{part}"


def slots_wake(process: str) -> str:
    """The wake list of one process: grants are pushed here, one blocking connection pops them."""
    return f"{SLOTS}:wake:{process}"


def session(conversation: Conversation) -> str:
    return f"conv:{conversation.key}"


def mailbox(conversation: Conversation, part: str) -> str:
    return f"mail:{conversation.key}:{part}"


def shaper_org(org_id: str) -> str:
    return f"rate:org:{org_id}"


def shaper_sender(org_id: str, sender: str) -> str:
    return f"rate:sender:{org_id}:{sender}"


def line_token(channel_id: str) -> str:
    return f"line:token:{channel_id}"
