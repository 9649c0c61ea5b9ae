"""The page on which one talks to the bot: as any customer of any clinic, with the staff's group beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from core.domain.errors import InvalidInputError
from core.local.simulator import Clinic
from core.ops.console.live import events
from core.ops.console.town import FAULTS, STAFF, Town
from core.ops.console.turns import turn_parts
from core.ops.console.view import View, form
from core.ops.console.workplace import Workplace
from core.usecases.desk.connection import DeskConnection
from core.usecases.operate.turn_report import turns_of_chat

_EVERY_S, _AT_LEAST_EVERY_S = 0.3, 3.0
_NAMES = ("somchai", "พลอย", "มะลิ", "ก้อง", "ดาว", "เอก", "ฟ้า")
_KINDS = ("sticker", "image", "audio")
_AT_ONCE = 5
_WAITS_MS = 60_000


@dataclass(frozen=True, slots=True)
class Place:
    """Who talks to which clinic."""

    clinic: Clinic
    name: str


def routes(workplace: Workplace, view: View, town: Town) -> list[Route]:
    chat = _Chat(workplace, view, town)
    return [
        Route("/chat", chat.page),
        Route("/chat/pane", chat.pane),
        Route("/chat/live", chat.live),
        Route("/chat/send", chat.send, methods=["POST"]),
        Route("/chat/tap", chat.tap, methods=["POST"]),
        Route("/chat/desk", chat.desk, methods=["POST"]),
        Route("/chat/fault", chat.fault, methods=["POST"]),
    ]


class _Chat:
    def __init__(self, workplace: Workplace, view: View, town: Town) -> None:
        self._workplace = workplace
        self._view = view
        self._town = town

    async def page(self, request: Request) -> Response:
        place = self._place(dict(request.query_params))
        names = {org: clinic.name for org, clinic in self._town.clinics.items()}
        shown: dict[str, Any] = {"names": names, "customers": _NAMES, "faults": FAULTS, "beside": False}
        return self._view.page(request, "chat.html", **shown, **await self._shown(place))

    async def pane(self, request: Request) -> Response:
        return await self._pane(request, self._place(dict(request.query_params)))

    async def live(self, request: Request) -> Response:
        place = self._place(dict(request.query_params))

        async def parts() -> AsyncIterator[tuple[str, str]]:
            last, quiet_s = "", 0.0
            while True:
                html = self._view.part(request, "chat_live.html", **await self._shown(place))
                if html != last or quiet_s >= _AT_LEAST_EVERY_S:  # also to notice that the page is gone
                    yield "chat", html
                    last, quiet_s = html, 0.0
                await asyncio.sleep(_EVERY_S)
                quiet_s += _EVERY_S

        return StreamingResponse(events(request, parts()), media_type="text/event-stream")

    async def send(self, request: Request) -> Response:
        said = await form(request)
        place, kind = self._place(said), said.get("kind", "")
        if kind in _KINDS:
            self._town.send(place.clinic, place.name, kind, said.get("text", ""))
        elif kind == "crowd":
            for name in (place.name, *(n for n in _NAMES if n != place.name))[:_AT_ONCE]:
                self._town.write(place.clinic, name, said.get("text", ""))
        elif said.get("text", "").strip():
            self._town.write(place.clinic, place.name, said["text"])
        await asyncio.sleep(0.05)  # the bubble is there by then
        return await self._pane(request, place)

    async def tap(self, request: Request) -> Response:
        said = await form(request)
        place, action = self._place(said), json.loads(said.get("action") or "{}")
        self._town.tap(place.clinic, place.name, action, in_desk=said.get("in_desk") == "1")
        return await self._pane(request, place)

    async def desk(self, request: Request) -> Response:
        """Staff write in their group; `connect`: they write the code that makes it the clinic's desk."""
        said = await form(request)
        place, text = self._place(said), said.get("desk_text", "").strip()
        if said.get("connect") == "1":
            control = DeskConnection(self._workplace.documents, self._workplace.clock)
            text = (await control.new_code(place.clinic.org_id)).code
        if text:
            self._town.write_in_desk(place.clinic, text)
        return await self._pane(request, place)

    async def fault(self, request: Request) -> Response:
        said = await form(request)
        await self._town.fault(said.get("name", ""))
        shown = {"faults": FAULTS, "on": self._town.faults, "happened": said.get("name", "")}
        return HTMLResponse(self._view.part(request, "chat_faults.html", **shown))

    def _place(self, said: dict[str, str]) -> Place:
        org = said.get("org") or next(iter(self._town.clinics), "")
        clinic = self._town.clinic(org)
        if clinic is None:
            raise InvalidInputError(f"{org!r}: no clinic of this stack")
        return Place(clinic, " ".join(said.get("customer", "").split())[:40] or _NAMES[0])

    async def _pane(self, request: Request, place: Place) -> Response:
        return HTMLResponse(self._view.part(request, "chat_pane.html", **await self._shown(place)))

    async def _shown(self, place: Place) -> dict[str, Any]:
        town, clinic = self._town, place.clinic
        user_id, (group, _) = town.simulator.user(clinic, place.name), town.group(clinic)
        turns = await turns_of_chat(self._workplace.documents, clinic.org_id, user_id)
        connection = DeskConnection(self._workplace.documents, self._workplace.clock)
        desk, _ = await connection.show(clinic.org_id)
        lines = town.chat(clinic, user_id, turns)
        answered = {event_id for turn in turns if turn.state.final for event_id in turn.event_ids}
        since_ms = self._workplace.clock.now_ms() - _WAITS_MS
        waits = any(
            sent.chat_id == user_id and sent.sent_ms > since_ms and sent.event_id not in answered
            for sent in town.simulator.sent.values()
        )
        return {
            "place": place,
            "link": urlencode({"org": clinic.org_id, "customer": place.name}),
            "chat_id": user_id,
            "lines": lines,
            "desk_lines": town.chat(clinic, group, []),
            "connected": desk.is_connected and desk.chat_id == group,
            "staff": STAFF,
            "waits": waits,
            "parts": turn_parts,
            "spoken": [
                {"org": org, "name": name, "clinic": town.clinics[org].name}
                for org, name in reversed(town.spoken)
            ],
            "on": town.faults,
            "happened": "",
        }
