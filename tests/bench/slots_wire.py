"""The scripts themselves: many connections, one command each at a time, sent as bytes that are ready.

A client library would take longer than Redis does, and hide what a script costs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from core.adapters import redis_keys
from core.adapters.redis_slots_scripts import KEYS, SlotOptions, SlotScripts
from core.ports.slots import OutcomeKind
from tests.adapters.slots_scene import client

OPTIONS = SlotOptions(org_room=100_000, lease_ms=3_600_000, claim_ms=3_600_000, max_hold_ms=7_200_000)
WAIT_MS = 3_600_000
AT_ONCE = 10


def bulk(*words: Any) -> bytes:
    out = []
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(out)


@dataclass(frozen=True, slots=True)
class Rate:
    """Scripts a second of time, and a second of Redis' own processor time (sockets included)."""

    wall: float
    processor: float

    def share_of(self, other: Rate) -> Rate:
        return Rate(self.wall / other.wall, self.processor / other.processor)


class Wire:
    """Keeps 15 slots held and lets waiters take over, as a busy room does."""

    def __init__(self, port: int, name: str = "bench") -> None:
        self.control = redis.Redis(port=port)
        scripts = SlotScripts(client(f"redis://127.0.0.1:{port}/0"), OPTIONS)
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
        outcome = (
            OutcomeKind.OK.value, OPTIONS.cooldown_ms, -1,
            OPTIONS.circuit_window_ms, scripts._tuning,
        )  # fmt: skip
        self._outcome = (len(outcome), bulk(*outcome))
        self.sockets = [self._connect(port) for _ in range(AT_ONCE)]
        self.ear = self._connect(port)
        self.ear.sendall(b"*2\r\n" + bulk("SUBSCRIBE", self._channel))
        self.heard = self.ear.makefile("rb")
        for _ in range(6):
            self.heard.readline()
        self.held: list[tuple[str, str, bytes]] = []
        self.count = 0

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

    def command(self, name: str, *args: Any, tail: tuple[int, bytes] = (0, b"")) -> bytes:
        """`tail`: number of further arguments, and these ready to be sent."""
        common = () if name == "empty" else self._common
        if name not in self._heads:
            self._heads[name] = bulk("EVALSHA", self._sha[name], len(KEYS), *self._keys, *common)
        count = 3 + len(KEYS) + len(common) + len(args) + tail[0]
        return b"*%d\r\n%s%s%s" % (count, self._heads[name], bulk(*args), tail[1])

    def acquire(self, org: str, ticket: str, own_cap: int = 0) -> bytes:
        waiting = (self._channel, WAIT_MS, own_cap, 0, 0, OPTIONS.org_room)
        return self.command("acquire", org, ticket, f"{org}/{ticket}", *waiting)

    def release(self, org: str, ticket: str, fence: bytes) -> bytes:
        return self.command("release", org, ticket, fence, tail=self._outcome)

    def renew(self, org: str, ticket: str, fence: bytes) -> bytes:
        return self.command("renew", OPTIONS.max_hold_ms, 1, org, ticket, fence)

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
        self.control.delete(*self._keys)
        asks = [self.acquire(f"o{n}", f"ticket-{n}") for n in range(AT_ONCE)]

        def work() -> None:
            for _ in range(rounds):
                fences = [reply.split(b"\r\n", 5)[4][1:] for reply in self.exchange(asks)]
                self.exchange([self.release(f"o{n}", f"ticket-{n}", fence) for n, fence in enumerate(fences)])

        return self.rate(2 * rounds * AT_ONCE, work)

    def fill(self, orgs: int) -> None:
        """15 slots held, and `orgs` clinics that wait."""
        self.control.delete(*self._keys)
        self.held.clear()
        holders = [(f"h{n % 5}", f"t{n}") for n in range(15)]
        for org, ticket in holders:
            self.sockets[0].sendall(self.acquire(org, ticket))
            fence = self.sockets[0].recv(4096).split(b"\r\n", 5)[4][1:]
            self.held.append((org, ticket, fence))
        for n in range(orgs):
            self.sockets[0].sendall(self.acquire(f"o{n}", f"t{n}"))
            self.sockets[0].recv(4096)

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
        return org, ticket, fence
