"""Fixtures for real parts: a Redis server, Google's Firestore emulator, both document stores, a clock."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop
from hypothesis import settings

from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.settings import VARIABLES
from core.local.firestore_emulator import FirestoreEmulator
from core.local.processes import Guard
from core.local.redis_server import RedisServer
from core.ports.documents import DocumentStore
from tests.support.clock import FakeClock

# How long an example takes says how busy the machine is, not whether the rule holds.
settings.register_profile("fairlane", deadline=None)
settings.load_profile("fairlane")

pytest_plugins = ("tests.support.fault_table", "tests.support.described", "tests.support.chromium")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the functions are served with."""
    return {"uvloop": uvloop.new_event_loop}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Whole-session parts start in a loop of their own, whether or not a test's loop runs."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session", autouse=True)
def _no_deployment() -> None:
    """An operator's shell has a deployment's settings, which no test is about."""
    for variable in VARIABLES:
        os.environ.pop(variable.name, None)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server a test process; tests that break a server start their own."""
    server = RedisServer()
    run(server.start())
    yield server
    run(server.stop())


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis, without scripts."""
    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture(scope="session")
def _emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Without gcloud the emulator can't be had; with it, a failure to start is a failure.
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not here: SQLite stands for the document store")
    guard = Guard()
    emulator = FirestoreEmulator(guard=guard, folder=tmp_path_factory.mktemp("firestore"))
    run(emulator.start())
    yield emulator.address
    run(emulator.stop())
    guard.close()


@pytest.fixture
def firestore_emulator(_emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its `host:port`; the client finds it by the environment."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", _emulator)
    return _emulator


@pytest.fixture
def project() -> str:
    """A project that no other test uses: the emulator keeps projects apart."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["firestore", "sqlite"])
async def documents(
    request: pytest.FixtureRequest, tmp_path: Path, project: str
) -> AsyncIterator[DocumentStore]:
    """An empty document store, of each kind."""
    store: DocumentStore
    if request.param == "firestore":
        request.getfixturevalue("firestore_emulator")
        store = FirestoreDocuments(project, timeout_s=20.0)  # Java on a busy machine
    else:
        store = SqliteDocuments(str(tmp_path / "documents.db"))
    yield store
    await store.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
