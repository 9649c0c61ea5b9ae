"""What a turn is measured against: the same framework and round trips, through the vendors' clients as their
pages show them, and no logic.

One Redis script at each of four places, one read of four documents, three commits, the model's call, LINE's
reply. BARE_REQUEST names a file with a call that `turn` made, so that both send the model the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import functions_framework.aio
import httpx2
import openai
import redis.asyncio
from google.cloud import firestore
from starlette.requests import Request
from starlette.responses import Response

_SCRIPT = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000) return redis.call('GET', KEYS[1])"
_WORST, _COST = 90_000, 40_000


class Store(Protocol):
    async def read(self, turn_id: str, org_id: str, user_id: str) -> list[Any]: ...
    async def hold(self, turn_id: str, org_id: str, text: str) -> None: ...
    async def settle(self, turn_id: str, org_id: str, reply: str) -> None: ...
    async def delivered(self, turn_id: str) -> None: ...


class Firestore:
    """https://cloud.google.com/python/docs/reference/firestore/latest"""

    def __init__(self) -> None:
        self.db = firestore.AsyncClient(project=os.environ["GOOGLE_CLOUD_PROJECT"])

    async def read(self, turn_id: str, org_id: str, user_id: str) -> list[Any]:
        names = (f"turn_events/{turn_id}", f"turns/{turn_id}", f"org_ai_spend/{org_id}", f"memory/{user_id}")
        documents = self.db.get_all([self.db.document(name) for name in names])
        return [document.to_dict() async for document in documents]

    async def hold(self, turn_id: str, org_id: str, text: str) -> None:
        batch, day = self.db.batch(), {"held": firestore.Increment(_WORST)}
        batch.create(self.db.document(f"turn_events/{turn_id}"), {"turn_id": turn_id, "org_id": org_id})
        turn = {"org_id": org_id, "text": text, "state": "reserved", "held": _WORST}
        batch.create(self.db.document(f"turns/{turn_id}"), turn)
        batch.set(self.db.document(f"org_ai_spend/{org_id}"), day, merge=True)
        await batch.commit()

    async def settle(self, turn_id: str, org_id: str, reply: str) -> None:
        batch = self.db.batch()
        day = {"held": firestore.Increment(-_WORST), "spent": firestore.Increment(_COST)}
        turn = {"reply": reply, "state": "answered", "cost": _COST}
        batch.update(self.db.document(f"turns/{turn_id}"), turn)
        batch.set(self.db.document(f"org_ai_spend/{org_id}"), day, merge=True)
        await batch.commit()

    async def delivered(self, turn_id: str) -> None:
        batch = self.db.batch()
        batch.update(self.db.document(f"turns/{turn_id}"), {"state": "delivered"})
        await batch.commit()


class Sqlite:
    """One connection, and its calls in a thread, as asyncio's pages show it for what blocks."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS bare (name TEXT PRIMARY KEY, data TEXT) WITHOUT ROWID")

    async def read(self, turn_id: str, org_id: str, user_id: str) -> list[Any]:
        names = (f"event/{turn_id}", f"turn/{turn_id}", f"day/{org_id}", f"memory/{user_id}")
        return await asyncio.to_thread(lambda: [self._read(name) for name in names])

    async def hold(self, turn_id: str, org_id: str, text: str) -> None:
        turn = {"org_id": org_id, "text": text, "state": "reserved", "held": _WORST}
        new: dict[str, dict[str, Any]] = {f"event/{turn_id}": {"turn_id": turn_id}, f"turn/{turn_id}": turn}
        await asyncio.to_thread(self._commit, new, f"day/{org_id}", _WORST)

    async def settle(self, turn_id: str, org_id: str, reply: str) -> None:
        turn = {"reply": reply, "state": "answered", "cost": _COST}
        await asyncio.to_thread(self._commit, {f"turn/{turn_id}": turn}, f"day/{org_id}", -_WORST)

    async def delivered(self, turn_id: str) -> None:
        await asyncio.to_thread(self._commit, {f"turn/{turn_id}": {"state": "delivered"}})

    def _read(self, name: str) -> dict[str, Any]:
        row = self.db.execute("SELECT data FROM bare WHERE name = ?", (name,)).fetchone()
        return dict(json.loads(row[0])) if row else {}

    def _commit(self, changes: Mapping[str, Mapping[str, Any]], day: str = "", held: int = 0) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        merged = {name: {**self._read(name), **change} for name, change in changes.items()}
        if day:
            merged[day] = {"held": self._read(day).get("held", 0) + held}
        for name, data in merged.items():
            text = json.dumps(data, ensure_ascii=False)
            self.db.execute("INSERT OR REPLACE INTO bare VALUES (?, ?)", (name, text))
        self.db.execute("COMMIT")


class Clients:
    def __init__(self) -> None:
        kind, _, path = os.environ["DOCUMENT_STORE"].partition(":")
        self.store: Store = Sqlite(f"{path}.bare") if kind == "sqlite" else Firestore()
        self.script = redis.asyncio.from_url(os.environ["REDIS_URL"]).register_script(_SCRIPT)
        self.openai = openai.AsyncOpenAI()
        headers = {"Authorization": f"Bearer {os.environ['BARE_LINE_TOKEN']}"}
        self.line = httpx2.AsyncClient(base_url=os.environ["LINE_API_BASE_URL"], headers=headers)
        self.request: dict[str, Any] = json.loads(Path(os.environ["BARE_REQUEST"]).read_text())


clients = cache(Clients)


@functions_framework.aio.http
async def bare(request: Request) -> Response:
    if request.method == "GET":
        return Response(status_code=200)
    own, event = clients(), (await request.json())["event"]
    turn_id, org_id, user_id, text = (event[name] for name in ("event_id", "org_id", "user_id", "text"))
    await own.script(keys=[f"bare:mailbox:{user_id}"], args=[text])
    await own.store.read(turn_id, org_id, user_id)
    await own.store.hold(turn_id, org_id, text)
    await own.script(keys=["bare:slots"], args=[turn_id])
    answer = await own.openai.chat.completions.create(**own.request)
    reply = json.loads(answer.choices[0].message.content or "{}")["reply"]
    await own.script(keys=["bare:slots"], args=[turn_id])
    await own.store.settle(turn_id, org_id, reply)
    said = {"replyToken": event["reply_token"], "messages": [{"type": "text", "text": reply}]}
    (await own.line.post("/v2/bot/message/reply", json=said)).raise_for_status()
    await own.store.delivered(turn_id)
    await own.script(keys=[f"bare:session:{user_id}"], args=[reply])
    return Response(status_code=200)
