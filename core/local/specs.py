"""What the stand-ins take and say, held against LINE's and OpenAI's own specifications, where these are here.

`FAIRLANE_SPECS` names their folder; without it nothing is checked. What a specification does not describe is
noted in `violations`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from core.local.http_server import Request, ResetConnectionError, Response
from core.local.openapi import Spec

FOLDER: Final = "FAIRLANE_SPECS"

NEWER_EVENTS: Final[Mapping[str, str]] = {"messageEdited": "MessageEvent"}
"""Webhook events that LINE has added since the file was written, and the schema that describes them.
messageEdited: line-bot-sdk 3.25 (2026-07), https://developers.line.biz/en/reference/messaging-api/#edit-event"""


@cache
def specs() -> Specs | None:
    """The process' own; None where nobody has named the folder."""
    folder = os.environ.get(FOLDER)
    return Specs(Path(folder)) if folder else None


Handler = Callable[[Request], Awaitable[Response]]


def watched(api: str, handler: Handler) -> Handler:
    """`handler`, with every exchange checked. `api`: line or openai."""
    found = specs()
    return found.watching(api, handler) if found else handler


class Specs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.violations: list[str] = []

    @cached_property
    def apis(self) -> Mapping[str, tuple[Spec, ...]]:
        return {
            "line": (
                Spec(self.folder / "line/messaging-api.yml"),
                Spec(self.folder / "line/channel-access-token.yml"),
            ),
            "openai": (Spec(self.folder / "openai/chat-and-audio.json", base="/v1"),),
        }

    @cached_property
    def webhooks(self) -> Spec:
        return Spec(self.folder / "line/webhook.yml", more={"Event": NEWER_EVENTS})

    def watching(self, api: str, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except ResetConnectionError:
                self._note(api, request, None)
                raise
            self._note(api, request, response)
            return response

        return handle

    def check_webhook(self, body: Any) -> None:
        """What the simulated platform sends."""
        self.violations += [
            f"webhook: {problem}" for problem in self.webhooks.problems("CallbackRequest", body)
        ]

    def _note(self, api: str, request: Request, response: Response | None) -> None:
        for spec in self.apis[api]:
            operation = spec.operation(request.method, request.path)
            if operation is not None:
                found = spec.exchange(operation, request, response)
                break
        else:
            ours = not request.path.startswith(("/v", "/oauth"))  # the local stack's own controls
            refused = response is None or response.status >= 300
            found = [] if ours or refused else ["is not described"]
        self.violations += [f"{request.method} {request.path}: {problem}" for problem in found]
