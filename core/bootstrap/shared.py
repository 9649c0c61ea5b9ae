"""Clients that more than one process kind uses, made from the settings. No I/O until they are used."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.adapters.file_secrets import FileSecrets
from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.secretmanager_secrets import SecretManagerSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.settings import Settings
from core.ports.documents import DocumentStore
from core.ports.secrets import SecretStore


def documents(settings: Settings) -> DocumentStore:
    kind, _, path = settings.document_store.partition(":")
    if kind == "sqlite":
        return SqliteDocuments(path)
    return FirestoreDocuments(settings.google_cloud_project, settings.firestore_database)


def secrets(settings: Settings) -> SecretStore:
    kind, _, path = settings.secret_store.partition(":")
    return FileSecrets(path) if kind == "file" else SecretManagerSecrets(settings.google_cloud_project)


def redis(settings: Settings, *, timeout_s: float = 2.0, tries: int = 2) -> Redis:
    """`timeout_s` for connecting and for each answer; `tries` in all, so that a connection that went stale
    in the pool does no harm. Only for operations that may be repeated, as all of ours may."""
    tls: dict[str, Any] = {}
    if settings.redis_ca_cert and settings.redis_url.startswith("rediss://"):
        tls["ssl_ca_data"] = settings.redis_ca_cert
    client: Redis = Redis.from_url(
        settings.redis_url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), tries - 1),
        # Memorystore blocks some CLIENT commands; naming ourselves is not worth a round trip anyway.
        driver_info=None,
        **tls,
    )
    return client


def tasks(settings: Settings) -> CloudTasksQueue:
    return CloudTasksQueue(
        settings.tasks_queue,
        settings.turn_url,
        service_account=settings.tasks_service_account,
        emulator_host=settings.cloud_tasks_emulator_host,
    )
