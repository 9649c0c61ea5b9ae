"""The page of what goes on: slots, waiting, answers and failures, and what is wrong with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from core.domain.turn import DELIVERY_UNKNOWN, TurnState
from core.ops.console.live import events
from core.ops.console.recent import LastHour
from core.ops.console.view import View
from core.ops.console.workplace import Workplace

_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """`key`: its text; `command`: what mends it, as it is typed."""

    key: str
    values: dict[str, Any]
    command: str
    path: str = ""


def routes(workplace: Workplace, view: View) -> list[Route]:
    hour = LastHour(workplace)

    async def page(request: Request) -> Response:
        await hour.refresh()
        return view.page(request, "now.html", **await _shown(workplace, hour))

    async def live(request: Request) -> Response:
        async def parts() -> AsyncIterator[tuple[str, str]]:
            while True:
                await asyncio.sleep(_EVERY_S)
                await hour.refresh()
                yield "now", view.part(request, "now_live.html", **await _shown(workplace, hour))

        return StreamingResponse(events(request, parts()), media_type="text/event-stream")

    async def points(_: Request) -> Response:
        return JSONResponse({"slots": hour.slots_by_time(), "messages": hour.by_minute()})

    return [
        Route("/now", page),
        Route("/now/live", live),
        Route("/now/points", points),
    ]


async def _shown(workplace: Workplace, hour: LastHour) -> dict[str, Any]:
    failed = [turn for turn in hour.turns if turn.state is TurnState.FAILED]
    return {
        "slots": hour.slots,
        "orgs": [org for view in hour.slots.values() for org in view.orgs],
        "trouble": hour.trouble,
        "journal_trouble": hour.journal_trouble,
        "names": await workplace.names(),
        "figures": {
            "acknowledged": sum(len(turn.arrived_ms) for turn in hour.turns),
            "answered": hour.count(TurnState.DELIVERED),
            "failed": len(failed),
            "under_way": hour.count(TurnState.RESERVED, TurnState.ANSWERED),
            "ack_ms": hour.middle(turn.ack_ms for turn in hour.turns),
            "took_ms": hour.middle(turn.took_ms for turn in hour.turns),
        },
        "wrong": list(_wrong(hour)),
    }


def _wrong(hour: LastHour) -> list[Trouble]:
    found = []
    if hour.trouble:
        found.append(Trouble("now.no_redis", {"detail": hour.trouble}, "fairlane doctor"))
    if hour.journal_trouble:
        found.append(Trouble("now.no_documents", {"detail": hour.journal_trouble}, "fairlane doctor"))
    for name, view in hour.slots.items():
        option = f" --provider {name}" if len(hour.slots) > 1 else ""
        if view.circuit != "closed":
            values = {"name": name, "reason": view.circuit_reason, "seconds": view.circuit_open_ms // 1000}
            command = f"fairlane slots close-circuit{option}"
            found.append(Trouble(f"now.circuit_{view.circuit}", values, command))
        if view.limit < view.ceiling:
            values = {"name": name, "limit": view.limit, "ceiling": view.ceiling, "why": view.limit_reason}
            command = "fairlane slots set --global 0" if view.limit_reason == "operator" else "fairlane slots"
            found.append(Trouble("now.below", values, f"{command}{option}"))
    failed = [turn for turn in hour.turns if turn.state is TurnState.FAILED]
    if unknown := sum(turn.failure == DELIVERY_UNKNOWN for turn in failed):
        command = f'fairlane turns replay --all-failed --reason "{DELIVERY_UNKNOWN}"'
        found.append(Trouble("now.unknown", {"count": unknown}, command, "/turns?state=failed&since=1h"))
    if others := len(failed) - unknown:
        command = "fairlane turns replay --all-failed"
        found.append(Trouble("now.failures", {"count": others}, command, "/turns?state=failed&since=1h"))
    return found
