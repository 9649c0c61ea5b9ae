"""The page of money: by day and clinic, against the budgets."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.ops.console.view import View, back
from core.ops.console.workplace import Workplace
from core.usecases.operate.spend_report import SpendRow, parse_day, spend_rows, total

_SHOWN = 200


def routes(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        asked = {name: request.query_params.get(name, "").strip() for name in ("org", "from", "to", "turn")}
        if asked["turn"]:
            return back(f"/turns/{asked['turn']}#charge")
        last = parse_day(asked["to"] or "today", workplace.today)
        first = parse_day(asked["from"] or last, workplace.today)
        rows = await spend_rows(workplace.documents, first, last, org_id=asked["org"] or None)
        by_amount = sorted(rows, key=lambda row: (-row.books.spent, row.day, row.org_id))
        shown: dict[str, Any] = {
            "rows": by_amount[:_SHOWN],
            "more": max(0, len(rows) - _SHOWN),
            "total": total(rows),
            "budget": sum(row.budget_micro_baht for row in rows),
            "days": _by_day(rows) if first != last else [],
            "asked": {"org": asked["org"], "from": _iso(first), "to": _iso(last)},
        }
        return view.page(request, "spend.html", names=await workplace.names(), **shown)

    return [Route("/spend", page)]


def _by_day(rows: list[SpendRow]) -> list[dict[str, Any]]:
    """The newest first."""
    days = []
    for day, many in groupby(rows, key=lambda row: row.day):
        of_day = list(many)
        spent = sum(row.books.spent for row in of_day)
        turns = sum(row.books.turns for row in of_day)
        days.append({"day": day, "spent": spent, "turns": turns, "clinics": len(of_day)})
    return days[::-1]


def _iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
