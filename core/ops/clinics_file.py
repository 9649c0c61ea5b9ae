"""The clinics file: read and checked as a whole, every problem with its line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ruamel.yaml.nodes import Node

from core.domain.clinic import ORG_ID, Clinic, Mode
from core.domain.errors import InvalidInputError
from core.domain.money import to_micro_baht
from core.domain.prices import Prices, UnpricedModelError
from core.domain.providers import Providers
from core.domain.visible import is_damaged, looks_empty
from core.ops.clinics_file_hours import read_hours, read_mode
from core.ops.clinics_file_lines import ClinicsFile
from core.ops.clinics_file_prices import check_against_list, read_answers, read_prices
from core.ops.yaml_fields import Fields, FileProblemsError, Problem, read_yaml, text_of
from core.ports.line import ChannelCredentials
from core.usecases.clinics.documents import DEFAULT, encoded
from core.usecases.clinics.schema import (
    BUDGET,
    CLINIC,
    MESSAGE,
    MODEL,
    Exact,
    Flag,
    Group,
    Keyed,
    Kind,
    Model,
    Number,
    Schema,
    Text,
    Texts,
    Whole,
)
from core.usecases.operate.clinic_changes import Wanted, WantedClinic

EXAMPLE = """\
defaults:                        # optional: for clinics that do not say
  model: {model_name: gpt-6.1-terra, max_tokens: 600}  # with another provider: outage_model: backup/MODEL
  budget: {daily_budget_baht: 300, fallback_model: gpt-6-luna}
clinics:
  - org_id: bkk-smile            # small letters, digits, hyphens
    name: Bangkok Smile Dental
    line:                        # the secret goes to the secret store only
      bot_user_id: U8e742f61d673b39c7fff3cecb7536ef0
      channel_id: "1650000001"
      channel_secret: 8c570fa6dd201bb328f1c1eac23a96d8
    persona: |                   # tone, services, approved prices, hours
      Friendly and brief. Cleaning 900 baht. Open daily 10:00 to 20:00.
    language: en                 # of the texts that no model writes: th (as without it) or en
    budget: {daily_budget_baht: 500}
    limits: {max_concurrent: 5, messages_per_minute: 30}
    prices:                      # `from`, `until`: days, both included
      - {item: Cleaning, baht: 900}
      - {item: Whitening, baht: 3900, from: 2026-12-01, until: 2026-12-31, note: promotion}
      - {item: Braces, baht: [39000, 65000]}
    answers: [{q: Is there parking?, a: "Yes, in front of the clinic, for 10 cars."}]
    price_guard: true            # hold back amounts that stand nowhere here; absent: if there are prices
    handoff: {keywords: [staff], hours: 12}
    memory: true                 # remember customers beyond a conversation; false: do not
    retention: {memory_days: 365, unfollow_days: 30}
    privacy_notice: "How we use what you write: https://example.com/privacy"  # follows the greeting
    providers: [openai]          # who may be asked; absent: all of LLM_PROVIDERS
    messages: {busy: "We will be with you in a moment."}
    gather_s: 1.0                # 0 to 3: how long a message that looks unfinished waits for another
    hours: {mon-fri: "10:00-20:00", sat: "10:00-12:00, 13:00-18:00", sun: closed}  # absent: always open
    holidays: ["2026-12-31"]
    bookings: {remind_hours: 24} # a confirmed appointment's reminder: 0 to 168 hours before, 0 for none
    desk: {notify: [handoff, booking, urgent, failed]}  # what staff are told in their LINE chat; absent: all
    mode: live                   # live, after_hours (answers only while closed) or off; absent: as it is
    media: {images: true, voice: true}  # are pictures looked at, voice messages listened to? absent: both
    silent_postbacks: [menu=2]   # data of buttons that need no answer; `menu=*` for all that begin so
"""

TOP = ("clinics", "defaults")
LINE = ("bot_user_id", "channel_id", "channel_secret")
ENTRY = ("org_id", "line", "model", "budget", "prices", "answers", "hours", "holidays", "mode", *CLINIC)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the deployment allows. `max_concurrent` is CHAT_MAX_CONCURRENT. `providers` None: LLM_PROVIDERS is
    not set here, so their names can't be checked."""

    prices: Prices
    now_ms: int
    max_concurrent: int
    providers: Providers | None = None


def read_clinics_file(path: Path, rules: Rules) -> ClinicsFile:
    """Raises InvalidInputError if it can't be read, FileProblemsError naming all that is wrong with it."""
    return _Reader(path, rules).read()


