"""What every document store promises: one suite, run on Firestore's emulator and on SQLite."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.sqlite_documents import SqliteDocuments
from core.domain.errors import DocumentsUnavailableError, InvalidInputError
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Create,
    Delete,
    DocumentStore,
    Increment,
    Key,
    Merge,
    Where,
    Write,
)
from tests.support.faulty_link import FaultyLink

A, B, C = Key("orgs", "a"), Key("orgs", "b"), Key("turns", "c")


async def data(store: DocumentStore, key: Key) -> dict[str, object] | None:
    (document,) = await store.get_many([key])
    return dict(document.data) if document else None


async def test_documents_come_in_the_order_asked_for_and_none_where_there_is_none(
    documents: DocumentStore,
) -> None:
    await documents.commit([Create(A, {"n": 1}), Create(C, {"n": 3})])
    found = await documents.get_many([C, B, A])
    assert [document and document.data["n"] for document in found] == [3, None, 1]
    assert await documents.get_many([]) == []


async def test_a_document_is_created_once(documents: DocumentStore) -> None:
    await documents.commit([Create(A, {"n": 1})])
    with pytest.raises(ConflictError):
        await documents.commit([Create(A, {"n": 2})])
    assert await data(documents, A) == {"n": 1}


async def test_a_merge_goes_field_by_field_also_under_names_with_dots(documents: DocumentStore) -> None:
    await documents.commit(
        [Merge(A, {"by_model": {"gpt-6.1": {"in": 1, "out": 2}}, "name": "ก", "tags": [1]})]
    )
    await documents.commit([Merge(A, {"by_model": {"gpt-6.1": {"out": 5}, "o": {"in": 9}}, "tags": [2]})])
    assert await data(documents, A) == {
        "by_model": {"gpt-6.1": {"in": 1, "out": 5}, "o": {"in": 9}},
        "name": "ก",
        "tags": [2],
    }


async def test_a_conditional_merge_goes_field_by_field_too(documents: DocumentStore) -> None:
    (version,) = await documents.commit([Create(A, {"holds": {"t.1": {"x": 1}, "t2": {"x": 2}}, "n": 1})])
    change = {"holds": {"t.1": DELETE_FIELD, "t 3": {"x": 3}}, "n": Increment(4), "m": {}}
    await documents.commit([Merge(A, change, if_version=version)])
    assert await data(documents, A) == {"holds": {"t2": {"x": 2}, "t 3": {"x": 3}}, "n": 5, "m": {}}


async def test_increments_start_at_nothing_and_nest(documents: DocumentStore) -> None:
    await documents.commit([Create(A, {"n": Increment(2), "deep": {"er": {"n": Increment(-3)}}})])
    await documents.commit([Merge(A, {"n": Increment(1), "deep": {"er": {"n": Increment(10)}}})])
    await documents.commit([Merge(B, {"n": Increment(7)})])
    assert await data(documents, A) == {"n": 3, "deep": {"er": {"n": 7}}}
    assert await data(documents, B) == {"n": 7}


async def test_a_field_is_removed_with_and_without_a_condition(documents: DocumentStore) -> None:
    await documents.commit([Create(A, {"x": 1, "y": 2, "z": 3})])
    (version,) = await documents.commit([Merge(A, {"x": DELETE_FIELD, "none": DELETE_FIELD})])
    await documents.commit([Merge(A, {"y": DELETE_FIELD}, if_version=version)])
    assert await data(documents, A) == {"z": 3}


async def test_a_version_is_good_until_the_next_write(documents: DocumentStore) -> None:
    (first,) = await documents.commit([Create(A, {"n": 1})])
    (read,) = await documents.get_many([A])
    assert read is not None
    assert read.version == first
    (second,) = await documents.commit([Merge(A, {"n": 2}, if_version=first)])
    with pytest.raises(ConflictError):
        await documents.commit([Merge(A, {"n": 3}, if_version=first)])
    with pytest.raises(ConflictError):
        await documents.commit([Delete(A, if_version=first)])
    await documents.commit([Delete(A, if_version=second)])
    assert await data(documents, A) is None


async def test_a_deleted_document_does_not_come_back_under_an_old_version(documents: DocumentStore) -> None:
    (version,) = await documents.commit([Create(A, {"n": 1})])
    await documents.commit([Delete(A)])
    with pytest.raises(ConflictError):
        await documents.commit([Merge(A, {"n": 2}, if_version=version)])
    await documents.commit([Create(A, {"n": 1})])
    with pytest.raises(ConflictError):
        await documents.commit([Merge(A, {"n": 2}, if_version=version)])


async def test_what_must_exist_must_exist(documents: DocumentStore) -> None:
    with pytest.raises(ConflictError):
        await documents.commit([Merge(A, {"n": 1}, if_exists=True)])
    await documents.commit([Create(A, {"n": 1})])
    await documents.commit([Merge(A, {"n": Increment(1)}, if_exists=True)])
    assert await data(documents, A) == {"n": 2}
    await documents.commit([Delete(B)])


async def test_maps_that_are_empty_or_emptied(documents: DocumentStore) -> None:
    await documents.commit([Create(A, {"full": {"x": 1}, "emptied": {"x": 1}, "flag": 1})])
    nothing = {"full": {}, "emptied": {"x": DELETE_FIELD}, "none": {"x": DELETE_FIELD}, "new": {}}
    await documents.commit([Merge(A, {**nothing, "flag": True})])
    found = await data(documents, A)
    assert found == {"full": {}, "emptied": {}, "new": {}, "flag": True}
    assert found["flag"] is True


async def test_any_text_can_be_the_name_of_a_field(documents: DocumentStore) -> None:
    names = ["gpt-6.1", "`", "a b", "ก", "🙏", "1", "*", "~/[]"]
    (version,) = await documents.commit([Merge(A, {name: {name: 1} for name in names})])
    await documents.commit([Merge(A, {name: {name: Increment(1)} for name in names}, if_version=version)])
    assert await data(documents, A) == {name: {name: 2} for name in names}


@pytest.mark.parametrize(
    "failing",
    [
        [Merge(B, {"n": 1}), Create(A, {})],
        [Delete(A), Merge(B, {"n": 1}, if_exists=True)],
    ],
)
async def test_a_commit_is_all_or_nothing(documents: DocumentStore, failing: Sequence[Write]) -> None:
    await documents.commit([Create(A, {"n": 0})])
    with pytest.raises(ConflictError):
        await documents.commit(failing)
    assert await data(documents, A) == {"n": 0}
    assert await data(documents, B) is None


async def test_values_come_back_as_they_were(documents: DocumentStore) -> None:
    value: dict[str, Any] = {
        "none": None,
        "flag": True,
        "whole": 2**53,
        "part": 0.25,
        "text": "สวัสดีค่ะ 🙏",
        "when": datetime(2026, 11, 24, 3, 4, 5, 678000, tzinfo=UTC),
        "list": [1, {"x": [2]}, "z"],
        "map": {},
    }
    await documents.commit([Create(A, value)])
    assert await data(documents, A) == value


async def test_queries_filter_order_and_limit(documents: DocumentStore) -> None:
    for i in range(5):
        await documents.commit([Create(Key("turns", f"t{i}"), {"state": "ab"[i % 2], "at": 10 - i})])
    await documents.commit([Create(Key("turns", "none"), {"state": "a"}), Create(A, {"state": "a", "at": 1})])

    async def ids(*where: Where, **options: object) -> list[str]:
        found = await documents.query("turns", where, **options)  # type: ignore[arg-type]
        return [document.key.id for document in found]

    assert await ids(Where("state", "==", "a")) == ["none", "t0", "t2", "t4"]
    assert await ids(order_by="at") == ["t4", "t3", "t2", "t1", "t0"]
    assert await ids(order_by="at", descending=True, limit=2) == ["t0", "t1"]
    assert await ids(Where("at", ">=", 7), Where("at", "<", 9), order_by="at") == ["t3", "t2"]
    assert await ids(Where("at", ">", 9)) == ["t0"]
    assert await ids(Where("at", "<=", 6)) == ["t4"]


async def test_a_list_is_searched_for_what_it_contains(documents: DocumentStore) -> None:
    lists: dict[str, object] = {"both": ["a", "b"], "one": ["b"], "none": [], "text": "ab", "map": {"a": 1}}
    await documents.commit([Create(Key("turns", name), {"user_ids": value}) for name, value in lists.items()])
    await documents.commit([Create(Key("turns", "absent"), {})])
    for value, expected in (("a", ["both"]), ("b", ["both", "one"]), ("c", [])):
        found = await documents.query("turns", [Where("user_ids", "array_contains", value)])
        assert [document.key.id for document in found] == expected


async def test_a_contended_counter_loses_nothing(documents: DocumentStore) -> None:
    await documents.commit([Create(A, {"n": 0})])

    async def add() -> None:
        while True:
            (document,) = await documents.get_many([A])
            assert document is not None
            try:
                await documents.commit([Merge(A, {"n": document.data["n"] + 1}, if_version=document.version)])
            except ConflictError:
                await asyncio.sleep(0.001)
                continue
            return

    await asyncio.gather(
        *(add() for _ in range(8)), *(documents.commit([Merge(A, {"m": Increment(1)})]) for _ in range(8))
    )
    assert await data(documents, A) == {"n": 8, "m": 8}


async def test_two_openings_of_one_file_see_each_other(tmp_path: Path) -> None:
    one, two = (SqliteDocuments(str(tmp_path / "d.db")) for _ in range(2))
    await asyncio.gather(*(store.commit([Merge(A, {"n": Increment(1)})]) for store in (one, two) * 20))
    assert await data(one, A) == await data(two, A) == {"n": 40}
    await one.close()
    await two.close()


async def test_many_that_open_a_new_file_at_once_do_not_lock_each_other_out(tmp_path: Path) -> None:
    for i in range(20):
        stores = [SqliteDocuments(str(tmp_path / f"{i}.db")) for _ in range(8)]
        await asyncio.gather(*(store.commit([Merge(A, {"n": Increment(1)})]) for store in stores))
        assert await data(stores[0], A) == {"n": 8}
        for store in stores:
            await store.close()


_ADD = """
import asyncio, sys
from core.adapters.sqlite_documents import SqliteDocuments
from core.ports.documents import ConflictError, Create, Increment, Key, Merge

