"""Switch when a clinic's bot answers."""

from __future__ import annotations

from core.domain.clinic import Mode
from core.domain.errors import InvalidInputError
from core.ports import log
from core.ports.documents import DocumentStore, Key, Merge
from core.usecases.clinics.documents import MODES, ORGS
from core.usecases.operate.stored_clinics import find_clinic


def mode_named(text: str) -> Mode:
    """Raises InvalidInputError."""
    try:
        return Mode(text)
    except ValueError:
        raise InvalidInputError(f"MODE {text!r}: expected {MODES}") from None


async def switch_mode(documents: DocumentStore, org_id: str, mode: Mode) -> Mode:
    """What it was before; nothing is written if that is the same. Raises NoSuchClinicError, ConflictError if
    the clinic is removed meanwhile, UnavailableError."""
    before = (await find_clinic(documents, org_id)).mode
    if before is not mode:
        await documents.commit([Merge(Key(ORGS, org_id), {"mode": mode.value}, if_exists=True)])
        log.warning("clinic.mode", org=org_id, before=before.value, mode=mode.value)
    return before
