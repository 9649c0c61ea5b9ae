"""Are the clinics as fairlane needs them: documents, secrets, LINE channels, models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from core.domain.clinic import Clinic, secret_name
from core.domain.errors import FairlaneError, InvalidInputError, UnavailableError
from core.domain.notice import NO_DESK, NO_QUOTA
from core.domain.providers import Provider, Providers
from core.ports.clock import Clock
from core.ports.documents import DocumentStore
from core.ports.line import ChannelCredentials, Line, LineError, LineFault
from core.ports.llm import LlmError
from core.ports.secrets import SecretStore
from core.usecases.clinics.price_list import PriceList
from core.usecases.desk.records import DeskRecords, desk_from, desk_key
from core.usecases.effects.push_notice import UNDONE_MS
from core.usecases.operate.connect_clinics import is_connected
from core.usecases.operate.examine import Finding, attention, broken, names, ok
from core.usecases.operate.model_use import models_in_use
from core.usecases.operate.stored_clinics import StoredClinics, read_stored

R = TypeVar("R")

_AT_ONCE = 20
_APPLY = "`fairlane clinics apply FILE` writes it anew"


class ExamineClinics:
    """Clinics and secrets are read once, whichever check asks first.

    `models`: by provider, names of those that its key may use; none where there is no key here.
    """

    def __init__(
        self,
        documents: DocumentStore,
        secrets: SecretStore,
        line: Line,
        clock: Clock,
        models: Mapping[str, Callable[[], Awaitable[frozenset[str]]]],
        providers: Providers,
    ) -> None:
        self._documents = documents
        self._secrets = secrets
        self._line = line
        self._clock = clock
        self._models = models
        self._providers = providers
        self._read: asyncio.Task[StoredClinics] | None = None

    async def documents(self) -> list[Finding]:
        """Each can be read, and is found by its channel; which were never connected."""
        stored = await self._stored()
        if not stored.orgs:
            return [attention("clinics", "there are none yet", "`fairlane clinics apply FILE`")]
        found = []
        clinics, unreadable = _clinics(stored)
        for org_id, problem in unreadable.items():
            found.append(broken("clinics", f"{org_id}: {problem}", _APPLY))
        lost = [clinic.org_id for clinic in clinics if not _is_found(stored, clinic)]
        if lost:
            found.append(broken("clinics", f"{names(lost)} not found by their bot_user_id", _APPLY))
        if not found:
            found = [ok("clinics", f"{len(clinics)}, each found by its channel")]
        waiting = [c.org_id for c in clinics if not is_connected(stored.orgs[c.org_id].data, c)]
        if waiting:
            found.append(
                attention(
                    "connected",
                    f"not connected to LINE: {names(waiting)}",
                    "`fairlane clinics connect --all`: what is connected is skipped",
                )
            )
        else:
            found.append(ok("connected", "every clinic's channel was connected and tested"))
        return found

    async def desks(self) -> list[Finding]:
        """Which clinics' staff are told nothing, and which notices wait."""
        clinics, _ = _clinics(await self._stored())
        keys = [desk_key(clinic.org_id) for clinic in clinics]
        desks = [
            desk_from(key.id, document)
            for key, document in zip(keys, await self._documents.get_many(keys), strict=True)
        ]
        found = []
        if without := [desk.org_id for desk in desks if not desk.is_connected]:
            remedy = "`fairlane desk code ORG`; a staff member writes the code to the bot in their group"
            found.append(attention("desks", f"no desk is connected: {names(without)}", remedy))
        undone = await DeskRecords(self._documents, self._clock).undone()
        used_up = sorted({n.org_id for n in undone if n.reason == NO_QUOTA})
        if used_up:
            remedy = "the clinic can raise its plan at LINE; they are sent when that is possible"
            found.append(attention("notices", f"the month's messages are used up: {names(used_up)}", remedy))
        late_ms = self._clock.now_ms() - UNDONE_MS
        stuck = sorted(
            {n.org_id for n in undone if n.created_ms < late_ms and n.reason not in {NO_QUOTA, NO_DESK}}
        )
        if stuck:
            remedy = "is the queue paused? `fairlane desk show ORG`; the log of turn says why"
            found.append(broken("notices", f"not sent for more than five minutes: {names(stuck)}", remedy))
        return found or [ok("desks", f"{len(desks)}, and no notice waits")]

    async def secrets(self) -> list[Finding]:
        """The newest version of each clinic's secret can be read, and is for the channel of its document."""
        clinics, _ = _clinics(await self._stored())
        channels = await _each(clinics, self._channel)
        failed = [result for result in channels.values() if isinstance(result, UnavailableError)]
        if failed:
            raise failed[0]
        if bad := [org_id for org_id, result in channels.items() if isinstance(result, Exception)]:
            remedy = "put channel_secret into the clinics file; `fairlane clinics apply FILE` stores it"
            return [broken("secrets", f"none, or incomplete: {names(bad)}", remedy)]
        return [ok("secrets", f"{len(channels)} readable")]

    async def line(self) -> list[Finding]:
        """LINE issues a token for each channel, and its bot is the one that the clinic's document names."""
        clinics, _ = _clinics(await self._stored())
        bots = await _each(clinics, self._bot_of)
        refused: list[str] = []
        silent: list[str] = []
        other: list[str] = []
        for clinic in clinics:
            match bots[clinic.org_id]:
                case LineError(fault=LineFault.UNAUTHORIZED):
                    refused.append(clinic.org_id)
                case InvalidInputError():
                    pass  # without a secret: the secrets' check names it
                case FairlaneError():
                    silent.append(clinic.org_id)
                case bot if bot != clinic.bot_user_id:
                    other.append(clinic.org_id)
        found = []
        if refused:
            remedy = "copy the channel secret from LINE's console into the clinics file and apply it"
            found.append(broken("line", f"LINE takes neither id nor secret of {names(refused)}", remedy))
        if other:
            remedy = "correct line.bot_user_id in the clinics file and apply it"
            found.append(broken("line", f"another bot than bot_user_id: {names(other)}", remedy))
        if silent:
            remedy = "is LINE's API reachable from here? Run this again"
            found.append(attention("line", f"no answer from LINE for {names(silent)}", remedy))
        asked = sum(not isinstance(bot, FairlaneError) for bot in bots.values())
        return found or [ok("line", f"tokens issued for {asked} of {len(bots)} channels")]

    async def models(self) -> list[Finding]:
        """Each provider's key works; each model that a clinic uses is priced, there, and there to stay."""
        clinics, _ = _clinics(await self._stored())
        prices, now_ms = await PriceList(self._documents, self._clock).current(), self._clock.now_ms()
        keys = [await self._key(provider) for provider in self._providers.all]
        found = [finding for finding, _ in keys]
        present = {p.name: models for p, (_, models) in zip(self._providers.all, keys, strict=True)}
        used = models_in_use(clinics, prices, now_ms)
        for use in used:
            model, who = use.model, names(use.org_ids)
            remedy = f"`fairlane clinics move-model {model} NEW`, and in the clinics file"
            if not use.is_priced:
                told = f"{model} has no price, so it is never called: {who}"
                found.append(broken("models", told, remedy))
            elif not self._providers.knows(model):
                told = f"{model} is of no provider in LLM_PROVIDERS: {who}"
                found.append(broken("models", told, remedy))
            elif self._is_missing(model, present):
                found.append(broken("models", f"{model} can't be used with this key: {who}", remedy))
            elif last := prices.shuts_down_within(model, now_ms):
                told = f"{model} is shut down on {last.isoformat()}: used by {who}"
                found.append(attention("models", told, remedy))
        if len(found) == len(keys):
            found.append(
                ok("models", f"{', '.join(u.model for u in used) or 'none in use'}: priced, not about to end")
            )
        return found

    def _is_missing(self, model: str, present: Mapping[str, frozenset[str] | None]) -> bool:
        """As far as its provider has said which it has."""
        provider, name = self._providers.split(model)
        there = present[provider]
        return there is not None and name not in there

    async def _key(self, provider: Provider) -> tuple[Finding, frozenset[str] | None]:
        check, variable = f"{provider.name} key", provider.api_key_env or "OPENAI_API_KEY"
        ask = self._models.get(provider.name)
        if ask is None:
            remedy = f"set {variable} here to have it tried"
            return attention(check, f"not tried: {variable} is not set here", remedy), None
        try:
            present = await ask()
        except LlmError as exc:
            if exc.status == 403:
                remedy = "nothing, if calls work: the key may not list models; or give it that permission"
                return attention(check, f"taken, but may not list models ({exc})", remedy), None
            remedy = "rotate the key (terraform/README.md)"
            return broken(check, f"the provider does not take it ({exc})", remedy), None
        except UnavailableError as exc:
            return broken(check, str(exc), "the provider's status page; its base_url"), None
        return ok(check, f"taken, {len(present)} models"), present

    async def _channel(self, clinic: Clinic) -> ChannelCredentials:
        secret = await self._secrets.get(secret_name(clinic.org_id))
        if (
            secret is None
            or not secret.get("channel_secret")
            or secret.get("channel_id") != clinic.channel_id
        ):
            raise InvalidInputError(f"secret {secret_name(clinic.org_id)}")
        return ChannelCredentials(secret["channel_id"], secret["channel_secret"])

    async def _bot_of(self, clinic: Clinic) -> str:
        info = await self._line.bot_info(await self._channel(clinic))
        return str(info.get("userId"))

    async def _stored(self) -> StoredClinics:
        if self._read is None:
            self._read = asyncio.ensure_future(read_stored(self._documents))
        # Whoever's time is over must not end the read for the others.
        return await asyncio.shield(self._read)


def _clinics(stored: StoredClinics) -> tuple[list[Clinic], dict[str, str]]:
    """Those that can be read, and what is wrong with the others."""
    clinics, unreadable = [], {}
    for org_id in sorted(stored.orgs):
        try:
            clinics.append(stored.clinic(org_id))
        except InvalidInputError as exc:
            unreadable[org_id] = str(exc)
    return clinics, unreadable


def _is_found(stored: StoredClinics, clinic: Clinic) -> bool:
    channel = stored.channels.get(clinic.bot_user_id)
    return channel is not None and channel.data.get("org_id") == clinic.org_id


async def _each(
    clinics: Sequence[Clinic], look: Callable[[Clinic], Awaitable[R]]
) -> dict[str, R | FairlaneError]:
    """By org_id, what `look` found or raised; some at once."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(clinic: Clinic) -> R | FairlaneError:
        async with room:
            try:
                return await look(clinic)
            except FairlaneError as exc:
                return exc

    results = await asyncio.gather(*map(one, clinics))
    return {clinic.org_id: result for clinic, result in zip(clinics, results, strict=True)}
