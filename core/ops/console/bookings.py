"""The page of appointments: seen, confirmed, declined, cancelled."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.booking import STAFF, BookingState
from core.domain.errors import InvalidInputError
from core.ops.console.view import View, back_from
from core.ops.console.workplace import Workplace
from core.usecases.bookings.decide import DecideBooking
from core.usecases.bookings.records import BookingRecords
from core.usecases.operate.stored_clinics import find_clinic
from core.usecases.outbox.outbox import Outbox

_SHOWN = 200
_DAY_MS = 86_400_000
_DECISIONS = {
    "confirm": BookingState.CONFIRMED,
    "decline": BookingState.DECLINED,
    "cancel": BookingState.CANCELLED,
}


def routes(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        org, state = request.query_params.get("org", ""), request.query_params.get("state", "")
        past = request.query_params.get("past") == "1"
        found = await BookingRecords(workplace.documents, workplace.clock).all(org or None)
        since_ms = workplace.clock.now_ms() - _DAY_MS
        fitting = [
            each for each in found if state in {"", each.state.value} and (past or each.starts_ms > since_ms)
        ]
        shown: dict[str, Any] = {
            "bookings": fitting[:_SHOWN],
            "more": max(0, len(fitting) - _SHOWN),
            "asked": {"org": org, "state": state, "past": past},
            "states": [each.value for each in BookingState],
            "words": request.query_params.get("words") == "1",
        }
        return view.page(request, "bookings.html", names=await workplace.names(), **shown)

    async def decide(request: Request) -> Response:
        state = _DECISIONS.get(request.path_params["decision"])
        if state is None:
            raise InvalidInputError(f"expected one of {', '.join(_DECISIONS)}")
        booking = await BookingRecords(workplace.documents, workplace.clock).get(
            request.path_params["booking"]
        )
        clinic = await find_clinic(workplace.documents, booking.org_id)
        outbox = Outbox(workplace.tasks(), workplace.clock)
        deciding = DecideBooking(workplace.documents, outbox, workplace.clock)
        decision = await deciding(clinic, booking.id, state, STAFF, uuid.uuid4().hex)
        now = view.text(request, f"state.{decision.booking.state.value}")
        key = "bookings.decided" if decision.booking.state is state else "bookings.was_decided"
        view.said(
            view.text(request, key, state=now), "done" if decision.booking.state is state else "problem"
        )
        return back_from(request)

    return [
        Route("/bookings", page),
        Route("/bookings/{booking}/{decision}", decide, methods=["POST"]),
    ]
