"""The pages of turns: found, looked at, replayed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.errors import InvalidInputError
from core.domain.turn import TurnRecord, TurnState
from core.ops.console.view import View, back
from core.ops.console.workplace import Workplace
from core.ops.turn_view import timeline
from core.ops.turns import duration_ms
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.replay_turn import ReplayTurn
from core.usecases.operate.spend_report import explain
from core.usecases.operate.turn_report import find_turn, list_turns, notices_of

SINCE = ("1h", "6h", "24h", "7d", "30d")
_SHOWN = 100


def routes(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        asked = {
            name: request.query_params.get(name, "").strip() for name in ("org", "state", "reason", "id")
        }
        if asked["id"]:
            return back(f"/turns/{asked['id']}")
        since = request.query_params.get("since") or "24h"
        found = await list_turns(
            workplace.documents,
            since_ms=workplace.clock.now_ms() - duration_ms("since", since),
            state=TurnState(asked["state"]) if asked["state"] in set(TurnState) else None,
            org_id=asked["org"] or None,
            failure=asked["reason"] or None,
            limit=_SHOWN,
        )
        shown: dict[str, Any] = {
            "turns": found,
            "asked": {**asked, "since": since},
            "names": await workplace.names(),
            "states": [state.value for state in TurnState if state is not TurnState.DRAFT],
            "spans": SINCE,
            "most": _SHOWN,
        }
        return view.page(request, "turns.html", **shown)

    async def one(request: Request) -> Response:
        turn = await find_turn(workplace.documents, request.path_params["turn"])
        prices = await PriceList(workplace.documents, workplace.clock).current()
        shown = {
            **turn_parts(turn),
            "charge": await explain(workplace.documents, prices, turn.id) if turn.money.model else None,
            "notices": await notices_of(workplace.documents, turn),
            "words": request.query_params.get("words") == "1",
            "names": await workplace.names(),
        }
        return view.page(request, "turn.html", **shown)

    async def replay(request: Request) -> Response:
        turn_id = request.path_params["turn"]
        replaying = ReplayTurn(workplace.documents, workplace.tasks(), workplace.clock)
        done = await replaying(turn_id)
        if done.refused:
            raise InvalidInputError(view.text(request, f"replay.{done.outcome.name.lower()}"))
        view.said(view.text(request, f"replay.{done.outcome.name.lower()}"))
        return back(f"/turns/{turn_id}")

    return [
        Route("/turns", page),
        Route("/turns/{turn}", one),
        Route("/turns/{turn}/replay", replay, methods=["POST"]),
    ]


def turn_parts(turn: TurnRecord) -> dict[str, Any]:
    """A turn with its timeline, for the template that shows both."""
    steps = timeline(turn)
    return {"turn": turn, "steps": steps, "began_ms": steps[0].at_ms if steps else turn.created_ms}
