from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.secretmanager_secrets import SecretManagerSecrets
from core.domain.errors import (
    DocumentsUnavailableError,
    SecretsUnavailableError,
    TasksUnavailableError,
    UnavailableError,
)
from core.domain.event import EventKind, InboundEvent
from core.domain.task import TurnTask
from core.ports.documents import Create, Key

KEY = Key("orgs", "a")
TASK = TurnTask(InboundEvent("e1", "a", "U1", EventKind.TEXT, 1, 2, text="a"), "0" * 32)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: FirestoreDocuments("p").get_many([KEY]), DocumentsUnavailableError),
        (lambda: FirestoreDocuments("p").query("orgs"), DocumentsUnavailableError),
        (lambda: FirestoreDocuments("p").commit([Create(KEY, {})]), DocumentsUnavailableError),
        (lambda: CloudTasksQueue("q", "https://turn").create(TASK), TasksUnavailableError),
        (lambda: SecretManagerSecrets("p").get("line-a"), SecretsUnavailableError),
    ],
)
async def test_without_credentials_a_service_is_unavailable_and_the_remedy_named(
    call: Callable[[], Awaitable[object]],
    error: type[UnavailableError],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(error, match="no Google credentials: run `gcloud auth application-default login`"):
        await call()
