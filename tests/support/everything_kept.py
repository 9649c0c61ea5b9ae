"""All that stands in the stores, as text: for looking whether something was left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis.asyncio
from google.cloud import firestore

from core.adapters.firestore_documents import FirestoreDocuments
from core.adapters.sqlite_documents import SqliteDocuments
from core.ports.documents import DocumentStore


async def redis_text(url: str) -> str:
    """Every key with its value, whatever its type."""
    readers = {b"string": "GET", b"hash": "HGETALL", b"list": "LRANGE", b"set": "SMEMBERS", b"zset": "ZRANGE"}
    lines = []
    async with redis.asyncio.Redis.from_url(url) as client:
        async for key in client.scan_iter():
            kind: Any = await client.type(key)
            if kind == b"none":  # it has run out meanwhile
                continue
            bounds = ["0", "-1"] if kind in {b"list", b"zset"} else []
            value: Any = await client.execute_command(readers[kind], key, *bounds)
            parts = value if isinstance(value, list | set | tuple) else [value]
            if isinstance(value, dict):
                parts = [part for item in value.items() for part in item]
            lines.append(b" ".join([key, *parts]).decode(errors="replace"))
    return "\n".join(lines)


async def documents_text(documents: DocumentStore) -> str:
    """Every document of every collection."""
    if isinstance(documents, FirestoreDocuments):
        client = firestore.AsyncClient(project=documents._project)
        lines = []
        async for collection in client.collections():
            lines += [f"{d.reference.path} {d.to_dict()}" async for d in collection.stream()]
        client.close()
        return "\n".join(lines)
    assert isinstance(documents, SqliteDocuments)
    rows = await documents._run(
        lambda db: db.execute("SELECT collection, id, data FROM documents").fetchall()
    )
    return "\n".join(" ".join(row) for row in rows)


def files_text(folder: Path) -> str:
    """Log files."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))
