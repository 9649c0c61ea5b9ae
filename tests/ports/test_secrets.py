"""What every secret store promises: one suite, on a file and on Secret Manager's API; then what is theirs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.cloud.secretmanager_v1 import SecretManagerServiceAsyncClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcAsyncIOTransport,
)

from core.adapters.file_secrets import FileSecrets
from core.adapters.secretmanager_secrets import SecretManagerSecrets
from core.domain.errors import InvalidInputError, SecretsUnavailableError
from core.domain.settings import Settings
from core.ports.secrets import SecretStore
from tests.support.secretmanager_server import SecretManagerServer

NAME, VALUE = "line-bkk-smile", {"channel_id": "1650000001", "channel_secret": "กขค-secret"}


@pytest.fixture
async def server() -> AsyncIterator[SecretManagerServer]:
    server = SecretManagerServer()
    await server.start()
    yield server
    await server.stop()


def manager(
    address: str, *, prefix: str = "", region: str = "", timeout_s: float = 5.0
) -> SecretManagerSecrets:
    channel = grpc.aio.insecure_channel(address)
    transport = SecretManagerServiceGrpcAsyncIOTransport(channel=channel)
    client = SecretManagerServiceAsyncClient(transport=transport)
    return SecretManagerSecrets("p", prefix=prefix, region=region, client=client, timeout_s=timeout_s)


@pytest.fixture(params=["file", "secretmanager"])
async def secrets(
    request: pytest.FixtureRequest, tmp_path: Path, server: SecretManagerServer
) -> AsyncIterator[SecretStore]:
    store: SecretStore
    if request.param == "file":
        store = FileSecrets(str(tmp_path / "new folder" / "secrets.json"))
    else:
        store = manager(server.address)
    yield store
    await store.close()


async def test_a_secret_that_is_not_there_is_none(secrets: SecretStore) -> None:
    assert await secrets.get(NAME) is None


async def test_what_was_put_is_read_and_the_newest_counts(secrets: SecretStore) -> None:
    await secrets.put(NAME, VALUE)
    assert await secrets.get(NAME) == VALUE
    await secrets.put(NAME, {**VALUE, "channel_secret": "new"})
    assert await secrets.get(NAME) == {**VALUE, "channel_secret": "new"}
    assert await secrets.get("line-other") is None


async def test_a_deleted_secret_is_gone_and_can_be_put_again(secrets: SecretStore) -> None:
    assert await secrets.delete(NAME) is False
    await secrets.put("line-other", VALUE)
    for _ in range(2):
        await secrets.put(NAME, VALUE)
        assert await secrets.delete(NAME) is True
        assert await secrets.get(NAME) is None
    assert await secrets.delete(NAME) is False
    assert await secrets.get("line-other") == VALUE


async def test_many_secrets_put_at_once_are_all_kept(secrets: SecretStore) -> None:
    await asyncio.gather(*(secrets.put(f"line-{n}", {"n": str(n)}) for n in range(20)))
    assert [await secrets.get(f"line-{n}") for n in range(20)] == [{"n": str(n)} for n in range(20)]


async def test_the_file_is_for_its_owner_only_and_the_same_value_does_not_touch_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    store = FileSecrets(str(path))
    await store.put(NAME, VALUE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {NAME: VALUE}
    before = path.stat().st_ino
    await store.put(NAME, VALUE)
    assert path.stat().st_ino == before
    assert os.listdir(tmp_path) == ["secrets.json"]  # noqa: PTH208


@pytest.mark.parametrize("operation", ["get", "put"])
async def test_a_file_that_others_may_read_is_closed_to_them_though_nothing_in_it_changes(
    tmp_path: Path, operation: str
) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({NAME: VALUE}))
    store = FileSecrets(str(path))
    assert await store.get(NAME) == VALUE
    path.chmod(0o644)
    await (store.get(NAME) if operation == "get" else store.put(NAME, VALUE))
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_secret_put_by_another_process_is_seen_by_the_next_read(tmp_path: Path) -> None:
    path = str(tmp_path / "secrets.json")
    reader = FileSecrets(path)
    assert await reader.get(NAME) is None
    await FileSecrets(path).put(NAME, VALUE)
    assert await reader.get(NAME) == VALUE


WRITER = """
import asyncio, sys
from core.adapters.file_secrets import FileSecrets
async def main():
    store = FileSecrets(sys.argv[1])
    for n in range(40):
        await store.put(f"line-{sys.argv[2]}-{n}", {"n": str(n)})
