"""The demo's scenes of a clinic's desk: staff connect their group, are told who waits or books, and tap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.domain.spoken_days import spoken_in_full
from core.local import demo_cast as cast
from core.local.demo_play import Demo, Scene, fixed_text, until
from core.local.line_api import Delivery, LineCall
from core.local.line_events import line_id
from core.local.simulator import Clinic, Sent

_GROUP, _STAFF = "ทีมงาน", "หมอนิด"


@dataclass(frozen=True, slots=True)
class _Desk:
    """A clinic's group of staff, in which one of them writes and taps."""

    demo: Demo
    clinic: Clinic
    group: str
    staff: str

    @classmethod
    async def connected(cls, demo: Demo, scene: Scene, org_id: str) -> _Desk:
        clinic, staff = demo.customer(org_id, _STAFF)
        desk = cls(demo, clinic, line_id("C", org_id, "staff"), staff)
        demo.customers[desk.group] = _GROUP
        demo.stack.line.join(clinic.channel.channel_id, desk.group, {staff: _STAFF})
        drawn = json.loads(await demo.operator("desk", "code", org_id, "--json"))
        writes = demo.simulator.message(clinic, staff, "text", chat_id=desk.group, text=drawn["code"])
        await demo.answered(scene, await demo.simulator.send(writes))
        return desk

    async def notice(self) -> Delivery:
        """The one that staff were sent."""
        await until(lambda: bool(self._notices()))
        (notice,) = self._notices()
        return notice

    async def taps(self, scene: Scene, action: dict[str, Any]) -> None:
        tap = self.demo.simulator.event(
            self.clinic, self.staff, "postback", chat_id=self.group, postback={"data": action["data"]}
        )
        tap.text = f"[{action['label']}]"
        await self.demo.answered(scene, await self.demo.simulator.send(tap))

    def _notices(self) -> list[Delivery]:
        deliveries = self.demo.stack.line.deliveries
        return [d for d in deliveries if d.to == self.group and d.how is LineCall.PUSH]


async def hand_off(demo: Demo, scene: Scene) -> str:
    org, name = cast.CHIANG_MAI, "ปุ้ย"
    desk = await _Desk.connected(demo, scene, org)
    clinic, user = demo.customer(org, name)
    demo.stack.line.befriend(clinic.channel.channel_id, user, name)
    asks = await demo.says(org, name, f"ขอคุยกับ{cast.HANDOFF_KEYWORD}ค่ะ")
    await demo.answered(scene, asks)
    said = demo.said_to(asks)
    demo.promise(scene, said == [fixed_text(org, "handoff")], f"the answer was {said}")
    template = (await desk.notice()).messages[0]["template"]
    told = all(part in template["text"] for part in (name, asks.text))
    demo.promise(scene, told, f"staff were told {template['text']!r}")
    take, resume = template["actions"]
    await desk.taps(scene, take)
    waits = await _waits(demo, scene, org, name)
    await desk.taps(scene, resume)
    again = await demo.says(org, name, "ฟอกสีฟันราคาเท่าไหร่คะ")
    await demo.answered(scene, again)
    if demo.judged_by_model:
        calls = (len(demo.calls(asks, waits)), len(demo.calls(again)))
        demo.promise(scene, calls == (0, 1), f"LLM calls before and after the hand-off: {calls}")
    return "told in their LINE group, one tap each"


async def booking(demo: Demo, scene: Scene) -> str:
    org, name = cast.PHUKET, "ฝน"
    desk = await _Desk.connected(demo, scene, org)
    clinic, user = demo.customer(org, name)
    demo.stack.line.befriend(clinic.channel.channel_id, user, name)
    asks = await demo.says(org, name, cast.APPOINTMENT)
    await demo.answered(scene, asks)
    if not demo.judged_by_model:
        return "asked for (whether the real model has understood it is not judged)"
    confirm, _ = (await desk.notice()).messages[0]["template"]["actions"]
    (asked,) = json.loads(await demo.operator("bookings", "list", "--org", org, "--json"))
    starts = datetime.fromisoformat(f"{asked['date']}T{asked['time']}")
    told = fixed_text(org, "booking_confirmed", service=asked["service"], when=spoken_in_full(starts, "th"))
    demo.simulator.unasked.add(told)
    await desk.taps(scene, confirm)
    await until(lambda: bool(_told(demo, user)))
    said = _told(demo, user)
    demo.promise(scene, said == [told], f"the customer was told {said}")
    (kept,) = json.loads(await demo.operator("bookings", "list", "--org", org, "--json"))
    states = (asked["state"], kept["state"])
    demo.promise(scene, states == ("requested", "confirmed"), f"the booking was {states}")
    return "confirmed in the group, told to the customer"


def _told(demo: Demo, user: str) -> list[str]:
    """Without having asked."""
    pushes = [d for d in demo.stack.line.deliveries if d.to == user and d.how is LineCall.PUSH]
    return [text for delivery in pushes for text in delivery.texts]


async def _waits(demo: Demo, scene: Scene, org: str, name: str) -> Sent:
    waits = await demo.says(org, name, "มีใครอยู่ไหมคะ")
    demo.silent.add(waits.event_id)
    await demo.settled(waits)
    spoke = demo.simulator.answers(waits.event_id)
    demo.promise(scene, not spoke, "the bot spoke while people had taken over")
    return waits
