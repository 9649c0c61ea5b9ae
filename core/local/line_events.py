"""Webhook events as LINE's platform writes them: ids, sources, tokens, messages.

Source: developers.line.biz/en/reference/messaging-api/#webhook-event-objects.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping
from typing import Any

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def line_id(prefix: str, *parts: str) -> str:
    """U (user or bot), C (group) or R (room) and 32 hex digits: the same for the same parts."""
    return prefix + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _details(kind: str, user_id: str | None) -> Mapping[str, Any]:
    """What LINE says of an event by a property of its own."""
    members = {"members": [{"type": "user", "userId": user_id}]}
    by_kind: Mapping[str, dict[str, Any]] = {
        "follow": {"follow": {"isUnblocked": False}},
        "memberJoined": {"joined": members},
        "memberLeft": {"left": members},
        "videoPlayComplete": {"videoPlayComplete": {"trackingId": "t"}},
        "beacon": {"beacon": {"hwid": "d41d8cd98f", "type": "enter"}},
        "accountLink": {"link": {"result": "ok", "nonce": "n"}},
        "membership": {"membership": {"type": "joined", "membershipId": 1}},
    }
    return by_kind.get(kind, {})


class EventFactory:
    """Ids are drawn from a seeded generator, so a scene has the same ids in every run; times are real."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)
        self._last_ms = 0

    def now_ms(self) -> int:
        """Unix ms; later than any handed out before, so that the order of messages is never in doubt."""
        self._last_ms = max(self._last_ms + 1, time.time_ns() // 1_000_000)
        return self._last_ms

    def ulid(self, at_ms: int) -> str:
        value = (at_ms << 80) | self._dice.getrandbits(80)
        return "".join(_CROCKFORD[(value >> (5 * i)) & 31] for i in reversed(range(26)))

    def message(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A message object with what LINE always adds; `fields` go over it."""
        message: dict[str, Any] = {"id": str(self._dice.randrange(10**17, 10**18)), "type": kind}
        content = {"type": "line"}
        by_kind: Mapping[str, dict[str, Any]] = {
            "text": {"text": "", "quoteToken": f"q{self._dice.getrandbits(128):032x}"},
            "sticker": {
                "packageId": "446",
                "stickerId": "1988",
                "stickerResourceType": "ANIMATION",
                "keywords": ["hello"],
                "quoteToken": f"q{self._dice.getrandbits(128):032x}",
            },
            "image": {"contentProvider": content, "quoteToken": "q"},
            "video": {"contentProvider": content, "duration": 12_000, "quoteToken": "q"},
            "audio": {"contentProvider": content, "duration": 4_000},
            "file": {"fileName": "x-ray.pdf", "fileSize": 20_480},
            "location": {
                "title": "บ้าน",
                "address": "1 ถนนสุขุมวิท กรุงเทพฯ",
                "latitude": 13.7563,
                "longitude": 100.5018,
            },
        }
        return {**message, **by_kind.get(kind, {}), **fields}

    def event(
        self,
        kind: str,
        *,
        chat_id: str,
        user_id: str | None,
        reply_token: str | None,
        fields: Mapping[str, Any],
    ) -> dict[str, Any]:
        """One entry of `events`. `chat_id`: U… for a 1:1 chat, C… for a group, R… for a room."""
        at_ms = self.now_ms()
        place = {"U": "user", "C": "group", "R": "room"}[chat_id[0]]
        source: dict[str, Any] = {"type": place, f"{place}Id": chat_id}
        if user_id is not None:
            source["userId"] = user_id
        event: dict[str, Any] = {
            "type": kind,
            "webhookEventId": self.ulid(at_ms),
            "deliveryContext": {"isRedelivery": False},
            "timestamp": at_ms,
            "source": source,
            "mode": "active",
        }
        if reply_token is not None:
            event["replyToken"] = reply_token
        return {**event, **_details(kind, user_id), **fields}
