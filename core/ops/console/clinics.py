"""The pages of clinics: what holds for one, its versions, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from core.ops.console.clinic_forms import budget_changes, listed_prices
from core.ops.console.view import View, back, form
from core.ops.console.workplace import Workplace
from core.ops.doctor_checks import examine_deployment
from core.usecases.desk.connection import DeskConnection
from core.usecases.operate.budget_policies import change_policy
from core.usecases.operate.clinic_diff import as_lines, diff
from core.usecases.operate.clinic_mode import mode_named, switch_mode
from core.usecases.operate.clinic_prices import change_prices
from core.usecases.operate.clinic_versions import find_version, versions_of
from core.usecases.operate.rollback_clinic import RollbackClinic

_CLINICS_SHOWN, _VERSIONS_SHOWN = 200, 30


def routes(workplace: Workplace, view: View) -> list[Route]:
    return [
        *_looks(workplace, view),
        *_changes(workplace, view),
    ]


def _looks(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        stored = await workplace.clinics()
        wanted = request.query_params.get("name", "").strip().casefold()
        names = await workplace.names()
        found = [org for org, name in names.items() if wanted in f"{org} {name}".casefold()]
        shown: dict[str, Any] = {
            "clinics": [stored.clinic(org) for org in found[:_CLINICS_SHOWN]],
            "more": max(0, len(found) - _CLINICS_SHOWN),
            "asked": {"name": wanted},
            "names": names,
        }
        return view.page(request, "clinics.html", **shown)

    async def one(request: Request) -> Response:
        org = request.path_params["org"]
        clinic = (await workplace.clinics()).clinic(org)
        desk, undone = await DeskConnection(workplace.documents, workplace.clock).show(org)
        versions = await versions_of(workplace.documents, org)
        shown: dict[str, Any] = {
            "clinic": clinic,
            "desk": desk,
            "undone": undone,
            "versions": versions[:_VERSIONS_SHOWN],
            "modes": ("live", "after_hours", "off"),
        }
        return view.page(request, "clinic.html", **shown)

    async def version(request: Request) -> Response:
        """What it changed, and what bringing it back would change."""
        org, n = request.path_params["org"], int(request.path_params["n"])
        this = await find_version(workplace.documents, org, n)
        versions = {each.n: each for each in await versions_of(workplace.documents, org)}
        before, latest = versions.get(n - 1), versions[max(versions)]
        shown: dict[str, Any] = {
            "org": org,
            "version": this,
            "latest": latest.n,
            "changed": diff(before.state, this.state) if before else [],
            "back": diff(latest.state, this.state),
            "as_lines": as_lines,
            "names": await workplace.names(),
        }
        return view.page(request, "version.html", **shown)

    async def doctor(request: Request) -> Response:
        """Asked for by the page once it is shown: it may take a while."""
        found = await examine_deployment(workplace.environment, None)
        org = request.query_params.get("org", "")
        return HTMLResponse(view.part(request, "doctor.html", findings=found, org=org))

    return [
        Route("/clinics", page),
        Route("/clinics/doctor", doctor),
        Route("/clinics/{org}", one),
        Route("/clinics/{org}/versions/{n:int}", version),
    ]


def _changes(workplace: Workplace, view: View) -> list[Route]:
    async def prices(request: Request) -> Response:
        org = request.path_params["org"]
        changed = await change_prices(workplace.changing(), org, listed_prices(await request.body()))
        return await done(request, org, "clinics.saved" if changed.version else "clinics.same")

    async def mode(request: Request) -> Response:
        org = request.path_params["org"]
        await switch_mode(workplace.changing(), org, mode_named((await form(request)).get("mode", "")))
        return await done(request, org, "clinics.saved")

    async def budget(request: Request) -> Response:
        org = request.path_params["org"]
        changes = budget_changes(await form(request))
        await change_policy(workplace.documents, workplace.clock, workplace.by, org, changes)
        return await done(request, org, "clinics.saved")

    async def rollback(request: Request) -> Response:
        org, n = request.path_params["org"], request.path_params["n"]
        await RollbackClinic(workplace.documents, workplace.clock, workplace.by)(org, n)
        return await done(request, org, "clinics.rolled_back", n=n)

    async def code(request: Request) -> Response:
        org = request.path_params["org"]
        drawn = await DeskConnection(workplace.documents, workplace.clock).new_code(org)
        return await done(request, org, "clinics.code_drawn", code=drawn.code)

    async def disconnect(request: Request) -> Response:
        org = request.path_params["org"]
        await DeskConnection(workplace.documents, workplace.clock).disconnect(org)
        return await done(request, org, "clinics.disconnected")

    async def done(request: Request, org: str, key: str, **values: object) -> Response:
        await workplace.changed(org)
        view.said(view.text(request, key, **values))
        return back(f"/clinics/{org}")

    return [
        Route("/clinics/{org}/prices", prices, methods=["POST"]),
        Route("/clinics/{org}/mode", mode, methods=["POST"]),
        Route("/clinics/{org}/budget", budget, methods=["POST"]),
        Route("/clinics/{org}/versions/{n:int}/rollback", rollback, methods=["POST"]),
        Route("/clinics/{org}/desk/code", code, methods=["POST"]),
        Route("/clinics/{org}/desk/disconnect", disconnect, methods=["POST"]),
    ]
