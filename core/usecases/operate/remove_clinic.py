"""Take a clinic away: its documents first, so that nobody finds it any more, then its secret."""

from __future__ import annotations

from dataclasses import dataclass

from core.domain.clinic import secret_name
from core.domain.errors import FairlaneError, InvalidInputError
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import ConflictError, Create, Delete, Document, DocumentStore, Write
from core.ports.secrets import SecretStore
from core.usecases.clinics.documents import BUDGETS, DEFAULT, MODELS, ORGS
from core.usecases.operate.clinic_state import ClinicState
from core.usecases.operate.clinic_versions import (
    REMOVED,
    Author,
    latest_versions,
    next_versions,
    number_of,
)
from core.usecases.operate.stored_clinics import read_stored


@dataclass(frozen=True, slots=True)
class Removal:
    """What there is of a clinic: its documents, and whether there is a secret."""

    org_id: str
    documents: tuple[Document, ...]
    has_secret: bool

    @property
    def nothing(self) -> bool:
        return not (self.documents or self.has_secret)


class RemoveClinic:
    """What was spent and said stays: books, turns and memory are kept as long as a clinic's that goes on, and
    so do its versions, of which its removal is the last. `by`: the operator."""

    def __init__(self, documents: DocumentStore, secrets: SecretStore, clock: Clock, by: str) -> None:
        self._documents = documents
        self._secrets = secrets
        self._clock = clock
        self._by = by

    async def plan(self, org_id: str) -> Removal:
        """Look, change nothing. Raises InvalidInputError for `default`, which is no clinic."""
        if org_id == DEFAULT:
            raise InvalidInputError(
                "ORG 'default': the defaults are no clinic: change them by a clinics file"
            )
        stored = await read_stored(self._documents)
        documents = [
            *(by_id[org_id] for by_id in (stored.orgs, stored.models, stored.budgets) if org_id in by_id),
            *(channel for channel in stored.channels.values() if channel.data.get("org_id") == org_id),
        ]
        return Removal(org_id, tuple(documents), await self._has_secret(org_id))

    async def __call__(self, removal: Removal) -> None:
        """As it was seen. Instances go on for as long as they remember the clinic, then its webhook is
        answered with 404. Raises FairlaneError if somebody changed it meanwhile, and UnavailableError; the
        same again goes on where this ended."""
        try:
            if removal.documents:
                deleted: list[Write] = [Delete(d.key, if_version=d.version) for d in removal.documents]
                await self._documents.commit([*deleted, *await self._versions(removal)])
        except ConflictError as exc:
            raise FairlaneError(
                f"{removal.org_id}: was changed meanwhile: run the same command again"
            ) from exc
        if removal.has_secret:
            await self._secrets.delete(secret_name(removal.org_id))
        log.warning("clinic.removed", org=removal.org_id)

    async def _versions(self, removal: Removal) -> list[Write]:
        org_id = removal.org_id
        stored = {document.key.collection: document for document in removal.documents}
        org = stored.get(ORGS)
        latest = await latest_versions(self._documents, {org_id: number_of(org)})
        data = (stored[name].data if name in stored else None for name in (ORGS, MODELS, BUDGETS))
        author = Author(self._by, REMOVED, self._clock.now_ms())
        added = next_versions(latest[org_id], org_id, ClinicState.of(org_id, *data), ClinicState(), author)
        return [Create(version.key, version.encode()) for version in added]

    async def _has_secret(self, org_id: str) -> bool:
        try:
            return await self._secrets.get(secret_name(org_id)) is not None
        except InvalidInputError:  # there is one, be it unreadable
            return True
