"""Servers that say they can't serve now: a primary that was demoted, one that loads, can't save, or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from core.adapters.redis_connection import Redis, connect
from core.adapters.redis_conversations import RedisConversations
from core.adapters.redis_line_tokens import ChannelToken, RedisLineTokens
from core.adapters.redis_mailbox import RedisMailbox
from core.adapters.redis_shaper import RedisShaper
from core.adapters.redis_slots import RedisSlots
from core.adapters.redis_slots_operator import RedisSlotsOperator
from core.adapters.redis_slots_scripts import SlotOptions
from core.adapters.system_clock import SystemClock
from core.domain.errors import RedisUnavailableError
from core.domain.event import Conversation, EventKind, InboundEvent
from core.local.redis_server import RedisServer
from core.ports.line import ChannelCredentials
from core.ports.shaper import Arrival
from tests.support.slots_scene import Room, until

HERE = Conversation("bkk-smile", "line", "U1")
CHANNEL = ChannelCredentials("1650000001", "secret")


class Address:
    """What a Memorystore instance's address does: new connections lead to the present primary, living ones to
    where they were opened."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Address:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            link = asyncio.create_task(_copy(source, sink))
            self._links.add(link)
            link.add_done_callback(self._links.discard)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


@pytest.fixture
async def servers() -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    async with RedisServer() as first, RedisServer() as second:
        yield first, second


def an_event(n: int) -> InboundEvent:
    return InboundEvent(
        event_id=f"E{n}",
        org_id="bkk-smile",
        chat_id=f"U{n}",
        kind=EventKind.TEXT,
        timestamp_ms=n,
        arrived_ms=1,
        text="x",
        message_id=f"M{n}",
    )


Use = Callable[[Redis], Callable[[int], Awaitable[object]]]


def slots(redis: Redis) -> Callable[[int], Awaitable[object]]:
    # A failover that lost the leases is waited out; here that is soon.
    made = RedisSlots(redis, SlotOptions(lease_ms=900), SystemClock())

    async def use(n: int) -> None:
        room = Room()
        await room.turn(made, "a", f"t{n}", wait_s=5)
        await made.close()
        assert room.order

    return use


def mailbox(redis: Redis) -> Callable[[int], Awaitable[object]]:
    made = RedisMailbox(redis, lease_ms=10_000, session_ttl_s=60)
    return lambda n: made.begin(an_event(n))


def shaper(redis: Redis) -> Callable[[int], Awaitable[object]]:
    made = RedisShaper(redis, timeout_s=2)
    return lambda n: made.shape([Arrival(an_event(n), 30)])


def conversations(redis: Redis) -> Callable[[int], Awaitable[object]]:
    made = RedisConversations(redis, lease_ms=10_000)
    return lambda n: made.lead(Conversation("bkk-smile", "line", f"U{n}"))


def operator(redis: Redis) -> Callable[[int], Awaitable[object]]:
    made = RedisSlotsOperator(redis)
    return made.set_limit


def line_tokens(redis: Redis) -> Callable[[int], Awaitable[object]]:
    made = RedisLineTokens(redis)

    async def use(n: int) -> None:
        await made.put(CHANNEL, ChannelToken(f"bearer-{n}", 60))
        kept = await made.get(CHANNEL)
        assert kept is not None
        assert kept.bearer == f"bearer-{n}"

    return use


USES: list[Use] = [slots, mailbox, shaper, conversations, operator, line_tokens]


@pytest.mark.parametrize("made", USES)
async def test_after_a_failover_the_next_call_reaches_the_new_primary(
    servers: tuple[RedisServer, RedisServer], made: Use
) -> None:
    first, second = servers
    async with Address(first.port) as address, connect(address.url) as redis:
        use = made(redis)
        await use(1)
        address.port = second.port
        await first.command("REPLICAOF", "127.0.0.1", str(second.port))
        opened = address.accepted
        await use(2)
        await use(3)
        assert address.accepted - opened <= 3  # one a connection that there was


async def test_without_retries_one_call_fails_and_the_next_is_served(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    first, second = servers
    async with Address(first.port) as address, connect(address.url, tries=1) as redis:
        use = shaper(redis)
        await use(1)
        address.port = second.port
        await first.command("REPLICAOF", "127.0.0.1", str(second.port))
        with pytest.raises(RedisUnavailableError):
            await use(2)
        await use(3)


async def test_who_waits_for_a_slot_is_woken_at_the_new_primary(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    """The wake channel's connection lives on to the demoted one, which hears what the primary publishes."""
    first, second = servers
    options = SlotOptions(global_limit=1, lease_ms=900)
    async with Address(first.port) as address, connect(address.url) as redis:
        made, room = RedisSlots(redis, options, SystemClock()), Room()
        async with asyncio.TaskGroup() as turns:
            turns.create_task(room.turn(made, "a", "holds", 0.5))
            await until(lambda: _ran(room, 1))
            turns.create_task(room.turn(made, "b", "waits", wait_s=10))
            await asyncio.sleep(0.1)
            address.port = second.port
            await first.command("REPLICAOF", "127.0.0.1", str(second.port))
        await made.close()
    assert room.order == ["holds", "waits"]


async def _ran(room: Room, count: int) -> bool:
    return len(room.order) >= count


UNFIT = [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 5bf1, on @user_script:1.",
    "ERR Error running script (call to f_5bf1): @user_script:1: @user_script: 1: -READONLY You can't write.",
    "READONLY Can not run script with write flag on readonly replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "MISCONF Errors writing to the AOF file: No space left on device script: 5bf1, on @user_script:1.",
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
]
FIT = [
    "OOM command not allowed when used memory > 'maxmemory'. script: 5bf1, on @user_script:1.",
    "ERR Error running script (call to f_5bf1): @user_script:1: @user_script: 1: -OOM command not allowed.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR unknown command 'READONLYISH', with args beginning with: BUSYNESS",
    "BUSYKEY Target key name already exists.",
    "BUSYGROUP Consumer Group name already exists",
]


class Refusing:
    """The far side of a socket: says `error` to the first `times` commands after the greeting, else OK."""

    def __init__(self, error: str, times: int) -> None:
        self.error, self.times = error, times
        self.accepted = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with suppress(OSError):
            while said := await reader.read(65536):
                if b"HELLO" in said:
                    writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                    continue
                self.times -= 1
                writer.write(f"-{self.error}\r\n".encode() if self.times >= 0 else b"+OK\r\n")
                await writer.drain()
        writer.close()


async def ask(far: Refusing, *, tries: int) -> object:
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with connect(f"redis://127.0.0.1:{port}/0", tries=tries) as redis:
            try:
                return await redis.set("key", "value")
            finally:
                await redis.set("key", "value")
    finally:
        server.close()


@pytest.mark.parametrize("error", UNFIT)
async def test_a_server_that_can_not_serve_loses_its_connection_and_is_asked_once_more(error: str) -> None:
    far = Refusing(error, times=1)
    assert await ask(far, tries=2)
    assert far.accepted == 2


@pytest.mark.parametrize("error", UNFIT)
async def test_who_does_not_retry_hears_of_it_as_of_a_lost_connection(error: str) -> None:
    far = Refusing(error, times=1)
    with pytest.raises(RedisConnectionError):
        await ask(far, tries=1)
    assert far.accepted == 2


@pytest.mark.parametrize("error", FIT)
async def test_what_says_nothing_about_the_server_keeps_the_connection(error: str) -> None:
    far = Refusing(error, times=1)
    with pytest.raises(ResponseError):
        await ask(far, tries=2)
    assert far.accepted == 1
