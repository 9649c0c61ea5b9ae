"""Where fairlane is tried: clinics, their customers at LINE, the staff's group, and faults.

Only `fairlane dev` has it. What a chat shows is what the LINE stand-in has seen, beside what the journal
says of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.domain.turn import TurnRecord
from core.local.line_api import Delivery, LineCall
from core.local.line_events import line_id
from core.local.openai_api import Latency
from core.local.openai_audio import recording
from core.local.openai_faults import LlmFaultKind, LlmTrouble
from core.local.simulator import Clinic, LineSimulator, Sent
from core.local.stack import LocalStack

PICTURE = Path(__file__).parent / "static" / "picture.png"
STAFF = "หมอนิด"
FAULTS = ("slow", "refused", "down", "kill", "empty")
_SLOWER, _REFUSALS, _RESTART_AFTER_S, _BUBBLES_APART_S = 5.0, 5, 3.0, 0.3


@dataclass(frozen=True, slots=True)
class Line:
    """One bubble. `who`: customer, bot or staff. `taps`: buttons under it, as LINE has them. `turn`: what the
    journal knows of a bot's; `how`: reply or push."""

    who: str
    text: str
    at_ms: int
    kind: str = "text"
    taps: tuple[Mapping[str, Any], ...] = ()
    how: str = ""
    turn: TurnRecord | None = None
    acked: bool = True


