"""Which checks `fairlane doctor` makes, from the settings that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from core.adapters.cloudtasks_inspection import inspect_queue
from core.adapters.http_probe import get_status
from core.adapters.line_messaging import LineMessagingApi
from core.adapters.openai_models import list_models
from core.adapters.redis_connection import Redis
from core.adapters.redis_inspection import inspect_redis
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.system_clock import SystemClock
from core.bootstrap import shared
from core.bootstrap.turn import slot_options
from core.domain.providers import Provider
from core.domain.settings import Settings, SettingsError, required_by
from core.ops.session import NO_REDIS
from core.usecases.operate.examine import Check, Finding, attention, broken, examine, ok
from core.usecases.operate.examine_clinics import ExamineClinics
from core.usecases.operate.examine_platform import (
    examine_documents,
    examine_turns,
    judge_queue,
    judge_redis,
    judge_slots,
)

_MANY_S = 120.0  # for checks that ask once a clinic
_LOGIN = "`gcloud auth application-default login`; is the API enabled, the name right?"


async def examine_deployment(environment: Mapping[str, str], webhook_url: str | None) -> list[Finding]:
    """Every check that the settings in `environment` allow."""
    try:
        settings = Settings.read(environment, ())
    except SettingsError as exc:
        return [
            broken("settings", problem, "correct it; the functions do not start") for problem in exc.problems
        ]
    async with AsyncExitStack() as opened:
        found, checks = [_settings(environment)], []
        parts = (
            ("stores", "GOOGLE_CLOUD_PROJECT", _has_stores(settings), _store_checks),
            ("queue", "TASKS_QUEUE", bool(settings.tasks_queue), _queue_checks),
            ("redis", "REDIS_URL", bool(settings.redis_url), _redis_checks),
        )
        for name, needed, is_set, made in parts:
            if is_set:
                checks += made(settings, opened)
            else:
                found.append(attention(name, f"not checked: {needed} is not set here", f"set {needed}"))
        if webhook_url:
            checks.append(_webhook_check(webhook_url))
        return found + await examine(checks)


def _settings(environment: Mapping[str, str]) -> Finding:
    try:
        Settings.read(environment, required_by("webhook") | required_by("turn"))
    except SettingsError as exc:
        missing = ", ".join(problem.split()[0] for problem in exc.problems)
        remedy = "`terraform output operator_environment`; what it lacks only the functions need"
        return attention("settings", f"right, but not set here: {missing}", remedy)
    return ok("settings", "complete, as both functions read them")


def _has_stores(settings: Settings) -> bool:
    embedded = settings.document_store.startswith("sqlite:") and settings.secret_store.startswith("file:")
    return embedded or bool(settings.google_cloud_project)


def _redis_checks(settings: Settings, opened: AsyncExitStack) -> list[Check]:
    redis = shared.redis(settings, timeout_s=5.0, tries=1)
    opened.push_async_callback(redis.aclose)
    on_this_machine = _on_this_machine(settings.redis_url)

    async def server() -> Sequence[Finding]:
        return judge_redis(await inspect_redis(redis), on_this_machine=on_this_machine)

    slots = [_slots_check(redis, settings, each) for each in settings.providers.all]
    return [Check("redis", server, NO_REDIS), *slots]


def _slots_check(redis: Redis, settings: Settings, provider: Provider) -> Check:
    async def slots() -> Sequence[Finding]:
        found = judge_slots(await RedisSlotsOperator(redis, slot_options(settings, provider)).snapshot())
        if provider == settings.providers.first:
            return found
        return [replace(each, check=f"{each.check} ({provider.name})") for each in found]

    return Check("slots", slots, NO_REDIS)


def _queue_checks(settings: Settings, _: AsyncExitStack) -> list[Check]:
    async def queue() -> Sequence[Finding]:
        emulator = settings.cloud_tasks_emulator_host
        return judge_queue(await inspect_queue(settings.tasks_queue, emulator_host=emulator), settings)

    return [Check("queue", queue, _LOGIN, "roles/cloudtasks.viewer", timeout_s=30.0)]


def _store_checks(settings: Settings, opened: AsyncExitStack) -> list[Check]:
    clock, documents, secrets = SystemClock(), shared.documents(settings), shared.secrets(settings)
    line = LineMessagingApi(settings.line_api_base_url, timeout_s=10.0)
    for part in (documents, secrets, line):
        opened.push_async_callback(part.close)
    models = {
        each.name: partial(list_models, each.api_key, each.base_url)
        for each in settings.providers.all
        if each.api_key
    }
    clinics = ExamineClinics(documents, secrets, line, clock, models, settings.providers)
    reader, secret = "roles/datastore.user", "roles/secretmanager.secretAccessor"
    return [
        Check("documents", lambda: examine_documents(documents), _LOGIN, reader),
        Check("clinics", clinics.documents, _LOGIN, reader, _MANY_S),
        Check("desks", clinics.desks, _LOGIN, reader, _MANY_S),
        Check("secrets", clinics.secrets, _LOGIN, secret, _MANY_S),
        Check("line", clinics.line, "is LINE's API reachable from here?", secret, _MANY_S),
        Check("models", clinics.models, _LOGIN, reader, 60.0),
        Check("turns", lambda: examine_turns(documents, clock), _LOGIN, reader, 60.0),
    ]


def _webhook_check(url: str) -> Check:
    async def webhook() -> Sequence[Finding]:
        status = await get_status(url)
        if status == 200:
            return [ok("webhook", "answers GET with 200")]
        remedies = {
            403: "run.invoker for allUsers on the webhook service (terraform/webhook.tf)",
            404: "is it `terraform output webhook_url`?",
        }
        remedy = remedies.get(status, "read the service's log: does it start?")
        return [broken("webhook", f"answers GET with {status}", remedy)]

    return Check("webhook", webhook, "is it `terraform output webhook_url`, and public?")


def _on_this_machine(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
