"""The document store in one SQLite file: for development and for one machine, shared by its processes.

It refuses what Firestore refuses, so that nothing works here that would fail there."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from core.adapters import document_limits
from core.domain.errors import DocumentsUnavailableError, InvalidInputError
from core.ports.documents import (
    DELETE_FIELD,
    ConflictError,
    Create,
    Delete,
    Document,
    Increment,
    Key,
    Merge,
    Version,
    Where,
    Write,
)

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    data TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (collection, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (last INTEGER NOT NULL);
INSERT INTO revisions SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM revisions);
CREATE INDEX IF NOT EXISTS by_created_at
    ON documents (collection, json_extract(data, '$."created_at"."$datetime"'));
CREATE INDEX IF NOT EXISTS by_org_id
    ON documents (
        collection, json_extract(data, '$."org_id"'), json_extract(data, '$."created_at"."$datetime"')
    );
"""
_DATETIME = "$datetime"
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "array_contains": lambda a, b: isinstance(a, list) and b in a,
}


class SqliteDocuments:
    """Versions are revision numbers, one sequence a file, so that a document that was deleted and created
    again never has an old version. The connection lives in a thread of its own, opened on first use."""

    def __init__(self, path: str, *, timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-documents")

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        """See the port."""
        return await self._run(lambda db: [_read(db, key) for key in keys])

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        """See the port."""

        for write in writes:
            document_limits.check(write)

        def commit(db: sqlite3.Connection) -> list[Version]:
            db.execute("BEGIN IMMEDIATE")
            try:
                versions = [_write(db, write) for write in writes]
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            return versions

        return await self._run(commit)

    async def query(
        self,
        collection: str,
        where: Sequence[Where] = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Document]:
        """See the port. SQLite leaves out what can't be meant and puts the rest into order, so that a long
        journal is not read whole; what is left is looked at here, by Firestore's rules."""
        sql, values = _query(collection, where, order_by, descending=descending, limit=limit)

        def query(db: sqlite3.Connection) -> list[Document]:
            rows = db.execute(sql, values)
            found = [Document(Key(collection, row[0]), _decode(row[1]), row[2]) for row in rows]
            found = [document for document in found if all(_matches(document, w) for w in where)]
            found.sort(key=lambda document: document.key.id)
            if order_by:
                found = [document for document in found if order_by in document.data]
                found.sort(key=lambda document: document.data[order_by], reverse=descending)
            return found[:limit]

        return await self._run(query)

    async def close(self) -> None:
        if self._connection is not None:
            await self._run(sqlite3.Connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: work(self._connected())
            )
        except (sqlite3.Error, OSError) as exc:  # OSError: its folder can't be made
            raise DocumentsUnavailableError(f"SQLite documents at {self._path}: {exc}") from exc

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                _set_up(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _set_up(connection: sqlite3.Connection) -> None:
    """Processes that open a new file at the same moment get in each other's way: SQLite waits for locks, but
    not for the one that switching to WAL needs."""
    for last in (*[False] * 200, True):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as exc:
            if last or exc.sqlite_errorname != "SQLITE_BUSY":
                raise
            time.sleep(0.01)
        else:
            return


def _read(db: sqlite3.Connection, key: Key) -> Document | None:
    row = db.execute(
        "SELECT data, revision FROM documents WHERE collection = ? AND id = ?", (key.collection, key.id)
    ).fetchone()
    return Document(key, _decode(row[0]), row[1]) if row else None


def _write(db: sqlite3.Connection, write: Write) -> Version:
    key, before = write.key, _read(db, write.key)
    wanted = None if isinstance(write, Create) else write.if_version
    if isinstance(write, Create) and before is not None:
        raise ConflictError(f"{key.collection}/{key.id} exists")
    if wanted is not None and (before is None or before.version != wanted):
        raise ConflictError(f"{key.collection}/{key.id} has changed")
    if isinstance(write, Delete):
        db.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (key.collection, key.id))
        return None
    if isinstance(write, Merge) and write.if_exists and before is None:
        raise ConflictError(f"{key.collection}/{key.id} does not exist")
    data = _merged(before.data if before else {}, write.data)
    text = _encode(data)
    if len(text.encode()) > document_limits.MAX_DOCUMENT_BYTES:
        raise InvalidInputError(f"{key.collection}/{key.id}: too large a document")
    if before is not None and text == _encode(before.data):
        return before.version
    (revision,) = db.execute("UPDATE revisions SET last = last + 1 RETURNING last").fetchone()
    db.execute(
        "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
        (key.collection, key.id, text, revision),
    )
    return revision


def _query(
    collection: str, where: Sequence[Where], order_by: str | None, *, descending: bool, limit: int | None
) -> tuple[str, list[Any]]:
    """At least the documents that are asked for. Moments are compared as text: they are all written in UTC.
    There is a limit only where SQLite understands every condition, and the order."""
    conditions, values, whole = ["collection = ?"], [collection], True
    for condition in where:
        comparable = isinstance(condition.value, str | int | datetime) and condition.op != "array_contains"
        if comparable:
            conditions.append(f"{_field(condition.field, condition.value)} {condition.op} ?")
            value = condition.value
            values.append(value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value)
        whole = whole and comparable
    by_moment = next((w for w in where if w.field == order_by and isinstance(w.value, datetime)), None)
    by_org = any(w.field == "org_id" and w.op == "==" and isinstance(w.value, str) for w in where)
    index = " INDEXED BY by_org_id" if by_org else ""  # SQLite, without statistics, prefers the primary key
    sql = f"SELECT id, data, revision FROM documents{index} WHERE {' AND '.join(conditions)}"  # noqa: S608
    if by_moment is None:
        return sql, values
    sql += f" ORDER BY {_field(by_moment.field, by_moment.value)} {'DESC' if descending else 'ASC'}, id"
    if whole and limit is not None:
        return f"{sql} LIMIT ?", [*values, limit]
    return sql, values


def _field(name: str, value: Any) -> str:
    """SQL for a field that may hold a value of this kind; its name is nobody's but the code's."""
    if not name.isidentifier():
        raise InvalidInputError(f"SQLite documents: {name!r} is no field to ask for")
    inner = f'."{_DATETIME}"' if isinstance(value, datetime) else ""
    return f"json_extract(data, '$.\"{name}\"{inner}')"


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in changes.items():
        old = merged.get(name)
        if value is DELETE_FIELD:
            merged.pop(name, None)
        elif isinstance(value, Increment):
            merged[name] = value.amount + (old if isinstance(old, int | float) else 0)
        elif isinstance(value, Mapping) and value:
            inner = _merged(old if isinstance(old, Mapping) else {}, value)
            if inner or isinstance(old, Mapping):  # removing fields makes no map where there is none
                merged[name] = inner
        else:
            merged[name] = value
    return merged


def _matches(document: Document, where: Where) -> bool:
    value = document.data.get(where.field)
    try:
        return value is not None and _OPERATORS[where.op](value, where.value)
    except TypeError:
        return False  # as in Firestore, values of another type do not match


def _encode(data: Mapping[str, Any]) -> str:
    def special(value: Any) -> Any:
        if isinstance(value, datetime):
            return {_DATETIME: value.astimezone(UTC).isoformat()}
        raise InvalidInputError(f"a document can't hold {type(value).__name__}")

    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=special)


def _decode(text: str) -> dict[str, Any]:
    def special(value: dict[str, Any]) -> Any:
        return datetime.fromisoformat(value[_DATETIME]) if set(value) == {_DATETIME} else value

    decoded: dict[str, Any] = json.loads(text, object_hook=special)
    return decoded
