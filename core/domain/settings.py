"""Settings: read once from the environment into one frozen object, all problems reported together.

The fields of `Settings` are the one place that describes a variable: its type, limits, meaning, and default.
The README's table and Terraform are tested against them; whoever needs a default asks `default`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from core.domain.errors import InvalidInputError
from core.domain.providers import OPENAI_URL, Provider, Providers, parse_providers, with_keys

Role = Literal["webhook", "turn"]
BOTH: frozenset[Role] = frozenset({"webhook", "turn"})
TURN: frozenset[Role] = frozenset({"turn"})
WEBHOOK: frozenset[Role] = frozenset({"webhook"})


class SettingsError(InvalidInputError):
    """One line for every variable that is missing or wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("settings are missing or wrong:\n" + "\n".join(f"  {p}" for p in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Variable:
    """`parse` turns the text into a value or raises ValueError with what is expected."""

    name: str
    parse: Callable[[str], Any]
    meaning: str
    roles: frozenset[Role] = BOTH
    default: str | None = None
    required: bool = False
    secret: bool = False

    @property
    def attribute(self) -> str:
        return self.name.lower()


def _setting(
    parse: Callable[[str], Any],
    meaning: str,
    roles: frozenset[Role] = BOTH,
    default: str | None = None,
    *,
    required: bool = False,
    secret: bool = False,
) -> Any:
    described = {"parse": parse, "meaning": meaning, "roles": roles, "default": default}
    return field(repr=not secret, metadata={**described, "required": required, "secret": secret})


def _text(value: str) -> str:
    return value


def _matching(pattern: str, example: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {example}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d+", value) or not low <= int(value) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(value)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"expected seconds from {low:g} to {high:g}")
        return number

    return parse


def _timeouts(value: str) -> tuple[float, ...]:
    try:
        return tuple(_seconds(0.05, 600)(part.strip()) for part in value.split(","))
    except ValueError as exc:
        raise ValueError("expected seconds for each attempt, such as 8,10,10") from exc


def _decimal(value: str) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal(0)
    if not (number.is_finite() and number > 0):
        raise ValueError("expected a positive number such as 36")
    return number


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as exc:
        raise ValueError("expected a time zone such as Asia/Bangkok") from exc
    return value


def _redis(value: str) -> str:
    """As the client will read it, which takes database 0 for one that is no number, and a wrong port or
    certificate for a reason to fail at every request."""
    try:
        url = urlsplit(value)
        whole = bool(url.path) if url.scheme == "unix" else bool(url.hostname) and url.port != 0
        databases = parse_qs(url.query).get("db", [])
        if url.scheme != "unix":
            databases = [*databases, unquote(url.path).strip("/") or "0"]
        good = whole and all(re.fullmatch("[0-9]+", database) for database in databases)
    except ValueError:  # which quotes what may be a password
        good = False
    if not (good and url.scheme in {"redis", "rediss", "unix"}):
        raise ValueError("expected redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE or unix://PATH")
    return value


def _certificates(value: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
    except (ssl.SSLError, ValueError, TypeError):
        raise ValueError("expected certificates in PEM: -----BEGIN CERTIFICATE----- …") from None
    return value


def _switch(value: str) -> bool:
    if value.lower() not in {"on", "off"}:
        raise ValueError("expected on or off")
    return value.lower() == "on"


def _level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("expected DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def _prefix(value: str) -> str:
    """No deployment's secrets may have names that begin like those of another one."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*-", value) or "-line-" in f"-{value}":
        raise ValueError(
            "expected lower-case letters, digits and hyphens that end with a hyphen, without -line-"
        )
    return value


_URL = _matching(r"https?://[^\s]+", "an http(s) URL")
_STORE = _matching(r"firestore|sqlite:.+", "firestore or sqlite:PATH")
_SECRETS = _matching(r"secretmanager|file:.+", "secretmanager or file:PATH")
_QUEUE = _matching(r"projects/[^/]+/locations/[^/]+/queues/[^/]+", "projects/P/locations/L/queues/Q")
_HOSTPORT = _matching(r"[^\s/:]+:\d+", "host:port")
MAX_SLOTS = 100_000
_MANY = _whole(1, MAX_SLOTS)
_COUNT = _whole(1, 10_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field a variable, in lower case. Secrets are kept out of the representation."""

    google_cloud_project: str = _setting(_text, "the project", required=True)
    document_store: str = _setting(_STORE, "`firestore`, or `sqlite:PATH` (one machine)", default="firestore")
    firestore_database: str = _setting(_text, "name of the Firestore database", default="(default)")
    redis_url: str = _setting(_redis, "`redis://`, `rediss://` or `unix://`", required=True, secret=True)
    redis_ca_cert: str | None = _setting(_certificates, "PEM of the CA, for `rediss://`", secret=True)
    secret_store: str = _setting(_SECRETS, "`secretmanager`, or `file:PATH`", default="secretmanager")
    secret_prefix: str | None = _setting(_prefix, "begins the names of secrets: `{prefix}line-{org_id}`")
    line_api_base_url: str = _setting(_URL, "LINE's API", default="https://api.line.me")
    line_data_api_base_url: str | None = _setting(
        _URL,
        "LINE's data API; if unset, `https://api-data.line.me`, or LINE_API_BASE_URL where that is another",
        TURN,
    )
    tasks_queue: str = _setting(_QUEUE, "`projects/P/locations/L/queues/Q`", required=True)
    tasks_dispatches_per_s: int = _setting(_whole(1, 500), "the queue's rate", default="17")
    turn_url: str = _setting(_URL, "where tasks are sent, and their OIDC audience", required=True)
    tasks_service_account: str | None = _setting(
        _text, "OIDC identity of the tasks; needed unless an emulator is set"
    )
    cloud_tasks_emulator_host: str | None = _setting(
        _HOSTPORT, "`host:port` of a local queue, plaintext gRPC"
    )
    openai_api_key: str = _setting(_text, "the provider's key", TURN, required=True, secret=True)
    openai_base_url: str | None = _setting(_URL, "another OpenAI-compatible endpoint", TURN)
    transcribe_model: str = _setting(_text, "writes voice messages down", TURN, "gpt-transcribe")
    chat_max_concurrent: int = _setting(_MANY, "calls at the provider at once, all instances", TURN, "15")
    chat_max_concurrent_per_org: int = _setting(_MANY, "of these, for one clinic", TURN, "5")
    llm_requests_per_minute: int | None = _setting(
        _COUNT, "the provider's limit, enforced with the slots", TURN
    )
    llm_tokens_per_minute: int | None = _setting(
        _COUNT, "the provider's limit, enforced with the slots", TURN
    )
    llm_providers: tuple[Provider, ...] | None = _setting(
        parse_providers, "JSON list of providers; the first takes what it lacks from the rows above", TURN
    )
    llm_adaptive: bool = _setting(
        _switch, "`on`: find below `CHAT_MAX_CONCURRENT` what the provider takes; `off`", TURN, "on"
    )
    llm_attempt_timeouts_s: tuple[float, ...] = _setting(
        _timeouts, "time limit of each attempt", TURN, "8,10,10"
    )
    llm_deadline_s: float = _setting(_seconds(0.1, 600), "all attempts and backoffs of a turn", TURN, "29")
    llm_backoff_s: float = _setting(_seconds(0, 60), "first backoff; doubles", TURN, "1")
    llm_jitter_s: float = _setting(_seconds(0, 60), "random time added to a backoff", TURN, "0.5")
    slot_wait_s: float = _setting(_seconds(0.1, 600), "longest wait for a slot in one go", BOTH, "20")
    slot_lease_s: float = _setting(_seconds(0.5, 600), "lease of slots and conversations", TURN, "10")
    org_room: int = _setting(_MANY, "waiters a clinic may have in the room", TURN, "20")
    patience_s: float = _setting(
        _seconds(1, 86_400), "age at which an event gets the busy message", BOTH, "120"
    )
    org_messages_per_minute: int = _setting(_whole(1, 60_000), "a clinic's rate; excess waits", WEBHOOK, "30")
    sender_messages_per_10s: int = _setting(
        _whole(1, 60_000), "a customer's rate; excess waits", WEBHOOK, "5"
    )
    session_ttl_s: int = _setting(_whole(1, 2_592_000), "how long a conversation is remembered", TURN, "1800")
    thb_per_usd: Decimal = _setting(  # noqa: RUF009  a field, not a value
        _decimal, "exchange rate, recorded with every charge", TURN, "36"
    )
    budget_timezone: str = _setting(_timezone, "where a budget's day begins and ends", TURN, "Asia/Bangkok")
    log_level: str = _setting(_level, "DEBUG, INFO, WARNING or ERROR", default="INFO")

    @property
    def line_data_url(self) -> str:
        """Where what customers send besides words is fetched from."""
        if self.line_data_api_base_url:
            return self.line_data_api_base_url
        elsewhere = self.line_api_base_url != default("LINE_API_BASE_URL")
        return self.line_api_base_url if elsewhere else "https://api-data.line.me"

    @property
    def region(self) -> str:
        """Where the deployment is, which its queue's name says; "" if that is not set."""
        return self.tasks_queue.split("/")[3] if self.tasks_queue else ""

    @property
    def named_providers(self) -> Providers | None:
        """None: LLM_PROVIDERS is not set, so nobody knows here which names there are."""
        return self.providers if self.llm_providers else None

    @property
    def providers(self) -> Providers:
        """The first one's gaps are filled by OPENAI_* and the limits above. Another one without a limit of
        its own has CHAT_MAX_CONCURRENT, too; without an address it is OpenAI."""
        first, *others = self.llm_providers or (Provider(),)
        filled = replace(
            first,
            base_url=first.base_url or self.openai_base_url,
            api_key=first.api_key or self.openai_api_key,
            max_concurrent=first.max_concurrent or self.chat_max_concurrent,
            requests_per_minute=first.requests_per_minute or self.llm_requests_per_minute,
            tokens_per_minute=first.tokens_per_minute or self.llm_tokens_per_minute,
        )
        return Providers(
            (
                filled,
                *(
                    replace(
                        other,
                        base_url=other.base_url or OPENAI_URL,
                        max_concurrent=other.max_concurrent or self.chat_max_concurrent,
                    )
                    for other in others
                ),
            )
        )

    @classmethod
    def read(cls, environment: Mapping[str, str], needs: Collection[str]) -> Settings:
        """`needs`: the variables that must be set: `required_by(role)`, or what an operator command uses.

        Raises SettingsError naming every variable that is missing or wrong. An empty value counts as unset;
        a required variable that is not needed here and not set is "".
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        missing: dict[str, str] = {}
        for variable in VARIABLES:
            text = environment.get(variable.name, "").strip() or variable.default
            if text is None:
                values[variable.attribute] = "" if variable.required else None
                if variable.name in needs:
                    missing[variable.name] = f"{variable.name} is required: {variable.meaning}"
                continue
            try:
                values[variable.attribute] = variable.parse(text)
            except ValueError as exc:
                # A secret must not reach a log by way of an error message.
                shown = "" if variable.secret else f" {text!r}"
                problems.append(f"{variable.name}{shown}: {exc}")
        if providers := values.get("llm_providers"):
            values["llm_providers"] = keyed = with_keys(providers, environment)
            if keyed[0].api_key_env:
                missing.pop("OPENAI_API_KEY", None)
            if "OPENAI_API_KEY" in needs:
                missing |= {
                    each.api_key_env: f"{each.api_key_env} is required: the key of provider {each.name}"
                    for each in keyed
                    if each.api_key_env and not each.api_key
                }
        problems = [*missing.values(), *problems]
        if "TURN_URL" in needs and not (
            values.get("tasks_service_account") or values.get("cloud_tasks_emulator_host")
        ):
            problems.append("TASKS_SERVICE_ACCOUNT is required unless CLOUD_TASKS_EMULATOR_HOST is set")
        if problems:
            raise SettingsError(problems)
        return cls(**values)


VARIABLES = tuple(Variable(each.name.upper(), **each.metadata) for each in fields(Settings))


def default(name: str) -> Any:
    """What holds where the variable `name` is not set."""
    variable = next(v for v in VARIABLES if v.name == name)
    return None if variable.default is None else variable.parse(variable.default)


def required_by(role: Role) -> frozenset[str]:
    """Names of the variables without which a function does not start."""
    return frozenset(v.name for v in VARIABLES if v.required and role in v.roles)