class _Reader:
    def __init__(self, path: Path, rules: Rules) -> None:
        self._path = path
        self._rules = rules
        self._problems: list[Problem] = []
        self._warnings: dict[str, list[Problem]] = {}
        self._lines: dict[tuple[str, str], int] = {}
        self._seen: dict[tuple[str, str], int] = {}

    def read(self) -> ClinicsFile:
        top = Fields(read_yaml(self._path), "", TOP, self._problems)
        defaults = top.fields("defaults", ("model", "budget"))
        if not self._problems and not ("clinics" in top or defaults):
            top.problem("clinics", "is missing: expected a list of clinics")
        if top.is_empty("clinics"):
            top.problem("clinics", "is empty: put `- org_id: …` below it for each clinic, or leave it out")
        nodes = top.items("clinics", "expected a list: one `- org_id: …` for each clinic")
        clinics = [self._clinic(node, place) for place, node in enumerate(nodes)]
        model = self._model(defaults, DEFAULT) if defaults else None
        budget = self._budget(defaults, DEFAULT) if defaults else None
        if self._problems:
            raise FileProblemsError(self._path, self._problems)
        wanted = Wanted(tuple(clinic for clinic in clinics if clinic), model, budget)
        return ClinicsFile(self._path, wanted, tuple(self._warned()), self._lines)

    def _clinic(self, node: Node, place: int) -> WantedClinic | None:
        """What could be read of it; what could not is among the problems, and then nothing is used."""
        entry = Fields(node, _name_of(node) or f"clinics[{place}]", ENTRY, self._problems)
        org_id = entry.text(
            "org_id",
            "expected 1 to 40 small letters, digits and hyphens, such as bkk-smile",
            pattern=ORG_ID,
            required=True,
        )
        if org_id == DEFAULT:
            entry.problem("org_id", "'default' is kept for the defaults: choose another")
        self._once(entry, "org_id", org_id)
        self._located(entry, org_id, "org_id", "org_id")
        line = entry.fields("line", LINE)
        if line is None:
            entry.problem("line", f"is missing: expected {', '.join(LINE)}, as in LINE's console")
        channel = self._channel(line, org_id) if line else None
        model, budget = self._model(entry, org_id), self._budget(entry, org_id)
        mode, values = read_mode(entry), {"name": "", **self._values(entry, CLINIC)}
        prices, answers = read_prices(entry, self._problems), read_answers(entry, self._problems)
        check_against_list(entry, values.get("persona", ""), prices, answers)
        clinic = Clinic(
            org_id=org_id or "",
            bot_user_id=channel[0] if channel else "",
            channel_id=channel[1].channel_id if channel else "",
            hours=read_hours(entry),
            mode=mode or Mode.LIVE,
            prices=prices,
            answers=answers,
            **values,
        )
        self._check_providers(entry, clinic.providers, model or {}, budget or {})
        return WantedClinic(clinic, channel[1], model, budget, keeps_mode=mode is None) if channel else None

    def _check_providers(
        self, entry: Fields, allowed: tuple[str, ...], model: dict[str, Any], budget: dict[str, Any]
    ) -> None:
        """The clinic's own models are of providers that it may ask, as far as that is known here."""
        providers = self._rules.providers
        if not allowed or providers is None:
            return
        unknown = [name for name in allowed if name not in providers.names]
        if unknown:
            entry.problem("providers", f"{unknown[0]!r}: expected names in LLM_PROVIDERS")
        for name in (model.get("model_name"), model.get("outage_model"), budget.get("fallback_model")):
            if name and providers.of(name) not in allowed:
                entry.problem(
                    "providers", f"{name} is a model of {providers.of(name)}, which is not among them"
                )

    def _channel(self, line: Fields, org_id: str | None) -> tuple[str, ChannelCredentials] | None:
        bot_user_id = line.text(
            "bot_user_id",
            "expected U and 32 digits or letters a to f: the bot's userId in LINE's `GET /v2/bot/info`",
            pattern=r"U[0-9a-f]{32}",
            required=True,
        )
        channel_id = line.text(
            "channel_id",
            "expected digits, as in LINE's console, Basic settings",
            pattern=r"[0-9]{1,20}",
            required=True,
        )
        secret = line.text(
            "channel_secret",
            "expected the channel's secret, without blanks, as in LINE's console, Basic settings",
            pattern=r"[!-~]{1,200}",
            required=True,
            secret=True,
        )
        for name, value in (("bot_user_id", bot_user_id), ("channel_id", channel_id)):
            self._once(line, name, value)
            self._located(line, org_id, name, f"line.{name}")
        if not (bot_user_id and channel_id and secret):
            return None
        return bot_user_id, ChannelCredentials(channel_id, secret)

    def _model(self, entry: Fields, org_id: str | None) -> dict[str, Any] | None:
        """The document of what is set here, None if nothing is. An `outage_model` that stands here empty
        means that there is none."""
        fields = entry.fields("model", MODEL)
        if fields is None:
            return None
        for place in ("model_name", "max_tokens", "outage_model"):
            self._located(fields, org_id, place, f"model.{place}")
        values = self._values(fields, MODEL)
        name = values.get("model_name")
        if name and "temperature" in values and not self._rules.prices.capabilities(name).temperature:
            self._warn(fields, "temperature", f"{name} takes no temperature: it is left out of calls")
        document = encoded(MODEL, values)
        if "outage_model" in fields:
            document.setdefault("outage_model", None)
        return document or None

    def _budget(self, entry: Fields, org_id: str | None) -> dict[str, Any] | None:
        """As for the model; a `fallback_model` that stands here empty means that there is none."""
        fields = entry.fields("budget", BUDGET)
        if fields is None:
            return None
        self._located(fields, org_id, "fallback_model", "budget.fallback_model")
        document = encoded(BUDGET, self._values(fields, BUDGET))
        if "fallback_model" in fields:
            document.setdefault("fallback_model", None)
        return document or None

    def _values(self, fields: Fields, schema: Schema) -> dict[str, Any]:
        """What stands in the file and can be read."""
        read = {name: self._value(fields, name, kind) for name, kind in schema.items()}
        return {name: value for name, value in read.items() if value is not None}

    def _value(self, fields: Fields, name: str, kind: Kind) -> Any:
        value: Any
        match kind:
            case Text():
                value = _text(fields, name, kind)
            case Model():
                value = self._priced(fields, name)
            case Flag():
                value = fields.flag(name)
            case Whole():
                high = self._rules.max_concurrent if kind.high is None else kind.high
                value = fields.whole(name, kind.low, high, kind.remark)
            case Number():
                number = fields.decimal(name, kind.low, kind.high, kind.example)
                value = None if number is None else float(number)
            case Exact():
                value = _exact(fields, name, kind)
            case Texts():
                value = _texts(fields, name, kind)
            case Group():
                inner = fields.fields(name, kind.fields)
                value = None if inner is None else kind.kind(**self._values(inner, kind.fields))
            case Keyed():
                keys = sorted(kind.keys)
                inner = fields.fields(name, keys)
                value = None if inner is None else self._values(inner, dict.fromkeys(keys, MESSAGE))
        return value

    def _priced(self, fields: Fields, name: str) -> str | None:
        """A model that can be called and charged; one that soon can't is warned of."""
        model = fields.text(name, "expected a model's name, such as gpt-6.1-terra")
        if model is None:
            return None
        prices, now_ms = self._rules.prices, self._rules.now_ms
        providers = self._rules.providers
        if providers and not providers.knows(model):
            known = ", ".join(providers.names)
            fields.problem(name, f"{model!r}: no provider of that name in LLM_PROVIDERS ({known})")
            return None
        try:
            prices.price_at(model, now_ms)
        except UnpricedModelError as exc:
            fields.problem(name, str(exc))
            return None
        last = prices.shuts_down_within(model, now_ms)
        if last and last < datetime.fromtimestamp(now_ms / 1000, UTC).date():
            fields.problem(name, f"{model} was shut down on {last}: choose another")
        elif last:
            self._warn(fields, name, f"{model} shuts down on {last}: choose another before")
        return model

    def _once(self, fields: Fields, name: str, value: str | None) -> None:
        if value is None:
            return
        if (first := self._seen.get((name, value))) is not None:
            fields.problem(name, f"{value!r} stands in line {first} too: each clinic has its own")
        self._seen.setdefault((name, value), fields.line_of(name))

    def _located(self, fields: Fields, org_id: str | None, name: str, place: str) -> None:
        """For what is known to be wrong only together with what is stored."""
        if org_id and name in fields:
            self._lines[org_id, place] = fields.line_of(name)

    def _warn(self, fields: Fields, name: str, message: str) -> None:
        problem = Problem(fields.line_of(name), f"{fields.way}.{name}", message)
        self._warnings.setdefault(message, []).append(problem)

    def _warned(self) -> list[str]:
        """One line a warning, however many clinics it is about."""
        return [
            f"{self._path}:{first.line}: {first.field}: {message}"
            + (f" (and {len(more)} more)" if more else "")
            for message, (first, *more) in self._warnings.items()
        ]