asyncio.run(main())
"""


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in "ab"]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len(json.loads(path.read_text())) == 80


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
async def test_a_file_that_is_no_secrets_file_is_named_and_not_overwritten(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "secrets.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    store = FileSecrets(str(path))
    for call in (store.get(NAME), store.put(NAME, VALUE)):
        with pytest.raises(SecretsUnavailableError, match=r"secrets\.json"):
            await call
    assert path.read_bytes() == content.encode("utf-8", "surrogateescape")


async def test_the_same_value_adds_no_version(server: SecretManagerServer) -> None:
    store = manager(server.address)
    await store.put(NAME, VALUE)
    await store.put(NAME, dict(reversed(VALUE.items())))
    assert len(server.secrets[f"projects/p/secrets/{NAME}"]) == 1
    assert server.created[0].labels == {"managed-by": "fairlane"}
    await store.close()


async def test_deployments_that_share_a_project_have_secrets_of_their_own(
    server: SecretManagerServer,
) -> None:
    production, staging = manager(server.address), manager(server.address, prefix="staging-")
    await production.put(NAME, VALUE)
    assert await staging.get(NAME) is None
    await staging.put(NAME, {"channel_id": "2"})
    assert set(server.secrets) == {f"projects/p/secrets/{NAME}", f"projects/p/secrets/staging-{NAME}"}
    assert await staging.delete(NAME) is True
    assert (await staging.get(NAME), await production.get(NAME)) == (None, VALUE)
    for store in (production, staging):
        await store.close()


async def test_reading_needs_the_accessor_alone(server: SecretManagerServer) -> None:
    store = manager(server.address)
    await store.put(NAME, VALUE)
    server.called.clear()
    server.denied = {"CreateSecret", "AddSecretVersion"}
    assert await store.get(NAME) == VALUE
    assert server.called == ["AccessSecretVersion"]
    with pytest.raises(SecretsUnavailableError, match="roles/secretmanager"):
        await store.put(NAME, {"channel_id": "1"})
    server.denied = {"DeleteSecret"}
    with pytest.raises(SecretsUnavailableError, match="roles/secretmanager"):
        await store.delete(NAME)
    await store.close()


async def test_a_secret_manager_that_does_not_answer_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = manager(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        with pytest.raises(SecretsUnavailableError):
            await asyncio.wait_for(store.get(NAME), 3)
        await store.close()


@pytest.mark.parametrize("value", [b"hunter2", b'["hunter2"]', b"\xffhunter2"])
async def test_a_value_that_is_none_of_ours_is_named_not_shown_and_can_be_replaced(
    server: SecretManagerServer, value: bytes
) -> None:
    server.secrets[f"projects/p/secrets/{NAME}"] = [value]
    store = manager(server.address)
    with pytest.raises(InvalidInputError, match=NAME) as error:
        await store.get(NAME)
    assert "hunter2" not in "".join(traceback.format_exception(error.value))
    await store.put(NAME, VALUE)
    assert await store.get(NAME) == VALUE
    await store.close()


async def test_fields_that_are_no_text_are_read_as_text(tmp_path: Path, server: SecretManagerServer) -> None:
    """A file or a version that somebody wrote by hand."""
    by_hand = {"channel_id": 1650000001, "channel_secret": 12}
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({NAME: by_hand}))
    server.secrets[f"projects/p/secrets/{NAME}"] = [json.dumps(by_hand).encode()]
    for store in (FileSecrets(str(path)), manager(server.address)):
        assert await store.get(NAME) == {"channel_id": "1650000001", "channel_secret": "12"}
        await store.close()


async def test_a_disabled_version_is_told_from_an_outage_and_can_be_replaced(
    server: SecretManagerServer,
) -> None:
    store = manager(server.address)
    await store.put(NAME, VALUE)
    server.disabled = True
    with pytest.raises(InvalidInputError, match=f"{NAME}.*disabled"):
        await store.get(NAME)
    await store.put(NAME, {**VALUE, "channel_id": "2"})
    assert await store.get(NAME) == {**VALUE, "channel_id": "2"}
    await store.close()


async def test_an_entry_of_the_file_that_is_none_of_ours_is_named_and_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({NAME: "hunter2", "other": {"a": "1"}}))
    store = FileSecrets(str(path))
    with pytest.raises(InvalidInputError, match=NAME) as error:
        await store.get(NAME)
    assert "hunter2" not in str(error.value)
    await store.put(NAME, VALUE)
    assert (await store.get(NAME), await store.get("other")) == (VALUE, {"a": "1"})


@pytest.mark.parametrize(
    ("queue", "kept_in"), [("projects/p/locations/asia-southeast1/queues/q", ["asia-southeast1"]), ("", [])]
)
async def test_new_secrets_are_kept_in_the_deployments_region_if_that_is_known(
    server: SecretManagerServer, queue: str, kept_in: list[str]
) -> None:
    store = manager(server.address, region=Settings.read({"TASKS_QUEUE": queue}, ()).region)
    await store.put(NAME, VALUE)
    await store.close()
    replication = server.created[0].replication
    assert [replica.location for replica in replication.user_managed.replicas] == kept_in
    assert replication.WhichOneof("replication") == ("user_managed" if kept_in else "automatic")
