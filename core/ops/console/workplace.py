"""What the pages work with: the stores, and what is read once for several pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from core.adapters.redis_connection import Redis
from core.adapters.redis_slots_operator import RedisSlotsOperator, SlotsView
from core.bootstrap import shared
from core.bootstrap.turn import slot_options
from core.domain.budget import budget_day
from core.domain.errors import FairlaneError, InvalidInputError, RedisUnavailableError
from core.ops.session import NO_REDIS, Session
from core.ports.tasks import TaskQueue
from core.usecases.operate.change_clinic import ChangeClinic
from core.usecases.operate.stored_clinics import StoredClinics, read_stored

_KNOWN_FOR_S = 15.0


class Workplace:
    """Lives as long as its session, which closes what was opened. `environment`: the session's settings."""

    def __init__(self, here: Session, environment: Mapping[str, str]) -> None:
        self.here = here
        self.environment = environment
        self.documents = here.documents
        self.clock = here.clock
        self.by = here.operator()
        self.timezone = here.settings.budget_timezone
        self._redis: Redis | None = None
        self._tasks: TaskQueue | None = None
        self._clinics: StoredClinics | None = None
        self._read_at = 0.0

    @property
    def today(self) -> str:
        """YYYYMMDD where budgets' days begin."""
        return budget_day(self.clock.now_ms(), self.timezone)

    def redis(self) -> Redis:
        """Raises RedisUnavailableError if the environment names none."""
        if self._redis is None:
            if not self.here.settings.redis_url:
                raise RedisUnavailableError("REDIS_URL is not set")
            self._redis = self.here.redis()
        return self._redis

    async def slots(self) -> dict[str, SlotsView]:
        """By provider, the first one first. Raises RedisUnavailableError, which says what to look at."""
        settings = self.here.settings
        try:
            redis = self.redis()
            return {
                each.name: await RedisSlotsOperator(redis, slot_options(settings, each)).snapshot()
                for each in settings.providers.all
            }
        except RedisUnavailableError as exc:
            raise RedisUnavailableError(f"{exc}: {NO_REDIS}") from exc

    def tasks(self) -> TaskQueue:
        """Raises InvalidInputError if the environment names no queue."""
        if self._tasks is None:
            settings = self.here.settings
            if not (settings.tasks_queue and settings.turn_url):
                raise InvalidInputError(
                    "TASKS_QUEUE and TURN_URL are not set here: set them, and start again"
                )
            self._tasks = self.here.tasks()
        return self._tasks

    async def clinics(self) -> StoredClinics:
        """As they were a few seconds ago at most."""
        now = asyncio.get_running_loop().time()
        if self._clinics is None or now - self._read_at > _KNOWN_FOR_S:
            self._clinics = await read_stored(self.documents)
            self._read_at = now
        return self._clinics

    async def names(self) -> dict[str, str]:
        """Clinics' names by org_id; without them if they can't be read: a page has more to say."""
        try:
            stored = await self.clinics()
        except FairlaneError:
            return {}
        return {org: str(stored.orgs[org].data.get("name") or org) for org in sorted(stored.orgs)}

    def changing(self) -> ChangeClinic:
        """What makes a version of each change."""
        return ChangeClinic(self.documents, self.clock, self.by)

    async def changed(self, org_id: str) -> None:
        """A clinic was: the next look reads it anew, and so do the instances at once, or within 60 s where
        Redis can't be told."""
        self._clinics = None
        with suppress(RedisUnavailableError):
            await shared.clinic_marks(self.redis()).renew(org_id)
