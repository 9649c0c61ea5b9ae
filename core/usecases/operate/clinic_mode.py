"""Switch when a clinic's bot answers."""

from __future__ import annotations

from dataclasses import replace

from core.domain.clinic import Mode
from core.domain.errors import InvalidInputError
from core.ports import log
from core.usecases.clinics.documents import MODES, clinic_from
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.clinic_state import ClinicState


def mode_named(text: str) -> Mode:
    """Raises InvalidInputError."""
    try:
        return Mode(text)
    except ValueError:
        raise InvalidInputError(f"MODE {text!r}: expected {MODES}") from None


async def switch_mode(change: ChangeClinic, org_id: str, mode: Mode) -> Mode:
    """What it was before; nothing is written if that is the same. Raises as ChangeClinic does, and
    InvalidInputError if the clinic can't be read."""

    before = mode

    def switched(state: ClinicState) -> ClinicState:
        nonlocal before
        org = state.org or {}
        before = clinic_from(org_id, org, None, None, None, None).mode
        return replace(state, org={**org, "mode": mode.value})

    await change(org_id, "mode", switched)
    if before is not mode:
        log.warning("clinic.mode", org=org_id, before=before.value, mode=mode.value)
    return before