async def main():
    store, key = SqliteDocuments(sys.argv[1]), Key("orgs", "a")
    for _ in range(25):
        while True:
            (found,) = await store.get_many([key])
            counted = {"n": found.data["n"] + 1 if found else 1, "m": Increment(1)}
            write = Merge(key, counted, if_version=found.version) if found else Create(key, counted)
            try:
                await store.commit([write])
            except ConflictError:
                continue
            break
    await store.close()

asyncio.run(main())
"""


async def test_processes_that_start_at_once_share_a_file_and_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "d.db")
    adding = [await asyncio.create_subprocess_exec(sys.executable, "-c", _ADD, path) for _ in range(3)]
    assert [await process.wait() for process in adding] == [0, 0, 0]
    store = SqliteDocuments(path)
    assert await data(store, A) == {"n": 75, "m": 75}
    await store.close()


@pytest.fixture
async def link(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyLink]:
    link = FaultyLink(firestore_emulator)
    await link.start()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", link.address)
    yield link
    await link.stop()


async def test_a_first_connection_that_fails_is_made_again(link: FaultyLink, project: str) -> None:
    link.refusals = 1
    store = FirestoreDocuments(project)
    await store.commit([Create(A, {"n": 1})])
    assert link.connections == 2
    assert await data(store, A) == {"n": 1}
    await store.close()


async def test_a_read_outlives_its_connection(link: FaultyLink, project: str) -> None:
    store = FirestoreDocuments(project)
    await store.commit([Create(A, {"n": 1})])
    link.loses_answers = True
    reading = asyncio.create_task(data(store, A))
    await link.lost.wait()
    link.loses_answers = False
    assert await reading == {"n": 1}
    await store.close()


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(link: FaultyLink, project: str) -> None:
    store = FirestoreDocuments(project)
    await store.commit([Create(A, {"n": 1})])
    link.loses_answers = True
    with pytest.raises(DocumentsUnavailableError):
        await store.commit([Merge(A, {"n": Increment(1)})])
    link.loses_answers = False
    assert await data(store, A) in ({"n": 1}, {"n": 2})  # lost or kept, as the moment had it: once at most
    await store.close()


class Refusing:
    """Firestore's server, which answers everything with `status`."""

    def __init__(self, status: str) -> None:
        self.status = grpc.StatusCode[status]
        self.commits = 0

    async def _refuse(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await context.abort(self.status, "The database (default) does not exist")

    async def _commit(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        self.commits += 1
        await self._refuse(request, context)

    async def __aenter__(self) -> Refusing:
        streams = {
            name: grpc.unary_stream_rpc_method_handler(self._refuse)
            for name in ("BatchGetDocuments", "RunQuery")
        }
        handlers = {**streams, "Commit": grpc.unary_unary_rpc_method_handler(self._commit)}
        self._server = grpc.aio.server()
        service = grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers)
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)


