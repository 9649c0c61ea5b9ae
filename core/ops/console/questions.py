"""The page of what clinics' words do not answer: answered in place, or dismissed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.domain.errors import InvalidInputError
from core.domain.visible import is_damaged, looks_empty
from core.ops.clinics_file_prices import ANSWER_CHARACTERS
from core.ops.console.view import View, back_from, form
from core.ops.console.workplace import Workplace
from core.usecases.operate.questions import Questions

_SHOWN = 200


def routes(workplace: Workplace, view: View) -> list[Route]:
    async def page(request: Request) -> Response:
        org, everything = request.query_params.get("org", ""), request.query_params.get("all") == "1"
        questions = Questions(workplace.documents, workplace.clock)
        found = await (questions.of_clinic(org) if org else questions.of_all())
        fitting = [question for question in found if everything or question.is_open]
        shown: dict[str, Any] = {
            "questions": fitting[:_SHOWN],
            "more": max(0, len(fitting) - _SHOWN),
            "asked": {"org": org, "all": everything},
            "longest": ANSWER_CHARACTERS,
        }
        return view.page(request, "questions.html", names=await workplace.names(), **shown)

    async def answer(request: Request) -> Response:
        org, question = request.path_params["org"], request.path_params["question"]
        wanted = (await form(request)).get("answer", "").strip()
        if looks_empty(wanted) or is_damaged(wanted) or len(wanted) > ANSWER_CHARACTERS:
            raise InvalidInputError(view.text(request, "questions.no_text", most=ANSWER_CHARACTERS))
        questions = Questions(workplace.documents, workplace.clock)
        given = await questions.answer(workplace.changing(), org, question, wanted)
        await workplace.changed(org)
        view.said(view.text(request, "questions.answered", question=given.question))
        return back_from(request)

    async def dismiss(request: Request) -> Response:
        questions = Questions(workplace.documents, workplace.clock)
        await questions.dismiss(request.path_params["org"], request.path_params["question"])
        view.said(view.text(request, "questions.dismissed"))
        return back_from(request)

    return [
        Route("/questions", page),
        Route("/questions/{org}/{question}/answer", answer, methods=["POST"]),
        Route("/questions/{org}/{question}/dismiss", dismiss, methods=["POST"]),
    ]
