"""One operator command: settings from the environment, the document store open, errors as one line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import typer

from core.bootstrap import shared
from core.domain.errors import FairlaneError
from core.domain.settings import Settings
from core.ports.clock import Clock, SystemClock
from core.ports.documents import DocumentStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    settings: Settings
    clock: Clock
    documents: DocumentStore


def run(command: Callable[[Session], Awaitable[T]]) -> T:
    """Run `command` and close what was opened. What fairlane raises on purpose ends with status 1."""

    async def opened() -> T:
        embedded = os.environ.get("DOCUMENT_STORE", "").startswith("sqlite:")
        settings = Settings.read(os.environ, () if embedded else ("GOOGLE_CLOUD_PROJECT",))
        documents = shared.documents(settings)
        try:
            return await command(Session(settings, SystemClock(), documents))
        finally:
            await documents.close()

    try:
        return asyncio.run(opened())
    except FairlaneError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from exc
