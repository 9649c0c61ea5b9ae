"""LLM_PROVIDERS: what is taken, what is named as wrong, and which provider a model's name means."""

from __future__ import annotations

import json

import pytest

from core.domain.prices import UnpricedModelError, load_prices
from core.domain.providers import OPENAI_URL, Provider, Providers
from core.domain.settings import Settings, SettingsError, required_by

BACKUP = {"name": "backup", "base_url": "https://b.example/v1", "api_key_env": "BACKUP_API_KEY"}


def read(*providers: object, **environment: str) -> Settings:
    return Settings.read({"LLM_PROVIDERS": json.dumps(providers), **environment}, ())


def test_without_any_there_is_openai_with_the_settings_that_there_always_were() -> None:
    settings = Settings.read(
        {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1", "LLM_TOKENS_PER_MINUTE": "7"}, ()
    )
    (only,) = settings.providers.all
    assert (only.name, only.base_url, only.api_key) == ("openai", "http://x/v1", "k")
    assert (only.max_concurrent, only.requests_per_minute, only.tokens_per_minute) == (15, None, 7)


def test_the_first_takes_what_it_lacks_from_the_settings_and_others_do_not() -> None:
    settings = read(
        {"name": "openai"},
        {**BACKUP, "max_concurrent": 10, "requests_per_minute": None},
        {"name": "third", "api_key_env": "THIRD"},
        OPENAI_API_KEY="k",
        BACKUP_API_KEY="b",
        CHAT_MAX_CONCURRENT="9",
        LLM_REQUESTS_PER_MINUTE="500",
    )
    first, backup, third = settings.providers.all
    assert (first.api_key, first.max_concurrent, first.requests_per_minute) == ("k", 9, 500)
    assert (backup.api_key, backup.max_concurrent, backup.requests_per_minute) == ("b", 10, None)
    assert (third.base_url, third.max_concurrent, third.api_key) == (OPENAI_URL, 9, "")
    assert "'b'" not in repr(settings)


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ([], "at least one provider"),
        ([{}], "name is missing"),
        (["openai"], "unknown field 'openai'"),
        ([{"name": "Open AI"}], "[0].name"),
        ([{"name": "a"}, {**BACKUP, "name": "a"}], "each name once"),
        ([{"name": "a"}, {"name": "b"}], "b: expected api_key_env"),
        ([{"name": "a", "base_url": "ftp://x"}], "[0].base_url"),
        ([{"name": "a", "max_concurrent": 0}], "[0].max_concurrent: expected a whole number from 1"),
        ([{"name": "a", "max_concurrent": True}], "[0].max_concurrent"),
        ([{"name": "a", "key": "sk"}], "unknown field 'key'"),
    ],
)
def test_what_is_wrong_is_named(providers: list[object], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        read(*providers)
    assert problem in str(error.value)


def test_keys_that_turn_needs_are_named_and_the_first_may_have_its_own() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.read(
            {"LLM_PROVIDERS": json.dumps([{"name": "a", "api_key_env": "A_KEY"}, BACKUP]), "A_KEY": "k"},
            required_by("turn"),
        )
    problems = [problem.split()[0] for problem in error.value.problems]
    assert "BACKUP_API_KEY" in problems
    assert not {"A_KEY", "OPENAI_API_KEY"} & set(problems)


def test_a_models_name_says_whose_it_is() -> None:
    providers = Providers((Provider(), Provider(name="backup")))
    assert providers.split("gpt-6-luna") == ("openai", "gpt-6-luna")
    assert providers.split("openai/gpt-6-luna") == ("openai", "gpt-6-luna")
    assert providers.split("backup/meta/llama") == ("backup", "meta/llama")
    assert providers.split("meta/llama") == ("openai", "meta/llama")
    assert [providers.knows(name) for name in ("x", "backup/x", "gone/x")] == [True, True, False]


def test_another_providers_model_has_its_own_price_or_that_of_its_name() -> None:
    prices, now_ms = load_prices(), 1_795_478_400_000
    assert prices.price_at("backup/gpt-6-luna", now_ms) == prices.price_at("gpt-6-luna", now_ms)
    dearer = {"prices": [{"from": "2026-01-01", "input": "9", "output": "90"}]}
    own = prices.overridden({"backup:gpt-6-luna": dearer, "backup:new": dearer})
    assert str(own.price_at("backup/gpt-6-luna", now_ms).output) == "90"
    assert own.price_at("gpt-6-luna", now_ms) == prices.price_at("gpt-6-luna", now_ms)
    assert own.capabilities("backup/gpt-6-luna") == prices.capabilities("gpt-6-luna")
    assert str(own.price_at("backup/new", now_ms).input) == "9"
    with pytest.raises(UnpricedModelError, match="ai_model_prices/backup:unknown"):
        prices.price_at("backup/unknown", now_ms)