def _texts(fields: Fields, name: str, kind: Texts) -> tuple[str, ...]:
    """A list of texts of which none is blank, and none that is not allowed."""
    texts = [text_of(node) for node in fields.items(name, kind.expected)]
    kept = tuple(text.strip() for text in texts if text and text.strip())
    if len(kept) < len(texts) or (kind.allowed is not None and not kind.allowed.issuperset(kept)):
        fields.problem(name, kind.expected)
    return kept


def _text(fields: Fields, name: str, kind: Text) -> str | None:
    """One that customers read is seen, and no letter of it was lost."""
    text = fields.text(
        name, kind.expected, pattern=kind.pattern, longest=kind.max_chars, required=kind.required
    )
    if kind.visible and text is not None and (looks_empty(text) or is_damaged(text)):
        fields.problem(name, "expected text that customers can see, without control characters")
        return None
    return text


def _exact(fields: Fields, name: str, kind: Exact) -> Decimal | None:
    number = fields.decimal(name, kind.low, kind.high, kind.example)
    if number is not None and kind.is_baht:
        try:
            to_micro_baht(number)
        except InvalidInputError as exc:
            fields.problem(name, str(exc))
    return number


def _name_of(node: Node) -> str | None:
    """The entry's org_id for messages, as far as it can be read."""
    pairs = node.value if isinstance(node.value, list) else []
    for pair in pairs:
        if isinstance(pair, tuple) and text_of(pair[0]) == "org_id":
            return text_of(pair[1])
    return None
