"""What models cost, when, and which parameters they take: `prices.toml`, overridden by documents.

A turn asks for one price row and keeps it, so that a price that changes while the turn runs changes nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Literal, cast, get_args

from core.domain.audio_prices import AudioPrice, AudioPriceError, AudioRows, audio_rows, price_in_force
from core.domain.errors import InvalidInputError
from core.domain.price_fields import moment_of, price_of

OutputLimit = Literal["max_completion_tokens", "max_tokens"]

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_CAPABILITIES = {
    "temperature",
    "output_limit",
    "max_output",
    "reasoning_effort",
    "picture_tokens",
    "shutdown",
}
_ROW = {"from", "input", "cached_input", "cache_write", "output"}


class UnpricedModelError(InvalidInputError):
    """A model without a price can't be charged, hence never called."""

    def __init__(self, model: str, known: Iterable[str]) -> None:
        super().__init__(
            f"model {model!r} has no price: use one of {', '.join(sorted(known))}, "
            f"or write its price to the document ai_model_prices/{model.replace('/', ':')}"
        )
        self.model = model


class PriceTableError(InvalidInputError):
    """A price entry that can't be read: the message names the entry, the field and what is expected."""


@dataclass(frozen=True, slots=True)
class Price:
    """One price row: USD per 1,000,000 tokens. `version` names the table that it came from."""

    model: str
    version: str
    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal | None = None

    def record(self) -> dict[str, str | None]:
        """As it stands on every charge (`price` in a turn's document)."""
        return {
            "version": self.version,
            "input_usd": str(self.input),
            "cached_usd": str(self.cached_input),
            "cache_write_usd": None if self.cache_write is None else str(self.cache_write),
            "output_usd": str(self.output),
        }

    @classmethod
    def of_record(cls, model: str, record: Mapping[str, Any]) -> Price:
        """The row that a charge was made by, whatever the table says today."""
        written = record.get("cache_write_usd")
        return cls(
            model=model,
            version=str(record["version"]),
            input=Decimal(record["input_usd"]),
            cached_input=Decimal(record["cached_usd"]),
            output=Decimal(record["output_usd"]),
            cache_write=None if written is None else Decimal(written),
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be sent to a model, and until when it exists. `max_output`: the most tokens that an answer
    may be allowed; None: not known. `picture_tokens`: what one picture as it is sent takes at most; None: the
    model takes no pictures."""

    temperature: bool = False
    output_limit: OutputLimit = "max_completion_tokens"
    max_output: int | None = None
    reasoning_effort: str | None = None
    picture_tokens: int | None = None
    shutdown: date | None = None

    def temperature_to_send(self, wished: float | None) -> float | None:
        """The clinic's temperature if the model takes one; otherwise it is left out: it would be a 400."""
        return wished if self.temperature else None


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model's entry. `rows` are (effective from, price), oldest first."""

    capabilities: Capabilities
    rows: tuple[tuple[datetime, Price], ...]


@dataclass(frozen=True, slots=True)
class Prices:
    """The whole table. A dated snapshot (`gpt-4o-mini-2024-07-18`) without an entry is its family's, and
    another provider's model is priced like the one of its name here."""

    version: str
    models: Mapping[str, PricedModel]
    tiers: Mapping[str, Decimal] = field(default_factory=dict)
    transcription: Mapping[str, AudioRows] = field(default_factory=dict)

    def audio_price_at(self, model: str, when_ms: int) -> AudioPrice | None:
        """None: no such model is known, so nothing can be written down by it."""
        return price_in_force(self.transcription.get(model, ()), when_ms)

    def picture_tokens(self, model: str) -> int | None:
        """See Capabilities; of a model that is not known: None."""
        try:
            return self.capabilities(model).picture_tokens
        except UnpricedModelError:
            return None

    def price_at(self, model: str, when_ms: int) -> Price:
        """The row in force at `when_ms`. Raises UnpricedModelError."""
        when = datetime.fromtimestamp(when_ms / 1000, UTC)
        in_force = [price for start, price in self._entry(model).rows if start <= when]
        if not in_force:
            raise UnpricedModelError(model, self.models)
        return in_force[-1]

    def is_priced(self, model: str, when_ms: int) -> bool:
        try:
            self.price_at(model, when_ms)
        except UnpricedModelError:
            return False
        return True

    def capabilities(self, model: str) -> Capabilities:
        """Raises UnpricedModelError."""
        return self._entry(model).capabilities

    def too_long_for(self, model: str, max_tokens: int) -> int | None:
        """The model's own limit if `max_tokens` is beyond it: that is a 400, which is never retried."""
        try:
            most = self.capabilities(model).max_output
        except UnpricedModelError:  # never called
            return None
        return most if most is not None and max_tokens > most else None

    def shuts_down_within(self, model: str, when_ms: int, *, days: int = 60) -> date | None:
        """The model's last day if it is within `days` (or past), else None. Raises UnpricedModelError."""
        last = self.capabilities(model).shutdown
        horizon = datetime.fromtimestamp(when_ms / 1000, UTC).date() + timedelta(days=days)
        return last if last is not None and last <= horizon else None

    def tier_multiplier(self, tier: str | None) -> Decimal:
        """What a response's service tier multiplies prices by; one if it is not listed."""
        return self.tiers.get(tier or "default", Decimal(1))

    def overridden(self, documents: Mapping[str, Mapping[str, Any]]) -> Prices:
        """With `ai_model_prices` documents by model: what a document says replaces what the table says.

        Raises PriceTableError.
        """
        models, transcription = dict(self.models), dict(self.transcription)
        for model, raw in documents.items():
            version = str(raw.get("version") or f"{self.version}+{model}")
            if "unit" in raw:
                transcription[model] = _audio(model, raw, version)
            else:
                models[model] = _model(model, raw, version, models.get(model) or self._base_of(model))
        return Prices(self.version, models, self.tiers, transcription)

    def _base_of(self, document: str) -> PricedModel | None:
        """What a document `provider:NAME` need not say again: NAME's entry."""
        return self.models.get(document.replace(":", "/", 1)) or self.models.get(document.partition(":")[2])

    def _entry(self, model: str) -> PricedModel:
        """Its own, as `backup/NAME` or as a document can be called, `backup:NAME`; else NAME's."""
        for name in (model, model.replace("/", ":"), model.partition("/")[2]):
            entry = self.models.get(name) or self.models.get(_SNAPSHOT.sub("", name))
            if entry is not None:
                return entry
        raise UnpricedModelError(model, self.models)


@cache
def load_prices() -> Prices:
    """The table that ships with the code, read once a process."""
    text = resources.files("core.domain").joinpath("prices.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    version = raw["version"]
    models = {name: _model(name, entry, version, None) for name, entry in raw["models"].items()}
    transcription = {name: _audio(name, entry, version) for name, entry in raw["transcription"].items()}
    tiers = {tier: Decimal(by) for tier, by in raw["tiers"].items()}
    return Prices(version, models, tiers, transcription)


def _audio(name: str, raw: Mapping[str, Any], version: str) -> AudioRows:
    try:
        return audio_rows(name, raw, version)
    except AudioPriceError as exc:
        raise PriceTableError(str(exc)) from exc


def _model(name: str, raw: Mapping[str, Any], version: str, base: PricedModel | None) -> PricedModel:
    unknown = set(raw) - _CAPABILITIES - {"version", "prices"}
    if unknown:
        raise PriceTableError(f"price of {name}: unknown field {min(unknown)!r}")
    rows = base.rows if base else ()
    if "prices" in raw:
        if not isinstance(raw["prices"], list) or not raw["prices"]:
            raise PriceTableError(f"price of {name}: prices: expected a list with at least one row")
        parsed = [_row(name, f"prices[{n}]", row, version) for n, row in enumerate(raw["prices"])]
        rows = tuple(sorted(parsed, key=lambda row: row[0]))
    if not rows:
        raise PriceTableError(f"price of {name}: prices is missing")
    return PricedModel(_capabilities(name, raw, base.capabilities if base else Capabilities()), rows)


def _capabilities(name: str, raw: Mapping[str, Any], base: Capabilities) -> Capabilities:
    temperature = raw.get("temperature", base.temperature)
    if not isinstance(temperature, bool):
        raise PriceTableError(f"price of {name}: temperature: expected true or false")
    limit = raw.get("output_limit", base.output_limit)
    if limit not in get_args(OutputLimit):
        raise PriceTableError(f"price of {name}: output_limit: expected max_completion_tokens or max_tokens")
    most = raw.get("max_output", base.max_output)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise PriceTableError(f"price of {name}: max_output: expected a number of tokens such as 16384")
    effort = raw.get("reasoning_effort", base.reasoning_effort)
    if not (effort is None or isinstance(effort, str)):
        raise PriceTableError(f"price of {name}: reasoning_effort: expected a text such as none, or nothing")
    picture = raw.get("picture_tokens", base.picture_tokens)
    if picture is not None and (isinstance(picture, bool) or not isinstance(picture, int) or picture < 1):
        raise PriceTableError(f"price of {name}: picture_tokens: expected a number of tokens such as 3000")
    shutdown = raw.get("shutdown", base.shutdown)
    last_day = None if shutdown is None else _moment(name, "shutdown", shutdown).date()
    return Capabilities(temperature, cast(OutputLimit, limit), most, effort, picture, last_day)


def _row(name: str, where: str, raw: Any, version: str) -> tuple[datetime, Price]:
    if not isinstance(raw, Mapping):
        raise PriceTableError(f"price of {name}: {where}: expected from, input, cached_input, output")
    unknown = set(raw) - _ROW
    if unknown:
        raise PriceTableError(f"price of {name}: {where}: unknown field {min(unknown)!r}")

    def usd(key: str) -> Decimal:
        return _usd(name, f"{where}.{key}", raw.get(key))

    price = Price(
        model=name,
        version=version,
        input=usd("input"),
        # A provider without a discount for cached input bills it like any other.
        cached_input=usd("cached_input") if raw.get("cached_input") is not None else usd("input"),
        cache_write=usd("cache_write") if raw.get("cache_write") is not None else None,
        output=usd("output"),
    )
    if price.cached_input > price.input:
        # The worst case of a call counts all input at the dearer of input and cache write.
        raise PriceTableError(f"price of {name}: {where}.cached_input: expected at most input, {price.input}")
    return _moment(name, f"{where}.from", raw.get("from")), price


def _usd(name: str, where: str, value: Any) -> Decimal:
    if (number := price_of(value)) is None:
        raise PriceTableError(
            f"price of {name}: {where}: expected USD per 1,000,000 tokens such as 0.15, got {value!r}"
        )
    return number


def _moment(name: str, where: str, value: Any) -> datetime:
    if (moment := moment_of(value)) is None:
        raise PriceTableError(f"price of {name}: {where}: expected a date such as 2026-11-24, got {value!r}")
    return moment
