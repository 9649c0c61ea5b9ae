"""What a turn's model was told, as far as it is the clinic's: rebuilt from the version that answered.

The rest of a prompt (state, memory, what was said before) expires; of it the journal has the digest alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

from core.domain.errors import InvalidInputError
from core.domain.prompt import digest
from core.domain.role_manager import stable_prefix
from core.domain.turn import TurnRecord
from core.ports.documents import DocumentStore, Key
from core.usecases.clinics.documents import ORGS, Data, clinic_from
from core.usecases.operate.clinic_versions import FOUND, ClinicVersion, version_key


@dataclass(frozen=True, slots=True)
class StablePart:
    """Of a turn's prompt. `version`: what it was rebuilt from, None for the clinic as it is stored now.
    `is_proven`: it is the same, byte for byte, as the journal's digest says; otherwise the release that
    answered had other house rules, or the clinic was edited past the commands more than once."""

    text: str
    version: int | None
    is_proven: bool


async def stable_part(documents: DocumentStore, turn: TurnRecord) -> StablePart:
    """Raises InvalidInputError if the model was not asked, or nothing of the clinic is left."""
    if not turn.prompt:
        raise InvalidInputError(f"turn {turn.id!r}: the model was not asked, or by a release without digests")
    day, wanted = date.fromisoformat(turn.prompt["day"]), turn.prompt["stable"]
    first: StablePart | None = None
    async for version, org in _candidates(documents, turn):
        text = stable_prefix(clinic_from(turn.org_id, org, None, None, None, None), day)
        part = StablePart(text, version, digest(text) == wanted)
        if part.is_proven:
            return part
        first = first or part
    if first is None:
        raise InvalidInputError(f"turn {turn.id!r}: {turn.org_id} has neither versions nor documents")
    return first


async def _candidates(documents: DocumentStore, turn: TurnRecord) -> AsyncIterator[tuple[int | None, Data]]:
    """The version that the turn names; what was found stored after it; what is stored now, which may be no
    version yet."""
    n = turn.clinic_version or 0
    keys = [Key(ORGS, turn.org_id), version_key(turn.org_id, n), version_key(turn.org_id, n + 1)]
    org, *found = await documents.get_many(keys)
    named, later = (ClinicVersion.decode(each.data) if each else None for each in found)
    if named and named.state.org is not None:
        yield n, named.state.org
    if later and later.author.what == FOUND and later.state.org is not None:
        yield later.n, later.state.org
    if org:
        yield None, org.data
