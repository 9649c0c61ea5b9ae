"""The demo's stand-in for a model: the receptionist, who has one price wrong.

It reads only what it is sent, as a model does: whether it knows a customer depends on fairlane's prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.local.openai_answers import last_words, reply_text
from core.local.receptionist import receive

MISTAKEN, MISTAKE, MENDED = "ผ่าฟันคุด", "ผ่าฟันคุด 2,000 บาทค่ะ", "ผ่าฟันคุด 3,500 บาทค่ะ"
"""What the model has wrong, until it is told so."""


def answer(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """For `OpenAiApi.answer`: the receptionist's, with the customer's name and words in it, by which the far
    side can tell who was known and what was answered."""
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    answered = dict(receive(body))
    told = str(answered["reply"])
    if MISTAKEN in last_words(messages):
        told = MENDED if any("named amounts" in str(m["content"]) for m in messages) else MISTAKE
    facts = {fact["key"]: fact["value"] for fact in answered["facts"]}
    name = {**tagged(messages, "memory"), **facts}.get("nickname")
    return {**answered, "reply": reply_text(messages, f"คุณ{name}คะ" if name else "", told).strip()}


def tagged(messages: Sequence[Mapping[str, Any]], tag: str) -> dict[str, Any]:
    """The JSON between `<tag>` and `</tag>` of the prompt's system messages."""
    for message in messages:
        if message["role"] == "system" and (
            found := re.search(rf"<{tag}>(\{{.*?\}})</{tag}>", message["content"])
        ):
            data: dict[str, Any] = json.loads(found[1])
            return data
    return {}
