"""The providers of models: where each is, what it allows, and which one a model's name means.

A model is `name/model`; without a provider's name in front it is the first provider's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

DEFAULT_PROVIDER: Final = "openai"
"""The name of the only provider where LLM_PROVIDERS is not set."""
OPENAI_URL: Final = "https://api.openai.com/v1"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_URL = re.compile(r"https?://[^\s]+")
_LIMITS = ("max_concurrent", "requests_per_minute", "tokens_per_minute")
_FIELDS = ("name", "base_url", "api_key_env", *_LIMITS)
_MOST = {"max_concurrent": 100_000, "requests_per_minute": 10_000_000, "tokens_per_minute": 10_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One that speaks OpenAI's chat completions. `base_url` None: OpenAI itself. A rate of None is none.
    `api_key_env`: the variable that holds the key."""

    name: str = DEFAULT_PROVIDER
    base_url: str | None = None
    api_key_env: str | None = None
    api_key: str = field(default="", repr=False)
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Providers:
    """At least one. The first is the one whose models need no name in front."""

    all: tuple[Provider, ...] = (Provider(),)

    @property
    def first(self) -> Provider:
        return self.all[0]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(provider.name for provider in self.all)

    def split(self, model: str) -> tuple[str, str]:
        """The provider's name, and the model's name there. What stands before a slash and is no provider's
        name is part of the model's: `meta/llama` may be what the first provider calls it."""
        name, slash, rest = model.partition("/")
        return (name, rest) if slash and name in self.names else (self.first.name, model)

    def knows(self, model: str) -> bool:
        """Whether the provider that its name seems to name is there."""
        return "/" not in model or model.partition("/")[0] in self.names

    def of(self, model: str) -> str:
        """The name of the model's provider."""
        return self.split(model)[0]


def parse_providers(text: str) -> tuple[Provider, ...]:
    """LLM_PROVIDERS as it is written, without keys. Raises ValueError with what is expected."""
    try:
        entries = json.loads(text)
    except ValueError as exc:
        raise ValueError('expected JSON such as [{"name": "openai"}, {"name": "backup", …}]') from exc
    if not isinstance(entries, list) or not entries:
        raise ValueError("expected a list with at least one provider")
    found = tuple(_provider(n, entry) for n, entry in enumerate(entries))
    names = [provider.name for provider in found]
    if len(set(names)) < len(names):
        raise ValueError("expected each name once")
    nameless = [provider.name for provider in found[1:] if not provider.api_key_env]
    if nameless:
        raise ValueError(f"{nameless[0]}: expected api_key_env, the variable that holds its key")
    return found


def _provider(n: int, entry: Any) -> Provider:
    unknown = set(entry) - set(_FIELDS) if isinstance(entry, Mapping) else {str(entry)}
    if unknown:
        raise ValueError(f"[{n}]: unknown field {min(unknown)!r}: expected {', '.join(_FIELDS)}")
    name = _matching(n, entry, "name", _NAME, "small letters, digits and hyphens, such as backup")
    if name is None:
        raise ValueError(f"[{n}]: name is missing")
    return Provider(
        name=name,
        base_url=_matching(n, entry, "base_url", _URL, "an http(s) URL such as https://example.com/v1"),
        api_key_env=_matching(n, entry, "api_key_env", _VARIABLE, "a variable's name such as BACKUP_API_KEY"),
        max_concurrent=_limit(n, entry, "max_concurrent"),
        requests_per_minute=_limit(n, entry, "requests_per_minute"),
        tokens_per_minute=_limit(n, entry, "tokens_per_minute"),
    )


def _matching(n: int, entry: Mapping[str, Any], key: str, pattern: re.Pattern[str], such: str) -> str | None:
    value = entry.get(key)
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"[{n}].{key}: expected {such}")
    return value


def _limit(n: int, entry: Mapping[str, Any], key: str) -> int | None:
    value, most = entry.get(key), _MOST[key]
    whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
    if value is not None and not whole:
        raise ValueError(f"[{n}].{key}: expected a whole number from 1 to {most}")
    return value


def with_keys(providers: Sequence[Provider], environment: Mapping[str, str]) -> tuple[Provider, ...]:
    """With the keys that their variables hold."""
    return tuple(
        replace(provider, api_key=environment.get(provider.api_key_env or "", "").strip())
        for provider in providers
    )
