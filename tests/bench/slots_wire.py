"""The scripts themselves: many connections, one command each at a time, sent as bytes that are ready.

A client library would take longer than Redis does, and hide what a script costs.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from core.adapters import redis_keys
from core.adapters.redis_slots_scripts import KEYS, SlotOptions, SlotScripts, packed, unpacked
from core.ports.slots import OutcomeKind
from tests.support.slots_scene import client

OPTIONS = SlotOptions(org_room=100_000, lease_ms=3_600_000, claim_ms=3_600_000, max_hold_ms=7_200_000)
WAIT_MS = 3_600_000
AT_ONCE = 10
FENCE_TO_COME = (1e300,)


def bulk(*words: Any) -> bytes:
    out = []
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(out)


def fence_in(granted: bytes) -> bytes:
    """The fence in an acquire's reply, as packed as a release wants it: the last number if nobody waited, the
    last but one else."""
    return granted[-10:-2] if granted.startswith(b"$") else granted[-18:-10]


@dataclass(frozen=True, slots=True)
class Rate:
    """Scripts a second of time, and a second of Redis' own processor time (sockets included)."""

    wall: float
    processor: float

    def share_of(self, other: Rate) -> Rate:
        return Rate(self.wall / other.wall, self.processor / other.processor)


class Wire:
    """Keeps 15 slots held and lets waiters take over, as a busy room does."""

    def __init__(self, port: int, name: str = "bench", options: SlotOptions = OPTIONS) -> None:
        self.control = redis.Redis(port=port)
        scripts = SlotScripts(client(f"redis://127.0.0.1:{port}/0"), options)
        self._common = scripts._common
        # A room of its own: other keys, another channel.
        self._keys = [f"{key}:{name}" for key in KEYS]
        self._channel = redis_keys.slots_wake(name)
        self._sha = {
            name: self.control.script_load(getattr(scripts, f"_{name}").source)
            for name in ("acquire", "renew", "release")
        }
        self._sha["empty"] = self.control.script_load("return 1")
        self._heads: dict[str, bytes] = {}
        self._tuning = scripts._tuning
        self._ready: dict[tuple[str, str], list[bytes]] = {}
        self.sockets = [self._connect(port) for _ in range(AT_ONCE)]
        self.ear = self._connect(port)
        self.ear.sendall(b"*2\r\n" + bulk("SUBSCRIBE", self._channel))
        self.heard = self.ear.makefile("rb")
        for _ in range(6):
            self.heard.readline()
        self.held: list[tuple[str, str, bytes]] = []
        self.count = 0
        self.generation = 0.0

    @staticmethod
    def _connect(port: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self) -> None:
        for connection in (*self.sockets, self.ear):
            connection.close()
        self.heard.close()
        self.control.close()

    def command(self, name: str, *args: Any) -> bytes:
        if name not in self._heads:
            self._heads[name] = bulk("EVALSHA", self._sha[name], len(KEYS), *self._keys)
        return b"*%d\r\n%s%s" % (3 + len(KEYS) + len(args), self._heads[name], bulk(*args))

    def _known(self) -> tuple[float, ...]:
        """What each operation begins with: see lua/slots_state.lua."""
        return self.generation, OPTIONS.adaptive, OPTIONS.probe_ms, OPTIONS.global_limit

    def acquire(self, org: str, ticket: str, own_cap: int = 0) -> bytes:
        numbers = packed(*self._known(), WAIT_MS, own_cap, 0, 0, OPTIONS.org_room, 0)
        return self.command("acquire", self._common, numbers, org, ticket, f"{org}/{ticket}", self._channel)

    def release(self, org: str, ticket: str, fence: bytes) -> bytes:
        if (org, ticket) not in self._ready:  # all but the fence
            after = packed(OPTIONS.circuit_window_ms, OPTIONS.cooldown_ms, -1, *self._tuning)
            numbers = packed(*self._known(), *FENCE_TO_COME) + after
            command = self.command("release", self._common, numbers, org, ticket, OutcomeKind.OK.value)
            self._ready[org, ticket] = command.split(packed(*FENCE_TO_COME))
        before, after = self._ready[org, ticket]
        return before + fence + after

    def renew(self, org: str, ticket: str, fence: bytes) -> bytes:
        numbers = packed(*self._known(), OPTIONS.max_hold_ms, 1)
        (number,) = unpacked(fence)
        return self.command("renew", self._common, numbers, org, ticket, int(number))

    def exchange(self, commands: Sequence[bytes]) -> list[bytes]:
        for connection, command in zip(self.sockets, commands, strict=True):
            connection.sendall(command)
        return [connection.recv(4096) for connection in self.sockets]

    def rate(self, commands: int, work: Callable[[], None]) -> Rate:
        """For `work` that calls `commands` scripts."""
        began, spent_s = time.perf_counter(), self._spent_s()
        work()
        return Rate(commands / (time.perf_counter() - began), commands / (self._spent_s() - spent_s))

    def _spent_s(self) -> float:
        spent = self.control.info("cpu")
        return float(spent["used_cpu_user_main_thread"]) + float(spent["used_cpu_sys_main_thread"])

    def empty_rate(self, rounds: int) -> Rate:
        command = [self.command("empty")] * AT_ONCE

        def work() -> None:
            for _ in range(rounds):
                self.exchange(command)

        return self.rate(rounds * AT_ONCE, work)

    def pair_rate(self, rounds: int) -> Rate:
        """Acquire and release with free slots."""
        self._begin_anew()
        asks = [self.acquire(f"o{n}", f"ticket-{n}") for n in range(AT_ONCE)]

        def work() -> None:
            for _ in range(rounds):
                fences = [fence_in(reply) for reply in self.exchange(asks)]
                self.exchange([self.release(f"o{n}", f"ticket-{n}", fence) for n, fence in enumerate(fences)])

        return self.rate(2 * rounds * AT_ONCE, work)

    def _begin_anew(self) -> None:
        self.control.delete(*self._keys)
        self.generation = 0.0
        for _ in range(2):  # the second time as somebody who knows this state
            ask = self.acquire("first", "ticket")
            granted = self._exchange_one(ask)
            self._ready.clear()
            if granted.startswith(b"*"):
                (self.generation,) = struct.unpack_from("<d", granted, len(granted) - 2 - 4 * 8)
            self._exchange_one(self.release("first", "ticket", fence_in(granted)))

    def _exchange_one(self, command: bytes) -> bytes:
        self.sockets[0].sendall(command)
        return self.sockets[0].recv(4096)

    def fill(self, orgs: int) -> None:
        """15 slots held, and `orgs` clinics that wait."""
        self._begin_anew()
        self.held.clear()
        holders = [(f"h{n % 5}", f"t{n}") for n in range(15)]
        for org, ticket in holders:
            fence = fence_in(self._exchange_one(self.acquire(org, ticket)))
            self.held.append((org, ticket, fence))
        for n in range(orgs):
            self._exchange_one(self.acquire(f"o{n}", f"t{n}"))

    def backlog_rate(self, rounds: int) -> Rate:
        """Release, the next waiter's first renewal, and a new waiter of its clinic."""

        def work() -> None:
            for _ in range(rounds):
                ended, self.held = self.held[:AT_ONCE], self.held[AT_ONCE:]
                self.exchange([self.release(*slot) for slot in ended])
                granted = [self.grant() for _ in ended]
                self.exchange([self.renew(*slot) for slot in granted])
                self.held += granted
                asks = []
                for org, _, _ in granted:
                    self.count += 1
                    asks.append(self.acquire(org, f"n{self.count}"))
                self.exchange(asks)

        return self.rate(3 * rounds * AT_ONCE, work)

    def grant(self) -> tuple[str, str, bytes]:
        for _ in range(6):
            self.heard.readline()
        nonce, fence, *_ = self.heard.readline().split()
        org, ticket = nonce.decode().split("/")
        return org, ticket, packed(float(fence))
