"""Point clinics' LINE channels at this deployment, test that, and say what a person must still switch on.

What was done is remembered in `orgs/{org_id}.connected`, so that hundreds of clinics can be gone through in
several goes. Sources: LINE Developers, Messaging API reference, "Webhook settings" and "Rate limits" (a test
may be made 60 times an hour, counted for each channel).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.domain.clinic import Clinic, secret_name
from core.domain.errors import FairlaneError, LineUnavailableError
from core.ports.clock import Clock
from core.ports.documents import DocumentStore, Key, Merge
from core.ports.line import ChannelCredentials, Line, LineError, LineFault
from core.ports.secrets import SecretStore
from core.usecases.clinics.documents import ORGS
from core.usecases.operate.stored_clinics import NoSuchClinicError, StoredClinics, read_stored

FIELD = "connected"
_AT_ONCE = 8
_TRIES = 3

REDELIVERY = (
    "Webhook redelivery can't be seen or set by LINE's API: LINE Developers console → Messaging API → "
    "Webhook settings → Webhook redelivery: on."
)
_USE_WEBHOOK = "LINE Developers console → Messaging API → Webhook settings → Use webhook: on"
_CHAT_ON = (
    "chat is on in LINE Official Account Manager: staff can write beside fairlane; leave it on for hand-offs"
)


class Status(StrEnum):
    CONNECTED = "connected"
    SWITCH_ON = "switch on"  # set and tested, but "Use webhook" is off: LINE sends nothing yet
    FAILED = "failed"
    DONE_BEFORE = "done before"


@dataclass(frozen=True, slots=True)
class Connection:
    """One clinic. `problem` and `remedy` when it failed; `to_do` for a person in LINE's console; `notes` for
    what may be as it should."""

    org_id: str
    status: Status
    problem: str = ""
    remedy: str = ""
    to_do: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _NotConnectedError(FairlaneError):
    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class ConnectClinics:
    def __init__(self, documents: DocumentStore, secrets: SecretStore, line: Line, clock: Clock) -> None:
        self._documents = documents
        self._secrets = secrets
        self._line = line
        self._clock = clock

    async def __call__(
        self,
        url: str,
        org_ids: Iterable[str] | None,
        *,
        again: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> list[Connection]:
        """`org_ids` None: every clinic. `again`: also those that are connected to `url` already. `progress`
        is told how many of how many are done. A failing clinic does not stop the others.

        Raises InvalidInputError for a clinic that does not exist.
        """
        stored = await read_stored(self._documents)
        wanted = sorted(stored.orgs) if org_ids is None else list(dict.fromkeys(org_ids))
        if missing := [org_id for org_id in wanted if org_id not in stored.orgs]:
            raise NoSuchClinicError(missing[0])
        room, ready = asyncio.Semaphore(_AT_ONCE), 0
        progress(ready, len(wanted))

        async def one(org_id: str) -> Connection:
            nonlocal ready
            async with room:
                done = await self._connected(stored, org_id, url, again=again)
            ready += 1
            progress(ready, len(wanted))
            return done

        return list(await asyncio.gather(*map(one, wanted)))

    async def _connected(self, stored: StoredClinics, org_id: str, url: str, *, again: bool) -> Connection:
        org = stored.orgs[org_id].data
        unchanged = False
        try:
            clinic = stored.clinic(org_id)
            if not again and is_connected(org, clinic, url):
                return Connection(org_id, Status.DONE_BEFORE)
            unchanged = is_connected(org, clinic)
            channel, notes = await self._tested(clinic, url)
            unchanged = False
            done = await self._set(org_id, channel, url, notes)
        except (FairlaneError, KeyError) as exc:
            done = _failed(org_id, exc)
        if unchanged:  # LINE still has the URL of before, as the record says
            return done
        record = {
            "url": url,
            "channel_id": str(org.get("channel_id", "")),
            "at_ms": self._clock.now_ms(),
            "ok": done.status is Status.CONNECTED,
            "problem": done.problem or None,
        }
        try:
            await self._documents.commit([Merge(Key(ORGS, org_id), {FIELD: record}, if_exists=True)])
        except FairlaneError as exc:
            return _failed(org_id, exc)
        return done

    async def _tested(self, clinic: Clinic, url: str) -> tuple[ChannelCredentials, tuple[str, ...]]:
        """The channel, and notes on it. Before the URL is set, so that a webhook that works is never replaced
        by one that does not."""
        secret = await self._secrets.get(secret_name(clinic.org_id))
        if secret is None:
            remedy = "put channel_secret into the clinics file and run `fairlane clinics apply FILE`"
            raise _NotConnectedError(f"no secret {secret_name(clinic.org_id)}", remedy)
        channel = ChannelCredentials(secret["channel_id"], secret["channel_secret"])
        info = await self._asked(lambda: self._line.bot_info(channel))
        if info.get("userId") != clinic.bot_user_id:
            raise _NotConnectedError(
                f"the channel's bot is {info.get('userId')}, the clinic's bot_user_id {clinic.bot_user_id}",
                "correct line.bot_user_id (or the channel's id and secret) in the clinics file and apply it",
            )
        tested = await self._asked(lambda: self._line.test_webhook(channel, url))
        if not tested.get("success"):
            raise _refused(tested)
        return channel, (_CHAT_ON,) if info.get("chatMode") == "chat" else ()

    async def _set(
        self, org_id: str, channel: ChannelCredentials, url: str, notes: tuple[str, ...]
    ) -> Connection:
        await self._asked(lambda: self._line.set_webhook(channel, url))
        active = (await self._asked(lambda: self._line.get_webhook(channel))).get("active")
        if active:
            return Connection(org_id, Status.CONNECTED, notes=notes)
        return Connection(org_id, Status.SWITCH_ON, to_do=(_USE_WEBHOOK,), notes=notes)

    async def _asked(self, call: Callable[[], Any]) -> Any:
        """Again when LINE was not reached, gave no answer or was asked too often for a moment: every call
        here may be repeated. A limit that lasts is left to the next go."""
        for left in reversed(range(_TRIES)):
            try:
                return await call()
            except (LineError, LineUnavailableError) as exc:
                wait_s = _worth_waiting_s(exc)
                if wait_s is None or not left:
                    raise
            await self._clock.sleep(wait_s)
        raise AssertionError


def is_connected(org: Mapping[str, Any], clinic: Clinic, url: str | None = None) -> bool:
    """Whether `orgs/{org_id}` says that its present channel was connected (to `url`), and nothing is left."""
    record = org.get(FIELD) or {}
    same_url = url is None or record.get("url") == url
    return bool(record.get("ok")) and same_url and record.get("channel_id") == clinic.channel_id


def _failed(org_id: str, exc: Exception) -> Connection:
    match exc:
        case _NotConnectedError():
            problem, remedy = str(exc), exc.remedy
        case KeyError():
            problem, remedy = (
                f"its secret has no {exc.args[0]}",
                "apply the clinic again with its channel_secret",
            )
        case LineError():
            problem = f"LINE: {exc}"
            remedy = _LINE_REMEDIES.get(exc.fault, "see the message; then run the command again")
        case LineUnavailableError():
            problem, remedy = str(exc), "is api.line.me reachable from here? then run the command again"
        case _:
            problem, remedy = str(exc), "mend it, then run the command again"
    return Connection(org_id, Status.FAILED, problem, remedy)


_LINE_REMEDIES = {
    LineFault.UNAUTHORIZED: "LINE does not take the channel's id and secret: copy both from the console "
    "(Basic settings) into the clinics file and run `fairlane clinics apply FILE`",
    LineFault.RATE_LIMITED: "LINE allows 60 tests an hour and channel: run the command again in an hour; "
    "clinics that are done are skipped",
    LineFault.REJECTED: "LINE takes an https URL of at most 500 characters with a valid certificate",
}


def _refused(tested: Mapping[str, Any]) -> _NotConnectedError:
    status, reason = tested.get("statusCode"), str(tested.get("reason") or "UNCLASSIFIED")
    remedies = {
        401: "the clinic's channel_secret is not this channel's: correct it in the clinics file and apply it",
        404: "fairlane does not know this bot_user_id: apply the clinic, wait a minute, run this again",
    }
    if reason == "REQUEST_TIMEOUT":
        remedy = "the webhook did not answer in time: `fairlane doctor --webhook-url URL`"
    elif not status or reason == "COULD_NOT_CONNECT":
        remedy = "LINE can't reach the URL: is it `terraform output webhook_url`, and public?"
    else:
        remedy = remedies.get(status, "read the webhook's log: `webhook.refused`, `webhook.enqueue_failed`")
    answered = f", status {status}" if status else ""
    return _NotConnectedError(f"LINE's test of the webhook failed: {reason}{answered}", remedy)


def _worth_waiting_s(exc: LineError | LineUnavailableError) -> float | None:
    """None: waiting does not help, or not soon."""
    if isinstance(exc, LineUnavailableError) or exc.fault is LineFault.AMBIGUOUS:
        return 1.0
    if exc.fault is LineFault.RATE_LIMITED and (exc.retry_after_ms or 2_000) <= 10_000:
        return (exc.retry_after_ms or 2_000) / 1000
    return None
