"""Which clinic is it, and with what settings: read from the stores, kept in the process for a short while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from core.domain.clinic import Clinic, secret_name
from core.domain.errors import (
    InvalidInputError,
    SecretsUnavailableError,
    TooManyUnknownError,
    UnavailableError,
)
from core.ports import log
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key
from core.ports.line import ChannelCredentials
from core.ports.secrets import SecretStore
from core.usecases.clinics import documents

Found = tuple[Clinic, ChannelCredentials]
MAX_ABSENT = 10_000


@dataclass(slots=True)
class _Entry:
    """What was read last. Monotonic seconds: `read_at`, `retry_at`, and when it was last `asked_at`, which is
    later than `read_at` if the stores did not answer. `mark`: the last that was seen of the clinic."""

    found: Found | None
    read_at: float
    retry_at: float
    asked_at: float
    mark: str = ""


@dataclass(frozen=True, slots=True)
class _Reading:
    """`since`: monotonic seconds."""

    task: asyncio.Task[Found | None]
    since: float


class ClinicDirectory:
    """A known clinic never waits for a slow store: what is known serves while it is read again.

    Seconds: after `ttl_s` a clinic is read again beside the requests, after `max_age_s` they wait for it, but
    never longer than `patience_s`; `absent_ttl_s` for one that is not there; `stale_s` for how long the last
    known settings serve while a store is down; what was asked for within `doubted_s` is not doubted.
    Destinations that this process has not found yet are looked up `unknown_per_s` a second, after the first
    `unknown_burst`: anybody can make them up, and each look-up is a paid read.
    """

    def __init__(
        self,
        documents_: DocumentStore,
        secrets: SecretStore,
        clock: Clock,
        *,
        ttl_s: float = 30.0,
        max_age_s: float = 45.0,
        patience_s: float = 0.5,
        absent_ttl_s: float = 5.0,
        stale_s: float = 600.0,
        doubted_s: float = 3.0,
        unknown_per_s: float = 20.0,
        unknown_burst: int = 100,
    ) -> None:
        self._documents = documents_
        self._secrets = secrets
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_age_s = max_age_s
        self._patience_s = patience_s
        self._absent_ttl_s = absent_ttl_s
        self._stale_s = stale_s
        self._doubted_s = doubted_s
        self._unknown_interval_s = 1 / unknown_per_s
        self._unknown_burst_s = unknown_burst / unknown_per_s
        self._unknown_due = 0.0
        self._entries: dict[str, _Entry] = {}
        self._absent = 0
        self._reading: dict[str, _Reading] = {}

    async def by_destination(self, bot_user_id: str) -> Found | None:
        """The clinic of a webhook's `destination`. Raises UnavailableError if neither memory nor the stores
        know, InvalidInputError if what is stored can't be read, TooManyUnknownError."""
        key = f"destination:{bot_user_id}"
        entry, now = self._entries.get(key), self._clock.monotonic()
        known = entry is not None and (entry.found is not None or now < entry.retry_at)
        if not (known or key in self._reading):
            self._take_look_up(now)
        return await self._cached(key, lambda: self._read_destination(bot_user_id))

    def _take_look_up(self, now: float) -> None:
        """GCRA: `_unknown_due` is when the last look-up taken would be due at the steady rate."""
        due = max(now, self._unknown_due)
        if due - now > self._unknown_burst_s:
            raise TooManyUnknownError("too many unknown destinations at once")
        self._unknown_due = due + self._unknown_interval_s

    async def by_destination_anew(self, bot_user_id: str) -> Found | None:
        """As the stores have it now, for when a signature says that what is known may be out of date.

        Whoever makes up signatures causes one read in `doubted_s`: till then, and if the stores take longer
        than `patience_s`, it is what is known."""
        key = f"destination:{bot_user_id}"
        entry, now = self._entries.get(key), self._clock.monotonic()
        reading = self._reading.get(key)
        if entry is None or (reading is None and now - entry.asked_at < self._doubted_s):
            return await self.by_destination(bot_user_id)
        reading = reading or self._start(key, lambda: self._read_destination(bot_user_id), now)
        return await self._patiently(reading, entry, now)

    async def by_org(self, org_id: str, mark: str = "") -> Found | None:
        """As for a destination. `mark`: see core.ports.clinic_marks; with one that was not seen before, the
        clinic is read anew, and waited for as if it were older than `max_age_s`."""
        key, now = f"org:{org_id}", self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is not None and mark and entry.mark != mark:
            entry.mark, entry.retry_at = mark, now
            entry.read_at = min(entry.read_at, now - self._max_age_s - 1)
            self._start(key, lambda: self._read_org(org_id), now)
        return await self._cached(key, lambda: self._read_org(org_id))

    async def _cached(self, key: str, read: Callable[[], Awaitable[Found | None]]) -> Found | None:
        entry, now = self._entries.get(key), self._clock.monotonic()
        if entry is not None and now < entry.retry_at:
            return entry.found
        reading = self._reading.get(key) or self._start(key, read, now)
        if entry is None or entry.found is None or now - entry.read_at > self._stale_s:
            return await asyncio.shield(reading.task)
        if now - entry.read_at > self._max_age_s:
            return await self._patiently(reading, entry, now)
        return entry.found

    async def _patiently(self, reading: _Reading, known: _Entry, now: float) -> Found | None:
        """What is being read, or what is known if that takes longer than `patience_s`."""
        left_s = max(0.0, reading.since + self._patience_s - now)
        await asyncio.wait({reading.task}, timeout=left_s)
        return reading.task.result() if reading.task.done() else known.found

    def _start(self, key: str, read: Callable[[], Awaitable[Found | None]], now: float) -> _Reading:
        """One reader for a stampede; it goes on if the request that started it is cancelled."""

        def ended(task: asyncio.Task[Found | None]) -> None:
            if self._reading.get(key) is reading:
                del self._reading[key]
            if not task.cancelled():
                task.exception()  # whoever waits gets it; nobody may be waiting

        reading = _Reading(asyncio.ensure_future(self._refresh(key, read)), now)
        self._reading[key] = reading
        reading.task.add_done_callback(ended)
        return reading

    async def _refresh(self, key: str, read: Callable[[], Awaitable[Found | None]]) -> Found | None:
        entry, now = self._entries.get(key), self._clock.monotonic()
        if entry is not None:
            entry.asked_at = now
        try:
            found = await read()
        except (UnavailableError, InvalidInputError) as exc:
            if entry is None or now - entry.read_at > self._stale_s:
                raise
            log.warning("clinic.stale", key=key, reason=str(exc))
            entry.retry_at = self._clock.monotonic() + self._absent_ttl_s
            return entry.found
        entry = self._entries.get(key)
        if entry is not None and entry.read_at > now:
            return entry.found  # it was read anew meanwhile
        ttl_s = self._ttl_s if found else self._absent_ttl_s
        self._entries[key] = _Entry(found, now, now + ttl_s, now, entry.mark if entry else "")
        if found is None:
            self._forget_absent()
        return found

    def _forget_absent(self) -> None:
        """Destinations that nobody has are made up by others: they may not fill the memory."""
        self._absent += 1
        if self._absent > MAX_ABSENT:
            self._entries = {key: entry for key, entry in self._entries.items() if entry.found}
            self._absent = 0

    async def _read_destination(self, bot_user_id: str) -> Found | None:
        (channel,) = await self._documents.get_many([Key(documents.CHANNELS, bot_user_id)])
        if channel is None:
            return None
        return await self._read_org(documents.org_of_channel(bot_user_id, channel.data))

    async def _read_org(self, org_id: str) -> Found | None:
        keys = [
            Key(documents.ORGS, org_id),
            Key(documents.MODELS, org_id),
            Key(documents.MODELS, documents.DEFAULT),
            Key(documents.BUDGETS, org_id),
            Key(documents.BUDGETS, documents.DEFAULT),
        ]
        found, secret = await asyncio.gather(
            self._documents.get_many(keys), self._secrets.get(secret_name(org_id))
        )
        org, *rest = [document.data if document else None for document in found]
        if org is None:
            return None
        if secret is None:
            # The clinic is there, so "no such clinic" would end its events for good: they wait instead.
            raise SecretsUnavailableError(f"secret {secret_name(org_id)} is missing: apply its clinic again")
        return documents.clinic_from(org_id, org, *rest), _credentials(org_id, secret)


def _credentials(org_id: str, secret: Mapping[str, str]) -> ChannelCredentials:
    """Never an empty secret: everybody could sign with it."""
    channel_id, channel_secret = secret.get("channel_id"), secret.get("channel_secret")
    if not (channel_id and channel_secret):
        raise InvalidInputError(
            f"secret {secret_name(org_id)}: expected channel_id and channel_secret: apply its clinic again"
        )
    return ChannelCredentials(channel_id, channel_secret)