@pytest.mark.parametrize("status", ["NOT_FOUND", "FAILED_PRECONDITION", "ABORTED"])
async def test_a_read_that_is_refused_is_an_outage_and_no_conflict(
    monkeypatch: pytest.MonkeyPatch, project: str, status: str
) -> None:
    async with Refusing(status) as server:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
        store = FirestoreDocuments(project)
        for read in (store.get_many([A]), store.query("orgs")):
            with pytest.raises(DocumentsUnavailableError, match=r"database \(default\) does not exist"):
                await read
        await store.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, ConflictError) for status in ("ALREADY_EXISTS", "FAILED_PRECONDITION", "NOT_FOUND")),
        ("ABORTED", ConflictError),
        *(
            (status, DocumentsUnavailableError)
            for status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
        ),
        *((status, DocumentsUnavailableError) for status in ("INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED")),
        *((status, DocumentsUnavailableError) for status in ("PERMISSION_DENIED", "UNAUTHENTICATED")),
        ("INVALID_ARGUMENT", InvalidInputError),
    ],
)
async def test_each_answer_to_a_commit_has_its_meaning_and_none_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, project: str, status: str, error: type[Exception]
) -> None:
    async with Refusing(status) as server:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.address)
        store = FirestoreDocuments(project)
        with pytest.raises(error):
            await store.commit([Create(A, {})])
        assert server.commits == 1
        await store.close()


