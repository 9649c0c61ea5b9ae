"""All clinics as they are stored, for operators; a turn reads one (core.usecases.clinics.directory)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from core.domain.clinic import Clinic
from core.domain.errors import InvalidInputError
from core.ports.documents import Document, DocumentStore, Key
from core.usecases.clinics.documents import BUDGETS, CHANNELS, DEFAULT, MODELS, ORGS, Data, clinic_from

ById = Mapping[str, Document]


class NoSuchClinicError(InvalidInputError):
    def __init__(self, org_id: str) -> None:
        super().__init__(f"ORG {org_id!r}: no such clinic; `fairlane clinics list` shows them")


@dataclass(frozen=True, slots=True)
class StoredClinics:
    """The four collections that describe clinics, each by document id."""

    orgs: ById
    channels: ById
    models: ById
    budgets: ById

    def clinic(self, org_id: str) -> Clinic:
        """With what it has from the defaults. Raises NoSuchClinicError, InvalidInputError naming
        the document and field that can't be read."""
        if org_id not in self.orgs:
            raise NoSuchClinicError(org_id)
        return clinic_from(
            org_id,
            self.orgs[org_id].data,
            *(self.model(name) for name in (org_id, DEFAULT)),
            *(self.budget(name) for name in (org_id, DEFAULT)),
        )

    def model(self, name: str) -> Data | None:
        """What a clinic, or `default`, has set of its model."""
        return self.models[name].data if name in self.models else None

    def budget(self, name: str) -> Data | None:
        return self.budgets[name].data if name in self.budgets else None


async def find_clinic(documents: DocumentStore, org_id: str) -> Clinic:
    """With its own texts and hours, without model and budget. Raises as `StoredClinics.clinic` does."""
    (document,) = await documents.get_many([Key(ORGS, org_id)])
    if document is None:
        raise NoSuchClinicError(org_id)
    return clinic_from(org_id, document.data, None, None, None, None)


async def read_stored(documents: DocumentStore) -> StoredClinics:
    """Four queries, however many clinics there are."""
    found = await asyncio.gather(*(documents.query(name) for name in (ORGS, CHANNELS, MODELS, BUDGETS)))
    return StoredClinics(*({document.key.id: document for document in many} for many in found))
