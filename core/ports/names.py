"""People's names at LINE, remembered for a day."""

from __future__ import annotations

from typing import Protocol


class NameCache(Protocol):
    """A convenience: whatever goes wrong reads as "not known". Never raises."""

    async def get(self, org_id: str, user_id: str) -> str | None: ...

    async def put(self, org_id: str, user_id: str, name: str) -> None: ...
