"""A clinic's mark: another one after it was changed, so that who knows an older one reads the clinic anew.

It comes with what a turn's leader is given, at no trip of its own. Without one, a change is seen when what is
known of the clinic is old enough (core.usecases.clinics.directory).
"""

from __future__ import annotations

from typing import Protocol


class ClinicMarks(Protocol):
    async def renew(self, org_id: str) -> None:
        """Say that the clinic was changed. Raises RedisUnavailableError."""
        ...
