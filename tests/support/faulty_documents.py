"""A document store on a bad day: commits that are made and answer an error, or that are not made, and
documents that stay contended.

`FaultyDocuments` stands before any store. `FaultyFirestore` is a server before Firestore's emulator,
so that its errors pass through the client and the adapter.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import grpc

from core.domain.errors import DocumentsUnavailableError
from core.ports.documents import ConflictError, Document, DocumentStore, Key, Version, Where, Write

CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED")


Context = grpc.aio.ServicerContext[bytes, bytes]


class Fate(StrEnum):
    GOOD = "good"
    LANDED = "landed"  # made, but an error is answered
    LOST = "lost"  # not made
    CONTENDED = "contended"


@dataclass
class CommitFaults:
    """`landed`, `lost`: shares of the commits that end so, answered with one of `codes`. `script`: what
    becomes of the next ones, before chance decides. `contended`: documents (`collection/id`) that no commit
    may write for now. `counts`: what became of those there were."""

    landed: float = 0.0
    lost: float = 0.0
    seed: int = 0
    codes: Sequence[str] = CODES
    script: list[Fate] = field(default_factory=list)
    contended: Collection[str] = ()
    counts: Counter[Fate] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def next(self, written: Collection[str]) -> tuple[Fate, str]:
        """The fate of a commit that writes these documents, and the code that is answered."""
        chance = self._dice.random()
        if any(name in self.contended for name in written):
            fate = Fate.CONTENDED
        elif self.script:
            fate = self.script.pop(0)
        elif chance < self.landed:
            fate = Fate.LANDED
        else:
            fate = Fate.LOST if chance < self.landed + self.lost else Fate.GOOD
        self.counts[fate] += 1
        return fate, "ABORTED" if fate is Fate.CONTENDED else self._dice.choice(self.codes)


class FaultyDocuments:
    def __init__(self, documents: DocumentStore, faults: CommitFaults) -> None:
        self._documents = documents
        self._faults = faults

    async def get_many(self, keys: Sequence[Key]) -> list[Document | None]:
        return await self._documents.get_many(keys)

    async def query(self, collection: str, where: Sequence[Where] = (), **how: Any) -> list[Document]:
        return await self._documents.query(collection, where, **how)

    async def commit(self, writes: Sequence[Write]) -> list[Version]:
        fate, code = self._faults.next([f"{write.key.collection}/{write.key.id}" for write in writes])
        versions = await self._documents.commit(writes) if fate in {Fate.GOOD, Fate.LANDED} else []
        if fate is Fate.GOOD:
            return versions
        raise ConflictError(code) if code == "ABORTED" else DocumentsUnavailableError(code)

    async def close(self) -> None:
        await self._documents.close()


class FaultyFirestore:
    """Serves at `address` what the emulator at `emulator` does, but for its commits' faults."""

    def __init__(self, emulator: str, faults: CommitFaults) -> None:
        self._emulator = emulator
        self._faults = faults
        self.address = ""

    async def __aenter__(self) -> FaultyFirestore:
        self._channel = grpc.aio.insecure_channel(self._emulator)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((_Handlers(self._channel, self._faults),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        await self._channel.close()


class _Handlers(grpc.GenericRpcHandler):
    """Messages pass as they are; only a commit's documents are looked at."""

    def __init__(self, channel: grpc.aio.Channel, faults: CommitFaults) -> None:
        self._channel = channel
        self._faults = faults

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = str(details.method)

        async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
            call: Any = self._channel.unary_stream(method)
            try:
                async for answer in call(request, metadata=_passed_on(context)):
                    yield answer
            except grpc.aio.AioRpcError as exc:
                await context.abort(exc.code(), exc.details() or "")

        async def unary(request: bytes, context: Context) -> bytes:
            fate, code = Fate.GOOD, ""
            if method.endswith("/Commit"):
                fate, code = self._faults.next([n for n in self._faults.contended if n.encode() in request])
            answer = b""
            call: Any = self._channel.unary_unary(method)
            try:
                if fate in {Fate.GOOD, Fate.LANDED}:
                    answer = await call(request, metadata=_passed_on(context))
            except grpc.aio.AioRpcError as exc:
                await context.abort(exc.code(), exc.details() or "")
            if fate is not Fate.GOOD:
                await context.abort(grpc.StatusCode[code], f"a test: {fate}")
            return answer

        if method.endswith(("/BatchGetDocuments", "/RunQuery")):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)


def _passed_on(context: Context) -> list[tuple[str, Any]]:
    own = ("user-agent", "content-type", "te", "grpc-")
    return [(name, value) for name, value in context.invocation_metadata() or () if not name.startswith(own)]
