"""An operator's side of a desk: draw a code, look, disconnect."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from core.domain.desk import CODE_ALPHABET, CODE_LENGTH, Desk, looks_like_code
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.usecases.desk.records import DeskRecords


@dataclass(frozen=True, slots=True)
class DeskCode:
    """Whoever writes `code` to the clinic's bot, before `expires_ms`, makes that chat the desk."""

    org_id: str
    code: str
    expires_ms: int


class DeskConnection:
    """Methods raise DocumentsUnavailableError, ConflictError."""

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._records = DeskRecords(documents, clock)
        self._clock = clock

    async def new_code(self, org_id: str) -> DeskCode:
        """One use; the code that was drawn before is not good any more."""
        code, now_ms = _code(), self._clock.now_ms()
        _, after = await self._records.change_desk(org_id, lambda desk: desk.with_code(code, now_ms))
        log.info("desk.code_drawn", org=org_id)
        return DeskCode(org_id, code, after.code_expires_ms)

    async def show(self, org_id: str) -> tuple[Desk, int]:
        """The desk, and how many notices have not been sent."""
        return await self._records.desk(org_id), len(await self._records.undone(org_id))

    async def disconnect(self, org_id: str) -> bool:
        """From now on nothing is sent there and no tap from there counts. False if none was connected."""
        before, _ = await self._records.change_desk(org_id, Desk.disconnected)
        if before.is_connected:
            log.warning("desk.disconnected", org=org_id)
        return before.is_connected


def _code() -> str:
    while True:
        code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        if looks_like_code(code):
            return code