@dataclass(slots=True)
class Town:
    """`spoken`: who has written to whom, the latest last."""

    stack: LocalStack
    simulator: LineSimulator
    clinics: Mapping[str, Clinic]
    spoken: dict[tuple[str, str], None] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    _running: set[asyncio.Task[Any]] = field(default_factory=set)
    _victim: int = 0

    def clinic(self, org_id: str) -> Clinic | None:
        return self.clinics.get(org_id)

    def customer(self, clinic: Clinic, name: str) -> str:
        """LINE's id of whoever has this name; a friend of the clinic's bot, so that staff see the name."""
        user_id = self.simulator.user(clinic, name)
        self.stack.line.befriend(clinic.channel.channel_id, user_id, name)
        self.spoken.pop((clinic.org_id, name), None)
        self.spoken[clinic.org_id, name] = None
        return user_id

    def group(self, clinic: Clinic) -> tuple[str, str]:
        """The staff's group, which the bot is invited to, and the one of the staff who writes in it."""
        chat_id, staff = line_id("C", clinic.org_id, "staff"), self.simulator.user(clinic, STAFF)
        self.stack.line.join(clinic.channel.channel_id, chat_id, {staff: STAFF})
        return chat_id, staff

    # What people do

    def write(self, clinic: Clinic, name: str, text: str) -> None:
        """Each line is a bubble of its own, a moment apart."""
        user_id = self.customer(clinic, name)
        bubbles = [line.strip() for line in text.splitlines() if line.strip()]

        async def one_by_one() -> None:
            for place, bubble in enumerate(bubbles):
                if place:
                    await asyncio.sleep(_BUBBLES_APART_S)
                await self.simulator.send_until_acked(self._message(clinic, user_id, "text", text=bubble))

        self._start(one_by_one())

    def send(self, clinic: Clinic, name: str, kind: str, words: str = "") -> None:
        """A sticker, a picture, a voice message that says `words`."""
        sent = self._message(clinic, self.customer(clinic, name), kind)
        message_id = str(sent.event["message"]["id"])
        if kind == "image":
            self.stack.line.add_content(message_id, PICTURE.read_bytes(), media_type="image/png")
        elif kind == "audio":
            spoken = words.strip() or "ขอถามราคาขูดหินปูนค่ะ"
            self.stack.line.add_content(message_id, recording(spoken), media_type="audio/x-m4a")
            sent.text = spoken
        self._start(self.simulator.send_until_acked(sent))

    def tap(self, clinic: Clinic, name: str, action: Mapping[str, Any], *, in_desk: bool = False) -> None:
        """A button: it says its text for whoever taps, or sends its data."""
        chat_id, user_id = self.group(clinic) if in_desk else (None, self.customer(clinic, name))
        if action.get("type") == "message":
            sent = self._message(clinic, user_id, "text", chat_id=chat_id, text=str(action.get("text", "")))
        else:
            data = {"data": str(action.get("data", ""))}
            sent = self.simulator.event(clinic, user_id, "postback", chat_id=chat_id, postback=data)
            sent.text = str(action.get("displayText") or action.get("label") or "")
        self._start(self.simulator.send_until_acked(sent))

    def write_in_desk(self, clinic: Clinic, text: str) -> None:
        chat_id, staff = self.group(clinic)
        sent = self._message(clinic, staff, "text", chat_id=chat_id, text=text)
        self._start(self.simulator.send_until_acked(sent))

    def _message(self, clinic: Clinic, user_id: str, kind: str, **fields: Any) -> Sent:
        return self.simulator.message(clinic, user_id, kind, **fields)

    # What is seen

    def chat(self, clinic: Clinic, chat_id: str, turns: list[TurnRecord]) -> list[Line]:
        """Everything in a chat, oldest first. `turns`: what the journal has of it."""
        by_message = {message: turn for turn in turns for message in turn.line_message_ids}
        human = "staff" if chat_id.startswith("C") else "customer"
        said = [
            Line(human, sent.text, sent.timestamp_ms, _kind(sent), acked=sent.acked or not sent.acks)
            for sent in list(self.simulator.sent.values())
            if sent.chat_id == chat_id and sent.clinic.org_id == clinic.org_id
        ]
        channel_id = clinic.channel.channel_id
        heard = [
            line
            for delivery in self.stack.line.deliveries
            if delivery.to == chat_id and delivery.channel_id == channel_id
            for line in _delivered(delivery, by_message)
        ]
        return sorted([*said, *heard], key=lambda line: line.at_ms)

    # What goes wrong

    async def fault(self, name: str) -> None:
        """Switch it on or off; `kill` and `empty` happen once."""
        if name == "kill":
            self._victim = (self._victim + 1) % len(self.stack.turns)
            await self.stack.kill_turn(self._victim)
            self._start(self._restart(self._victim))
        elif name == "empty":
            await self.stack.redis.restart_empty()
        elif name in FAULTS:
            self.faults ^= {name}
            self._apply()

    async def _restart(self, instance: int) -> None:
        await asyncio.sleep(_RESTART_AFTER_S)
        await self.stack.restart_turn(instance)

    def _apply(self) -> None:
        usual = self.stack.options.latency
        scale = usual.scale * (_SLOWER if "slow" in self.faults else 1.0)
        openai = self.stack.openai
        openai.latency = Latency(usual.median_s, usual.sigma, scale)
        openai.faults.clear()
        if "refused" in self.faults:
            openai.faults.add(
                LlmTrouble(LlmFaultKind.RATE_LIMIT, retry_after_s=1), times=None, probability=0.5
            )
        if "down" in self.faults:
            openai.faults.add(LlmTrouble(LlmFaultKind.ERROR_500), times=None)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


def _kind(sent: Sent) -> str:
    return str(sent.event.get("message", {}).get("type") or sent.event["type"])


def _delivered(delivery: Delivery, by_message: Mapping[str, TurnRecord]) -> list[Line]:
    lines = []
    how = "push" if delivery.how is LineCall.PUSH else "reply"
    for message, message_id in zip(delivery.messages, delivery.message_ids, strict=True):
        template = message.get("template") or {}
        quick = [item["action"] for item in message.get("quickReply", {}).get("items", ())]
        text = str(message.get("text") or template.get("text") or message.get("altText") or "")
        taps = tuple(template.get("actions") or quick)
        turn = by_message.get(message_id)
        lines.append(Line("bot", text, delivery.at_ms, str(message["type"]), taps, how, turn))
    return lines
