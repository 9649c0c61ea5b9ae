"""LINE's platform and its users: sends webhooks to fairlane and watches what LINE is told to answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.adapters.http_client import HttpClient
from core.local.line_api import Channel, Delivery, LineApi, LineCall
from core.local.line_events import EventFactory, line_id
from core.local.line_webhook import sign
from core.local.openai_answers import QUOTE_OPEN
from core.local.specs import specs

# LINE gives up on a webhook after 2 s (developers.line.biz, "Receive messages").
_LINE_TIMEOUT_S = 2.0
_ANSWERABLE = frozenset(
    {"message", "postback", "follow", "join", "memberJoined"}
    | {"beacon", "accountLink", "membership", "videoPlayComplete"}
)


@dataclass(frozen=True, slots=True)
class Clinic:
    """A clinic and its LINE channel."""

    org_id: str
    channel: Channel
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """How the webhook answered one delivery. `status` None: no answer in time."""

    status: int | None
    latency_s: float
    at_ms: int


@dataclass(slots=True)
class Sent:
    """One event, and every time it was delivered."""

    clinic: Clinic
    chat_id: str
    event: Mapping[str, Any]
    text: str
    sent_ms: int
    acks: list[Ack] = field(default_factory=list)

    @property
    def event_id(self) -> str:
        return str(self.event["webhookEventId"])

    @property
    def reply_token(self) -> str | None:
        return self.event.get("replyToken")

    @property
    def timestamp_ms(self) -> int:
        return int(self.event["timestamp"])

    @property
    def acked(self) -> bool:
        return any(ack.status == 200 for ack in self.acks)


class LineSimulator:
    """Clinics, customers, webhooks. `sent` holds every event by id; `unasked`: texts that are known to answer
    no message (what staff decided, a reminder)."""

    def __init__(self, line: LineApi, webhook_url: str, *, seed: int = 0) -> None:
        self.line = line
        self.webhook_url = webhook_url
        self.sent: dict[str, Sent] = {}
        self.unasked: set[str] = set()
        self.factory = EventFactory(seed)
        self._client = HttpClient()
        self._deliveries: dict[tuple[str, str], list[Delivery]] = defaultdict(list)
        self._indexed = 0
        self._by_token: dict[str, Sent] = {}

    async def close(self) -> None:
        await self._client.close()

    def clinic(
        self,
        org_id: str,
        *,
        name: str = "",
        channel: Channel | None = None,
        monthly_limit: int | None = None,
    ) -> Clinic:
        """A clinic whose channel LINE knows. Without `channel`, ids and secret follow from `org_id`."""
        channel = channel or Channel(
            channel_id=str(1_650_000_000 + int(line_id("", org_id)[:7], 16)),
            channel_secret=line_id("", org_id, "secret"),
            bot_user_id=line_id("U", org_id, "bot"),
            name=name or org_id,
        )
        self.line.add_channel(channel, monthly_limit=monthly_limit)
        return Clinic(org_id, channel, name or org_id)

    @staticmethod
    def user(clinic: Clinic, name: str) -> str:
        """LINE's id of a customer, as this clinic's provider sees it."""
        return line_id("U", clinic.org_id, "user", name)

    @staticmethod
    def write_clinics(
        path: Path, clinics: Iterable[Clinic], settings: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """A file for `fairlane clinics apply` (JSON is YAML); `settings` by org_id go over its entry."""
        entries = [
            {
                "org_id": clinic.org_id,
                "name": clinic.name,
                "line": {
                    "bot_user_id": clinic.channel.bot_user_id,
                    "channel_id": clinic.channel.channel_id,
                    "channel_secret": clinic.channel.channel_secret,
                },
                "persona": f"{clinic.name} เปิดทุกวัน 10.00–20.00 น. ตรวจฟันฟรี ขูดหินปูน 900 บาท",
                **(settings or {}).get(clinic.org_id, {}),
            }
            for clinic in clinics
        ]
        path.write_text(json.dumps({"clinics": entries}, ensure_ascii=False, indent=2))

    # What customers do

    async def say(self, clinic: Clinic, user_id: str, text: str, **more: Any) -> Sent:
        """One text bubble, delivered now. `more`: see `message`."""
        return await self.send(self.message(clinic, user_id, "text", text=text, **more))

    def message(
        self,
        clinic: Clinic,
        user_id: str,
        kind: str,
        *,
        chat_id: str | None = None,
        event: Mapping[str, Any] | None = None,
        mention_bot: bool = False,
        **fields: Any,
    ) -> Sent:
        """A message event, not yet delivered. `chat_id`: a group or room; `fields` go into the message,
        `event` into the event."""
        words = str(fields.get("text", ""))
        if mention_bot:
            mentionee = {
                "index": 0,
                "length": len(clinic.name) + 1,
                "type": "user",
                "userId": clinic.channel.bot_user_id,
                "isSelf": True,
            }
            fields["text"] = f"@{clinic.name} {words}"
            fields["mention"] = {"mentionees": [mentionee]}
        message = self.factory.message(kind, **fields)
        channel_id = clinic.channel.channel_id
        token = self.line.issue_read_token(channel_id, chat_id or user_id, message["id"])
        message = {"markAsReadToken": token, **message}
        sent = self.event(clinic, user_id, "message", chat_id=chat_id, message=message, **(event or {}))
        sent.text = words  # the bot's name is not what the customer says
        return sent

    def event(
        self, clinic: Clinic, user_id: str | None, kind: str, *, chat_id: str | None = None, **fields: Any
    ) -> Sent:
        """Any webhook event, not yet delivered, with a reply token where LINE gives one."""
        chat = chat_id or user_id or ""
        token = None
        if kind in _ANSWERABLE and fields.get("mode") != "standby":
            token = self.line.issue_reply_token(clinic.channel.channel_id, chat)
        event = self.factory.event(kind, chat_id=chat, user_id=user_id, reply_token=token, fields=fields)
        text = str(event.get("message", {}).get("text", "") or event.get("postback", {}).get("data", ""))
        sent = Sent(clinic, chat, event, text, self.factory.now_ms())
        self.sent[sent.event_id] = sent
        if token is not None:
            self._by_token[token] = sent
        return sent

    # What the platform does

    async def send(self, *events: Sent, redelivery: bool = False, signature: str | None = None) -> Sent:
        """One webhook with these events (of one clinic). Returns the first; every one gets the ack."""
        clinic = events[0].clinic
        shown = [{**s.event, "deliveryContext": {"isRedelivery": redelivery}} for s in events]
        webhook = {"destination": clinic.channel.bot_user_id, "events": shown}
        if found := specs():
            found.check_webhook(webhook)
        body = json.dumps(webhook, ensure_ascii=False)
        for sent in events:
            if redelivery and sent.reply_token is not None:
                self.line.renew_reply_token(sent.reply_token)
        ack = await self.post(clinic, body.encode(), signature=signature)
        for sent in events:
            sent.acks.append(ack)
        return events[0]

    async def post(self, clinic: Clinic, body: bytes, *, signature: str | None = None) -> Ack:
        """A signed webhook with any body. `signature`: instead of the right one."""
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "LineBotWebhook/2.0",
            "x-line-signature": sign(clinic.channel.channel_secret, body) if signature is None else signature,
        }
        started = time.monotonic()
        status = None
        try:
            async with asyncio.timeout(_LINE_TIMEOUT_S):
                response = await self._client.request("POST", self.webhook_url, headers=headers, body=body)
            status = response.status
        except (OSError, TimeoutError):
            pass
        return Ack(status, time.monotonic() - started, time.time_ns() // 1_000_000)

    async def redeliver(self, *events: Sent) -> Sent:
        """The same events again: same ids, isRedelivery, a fresh minute for the reply tokens."""
        return await self.send(*events, redelivery=True)

    async def send_until_acked(self, *events: Sent, attempts: int = 5, every_s: float = 1.0) -> bool:
        """As LINE does with redelivery switched on: again until 200. True if it was."""
        for i in range(attempts):
            if i:
                await asyncio.sleep(every_s)
            await self.send(*events, redelivery=i > 0)
            if events[0].acked:
                return True
        return False

    # What came of it

    def answers(self, event_id: str) -> list[Delivery]:
        """What LINE was told in answer to this event: a reply with its token, or a message to its chat that
        quotes it (the OpenAI stand-in quotes what it answers; texts should differ), or one that quotes
        nothing (a fixed text) and came by push or with the token of a later event, unless this one had been
        answered before that was said."""
        self._index()
        sent = self.sent[event_id]
        candidates = self._deliveries[sent.clinic.channel.channel_id, sent.chat_id]
        own = [d for d in candidates if _quotes_or_replies(sent, d)]
        return [d for d in candidates if d in own or self._may_be_for(sent, d, own)]

    def _may_be_for(self, sent: Sent, delivery: Delivery, own: Sequence[Delivery]) -> bool:
        if self.unasked.issuperset(delivery.texts):  # buttons have no texts, and nobody asked for them
            return False
        quotes_another = bool(sent.text) and QUOTE_OPEN in "\n".join(delivery.texts)
        if delivery.at_ms < sent.sent_ms or quotes_another:
            return False
        other = self._by_token.get(delivery.reply_token or "")
        if delivery.how is not LineCall.PUSH and (other is None or other.timestamp_ms <= sent.timestamp_ms):
            return False
        if not own:
            return True
        later = [s for s in self.sent.values() if s.chat_id == sent.chat_id and s.sent_ms < delivery.at_ms]
        return not any(d.at_ms < s.sent_ms for d in own for s in later)

    def _index(self) -> None:
        for delivery in self.line.deliveries[self._indexed :]:
            self._deliveries[delivery.channel_id, delivery.to].append(delivery)
        self._indexed = len(self.line.deliveries)

    async def wait_answered(self, event_ids: Sequence[str], timeout_s: float) -> list[str]:
        """Until every one is answered, or the time is over. Returns those that are not."""
        deadline = time.monotonic() + timeout_s
        waiting = list(event_ids)
        while True:
            waiting = [i for i in waiting if not self.answers(i)]
            if not waiting or time.monotonic() > deadline:
                return waiting
            await asyncio.sleep(0.02)


def _quotes_or_replies(sent: Sent, delivery: Delivery) -> bool:
    if delivery.reply_token is not None and delivery.reply_token == sent.reply_token:
        return True
    lines = [line.strip() for line in sent.text.splitlines() if line.strip()]
    quote = f"{QUOTE_OPEN}{lines[-1][:200]}" if lines else None
    return delivery.at_ms >= sent.sent_ms and quote is not None and quote in "\n".join(delivery.texts)
