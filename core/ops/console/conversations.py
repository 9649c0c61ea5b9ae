"""The pages of conversations: who talks with whom, a chat as bubbles, handing it over and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.event import Conversation
from core.domain.turn import TurnRecord
from core.ops.console.turns import SINCE, turn_parts
from core.ops.console.view import View, back, form
from core.ops.console.workplace import Workplace
from core.ops.turns import duration_ms
from core.usecases.customers.conversation_control import ConversationControl, chat_id, list_handoffs
from core.usecases.customers.memory_changes import MemoryChanges
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.operate.turn_report import list_turns, turns_of_chat

_TURNS_READ, _CHATS_SHOWN, _TURNS_SHOWN = 500, 100, 50


@dataclass(frozen=True, slots=True)
class Chat:
    """`people_until_ms`: people have it."""

    org_id: str
    chat_id: str
    latest: TurnRecord
    turns: int
    people_until_ms: int | None = None


def routes(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        org, since = request.query_params.get("org", ""), request.query_params.get("since") or "7d"
        now_ms = workplace.clock.now_ms()
        turns = await list_turns(
            workplace.documents,
            since_ms=now_ms - duration_ms("since", since),
            org_id=org or None,
            limit=_TURNS_READ,
        )
        handoffs = await list_handoffs(workplace.documents, now_ms, org or None)
        until = {(each.org_id, each.chat_id): each.until_ms for each in handoffs}
        chats = [
            replace(chat, people_until_ms=until.get((chat.org_id, chat.chat_id))) for chat in _chats(turns)
        ]
        chats.sort(key=lambda chat: chat.people_until_ms is None)
        shown: dict[str, Any] = {
            "chats": chats[:_CHATS_SHOWN],
            "asked": {"org": org, "since": since},
            "spans": SINCE,
        }
        return view.page(request, "conversations.html", names=await workplace.names(), **shown)

    async def one(request: Request) -> Response:
        org, chat = request.path_params["org"], chat_id(request.path_params["chat"])
        turns = await turns_of_chat(workplace.documents, org, chat)
        known = await MemoryChanges(workplace.documents, workplace.clock).read(
            Conversation(org, "line", chat)
        )
        shown: dict[str, Any] = {
            "org": org,
            "chat_id": chat,
            "turns": [turn_parts(turn) for turn in turns[-_TURNS_SHOWN:]],
            "more": max(0, len(turns) - _TURNS_SHOWN),
            "memory": known,
            "in_handoff": known.in_handoff(workplace.clock.now_ms()),
            "words": request.query_params.get("words") == "1",
            "names": await workplace.names(),
        }
        return view.page(request, "conversation.html", **shown)

    async def pause(request: Request) -> Response:
        org, chat = request.path_params["org"], chat_id(request.path_params["chat"])
        hours = float((await form(request)).get("hours") or 0) or None
        clinic = await find_clinic(workplace.documents, org)
        await ConversationControl(workplace.documents, workplace.clock).pause(clinic, chat, hours)
        view.said(view.text(request, "conversations.paused"))
        return back(f"/conversations/{org}/{chat}")

    async def resume(request: Request) -> Response:
        org, chat = request.path_params["org"], chat_id(request.path_params["chat"])
        clinic = await find_clinic(workplace.documents, org)
        await ConversationControl(workplace.documents, workplace.clock).resume(clinic, chat)
        view.said(view.text(request, "conversations.resumed"))
        return back(f"/conversations/{org}/{chat}")

    return [
        Route("/conversations", page),
        Route("/conversations/{org}/{chat}", one),
        Route("/conversations/{org}/{chat}/pause", pause, methods=["POST"]),
        Route("/conversations/{org}/{chat}/resume", resume, methods=["POST"]),
    ]


def _chats(turns: Sequence[TurnRecord]) -> list[Chat]:
    """`turns`: newest first. The chat of the newest comes first."""
    chats: dict[tuple[str, str], Chat] = {}
    for turn in turns:
        place = turn.org_id, turn.chat_id
        known = chats.get(place) or Chat(*place, turn, 0)
        chats[place] = replace(known, turns=known.turns + 1)
    return list(chats.values())
