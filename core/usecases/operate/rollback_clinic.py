"""Bring an earlier version of a clinic back, as a new version."""

from __future__ import annotations

from dataclasses import replace

from core.domain.errors import InvalidInputError
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key
from core.usecases.clinics.documents import BUDGETS, DEFAULT, MODELS, Data, clinic_from
from core.usecases.clinics.price_list import PriceList
from core.usecases.operate.change_clinic import ChangeClinic, Changed
from core.usecases.operate.clinic_state import CHANNEL, ClinicState
from core.usecases.operate.clinic_versions import find_version
from core.usecases.operate.model_use import check_models


class RollbackClinic:
    """`by`: the operator."""

    def __init__(self, documents: DocumentStore, clock: Clock, by: str) -> None:
        self._documents = documents
        self._clock = clock
        self._change = ChangeClinic(documents, clock, by)

    async def __call__(self, org_id: str, n: int, *, dry_run: bool = False) -> Changed:
        """All that the version holds but the LINE channel, whose secret has no versions. The defaults are not
        the clinic's: what it left to them follows those of today.

        Raises NoSuchClinicError, NoSuchVersionError; InvalidInputError for a version that can't be used any
        more; ConflictError, UnavailableError.
        """
        version = await find_version(self._documents, org_id, n)
        if not version.state.is_there:
            raise InvalidInputError(f"N {n}: the clinic was removed by it; choose an earlier version")
        prices = await PriceList(self._documents, self._clock).current()
        defaults = await self._defaults()

        def brought_back(state: ClinicState) -> ClinicState:
            wanted = version.state
            if state.org is not None and wanted.org is not None:
                channel = {name: state.org[name] for name in CHANNEL if name in state.org}
                wanted = replace(wanted, org={**wanted.org, **channel})
            clinic = clinic_from(
                org_id, wanted.org or {}, wanted.model, defaults[0], wanted.budget, defaults[1]
            )
            check_models(clinic, prices, self._clock.now_ms())
            return wanted

        return await self._change(org_id, f"rollback to {n}", brought_back, dry_run=dry_run)

    async def _defaults(self) -> tuple[Data | None, Data | None]:
        found = await self._documents.get_many([Key(MODELS, DEFAULT), Key(BUDGETS, DEFAULT)])
        model, budget = (document.data if document else None for document in found)
        return model, budget
