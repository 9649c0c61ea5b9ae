"""Clients that more than one process kind uses, made from the settings. No I/O until they are used."""

from __future__ import annotations

from core.adapters.cloudtasks_tasks import CloudTasksQueue
from core.adapters.file_secrets import FileSecrets
from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.redis_backlog import RedisBacklog
from core.adapters.redis_clinic_marks import RedisClinicMarks
from core.adapters.redis_connection import Redis, connect
from core.adapters.secretmanager_secrets import SecretManagerSecrets
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.settings import Settings
from core.ports.backlog import Backlog, Pace
from core.ports.clinic_marks import ClinicMarks
from core.ports.documents import DocumentStore
from core.ports.secrets import SecretStore


def documents(settings: Settings) -> DocumentStore:
    kind, _, path = settings.document_store.partition(":")
    if kind == "sqlite":
        return SqliteDocuments(path)
    return FirestoreDocuments(settings.google_cloud_project, settings.firestore_database)


def secrets(settings: Settings) -> SecretStore:
    kind, _, path = settings.secret_store.partition(":")
    if kind == "file":
        return FileSecrets(path)
    return SecretManagerSecrets(
        settings.google_cloud_project, prefix=settings.secret_prefix or "", region=settings.region
    )


def redis(settings: Settings, *, timeout_s: float = 2.0, tries: int = 2) -> Redis:
    """See core.adapters.redis_connection."""
    return connect(settings.redis_url, settings.redis_ca_cert, timeout_s=timeout_s, tries=tries)


def clinic_marks(redis: Redis) -> ClinicMarks:
    return RedisClinicMarks(redis)


def pace(settings: Settings) -> Pace:
    """Of a clinic whose turns nobody has seen yet."""
    return Pace(settings.chat_max_concurrent_per_org, 1000 * settings.llm_attempt_timeouts_s[0] / 2)


def backlog(settings: Settings, redis: Redis) -> Backlog:
    return RedisBacklog(
        redis,
        dispatches_per_s=settings.tasks_dispatches_per_s,
        pace=pace(settings),
        longest_s=settings.patience_s - settings.slot_wait_s,
    )


def tasks(settings: Settings) -> CloudTasksQueue:
    return CloudTasksQueue(
        settings.tasks_queue,
        settings.turn_url,
        service_account=settings.tasks_service_account,
        emulator_host=settings.cloud_tasks_emulator_host,
    )
