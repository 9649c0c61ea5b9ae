"""One operator command: settings from the environment, the stores open for as long as it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from core.bootstrap import shared
from core.domain.settings import Settings
from core.ports.clock import Clock, SystemClock
from core.ports.documents import DocumentStore
from core.ports.secrets import SecretStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """`secrets` is for commands that run `with_secrets`."""

    settings: Settings
    clock: Clock
    documents: DocumentStore
    secrets: SecretStore


def run(command: Callable[[Session], Awaitable[T]], *, with_secrets: bool = False) -> T:
    """Run `command` and close what was opened. What fairlane raises on purpose goes on to core.ops.cli.

    Google's project must be set if one of the stores that the command uses is Google's.
    """

    async def opened() -> T:
        in_files = os.environ.get("DOCUMENT_STORE", "").startswith("sqlite:") and (
            os.environ.get("SECRET_STORE", "").startswith("file:") or not with_secrets
        )
        settings = Settings.read(os.environ, () if in_files else ("GOOGLE_CLOUD_PROJECT",))
        documents, secrets = shared.documents(settings), shared.secrets(settings)
        try:
            return await command(Session(settings, SystemClock(), documents, secrets))
        finally:
            await documents.close()
            await secrets.close()

    return asyncio.run(opened())