def nested(maps: int) -> dict[str, object]:
    data: dict[str, object] = {"x": 1}
    for _ in range(maps):
        data = {"m": data}
    return data


def named(doc_id: str) -> Write:
    return Create(Key("orgs", doc_id), {"n": 1})


REFUSED: dict[str, Write] = {
    "an update with nothing": Merge(A, {}, if_exists=True),
    "a list in a list": Merge(A, {"list": [[1]]}),
    "a list in a list, deeper": Merge(A, {"list": [{"x": [1, [2]]}]}),
    "too large": Merge(A, {"text": "x" * 1_048_600}),
    "a field without a name": Merge(A, {"": 1}),
    "a field without a name, deeper": Merge(A, {"map": {"": 1}}, if_exists=True),
    "a field with a reserved name": Merge(A, {"__x__": 1}),
    "a field with a reserved name, deeper": Merge(A, {"map": {"__x__": 1}}, if_exists=True),
    "a field with a long name": Merge(A, {"x" * 1_501: 1}),
    "a field with a number for a name": Merge(A, {"map": {1: 2}}),
    "maps nested too deeply": Create(B, nested(21)),
    "a number beyond 64 bits": Merge(A, {"n": 2**63}),
    "half a surrogate pair": Merge(A, {"text": "\ud800"}),
    "a document without an id": named(""),
    "an id of a dot": named("."),
    "an id of two dots": named(".."),
    "an id with a slash": named("a/b"),
    "a reserved id": named("__a__"),
    "a long id": named("x" * 1_501),
    "fields to remove of a new document": Create(B, {"x": DELETE_FIELD}),
    "an increment in a list": Merge(A, {"list": [Increment(1)]}),
    "a removal in a list": Merge(A, {"list": [DELETE_FIELD]}),
    "what is no value": Merge(A, {"x": object()}),
}


@pytest.mark.parametrize(
    "write",
    [Create(B, {}), Merge(B, {}), Create(B, nested(20)), Merge(B, {"list": [{"x": [1]}], "n": 2**63 - 1})],
)
async def test_what_a_document_may_just_hold_is_taken(documents: DocumentStore, write: Write) -> None:
    await documents.commit([write])
    assert await data(documents, B) is not None


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
async def test_what_a_store_can_never_take_is_not_called_an_outage(
    documents: DocumentStore, write: Write
) -> None:
    (version,) = await documents.commit([Create(A, {"n": 1})])
    if isinstance(write, Merge):
        write = replace(write, if_version=version, if_exists=False)
    with pytest.raises(InvalidInputError):
        await documents.commit([Create(C, {"n": 2}), write])
    assert [await data(documents, key) for key in (A, B, C)] == [{"n": 1}, None, None]


async def test_a_store_that_does_not_answer_is_unavailable_in_time(
    monkeypatch: pytest.MonkeyPatch, project: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        firestore = FirestoreDocuments(project, timeout_s=0.5)
        began = asyncio.get_running_loop().time()
        with pytest.raises(DocumentsUnavailableError):
            await firestore.get_many([A])
        with pytest.raises(DocumentsUnavailableError):
            await firestore.commit([Create(A, {})])
        assert asyncio.get_running_loop().time() - began < 2
        await firestore.close()

    (tmp_path / "file").write_text("not a database, but long enough to be taken for one" * 100)
    sqlite = SqliteDocuments(str(tmp_path / "file"))
    with pytest.raises(DocumentsUnavailableError):
        await sqlite.get_many([A])
    await sqlite.close()


async def test_a_file_whose_folder_can_not_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sqlite = SqliteDocuments(str(tmp_path / "file" / "documents.db"))
    with pytest.raises(DocumentsUnavailableError, match=r"file/documents\.db"):
        await sqlite.get_many([A])
    await sqlite.close()
