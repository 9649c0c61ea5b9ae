"""The limit, counted where the provider stands: several processes, some killed, tickets asked for twice.

Every process tells one datagram socket when a call begins and ends, so that the order of what is counted is
the order in which it happened.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from core.domain.errors import FairlaneError
from core.local.redis_server import RedisServer
from core.ports.slots import NoSlotError, Outcome, OutcomeKind, SlotLostError
from tests.support.slots_scene import process, request

ROOT = Path(__file__).parents[2]
LIMIT, ORG_CAP, ORGS, TASKS = 15, 5, 12, 8
OPTIONS: dict[str, Any] = {"global_limit": LIMIT, "per_org_limit": ORG_CAP, "lease_ms": 2000, "org_room": 40}


@dataclass
class Counted:
    grants: int = 0
    most: int = 0
    most_of_one: int = 0
    violations: int = 0
    kills: int = 0
    taken: int = 0
    seconds: float = 0.0
    running: dict[tuple[str, str], int] = field(default_factory=dict)

    def hear(self, said: str) -> None:
        """`+`/`-` pid org ticket, or `x` pid: that process is gone, and its calls with it; `t`: a ticket that
        another process had."""
        kind, pid, *call = said.split(" ")
        if kind == "x":
            self.running = {key: owner for key, owner in self.running.items() if owner != int(pid)}
        elif kind == "t":
            self.taken += 1
        elif kind == "-":
            self.running.pop((call[0], call[1]), None)
        else:
            org, ticket = call
            self.violations += (org, ticket) in self.running
            self.running[org, ticket] = int(pid)
            self.grants += 1
            of_one = Counter(owner for owner, _ in self.running)[org]
            self.most, self.most_of_one = max(self.most, len(self.running)), max(self.most_of_one, of_one)
            self.violations += len(self.running) > LIMIT or of_one > ORG_CAP


async def caller(url: str, path: str) -> None:
    """One process: keeps asking for slots until it is ended."""
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.connect(path)
    pid = os.getpid()

    async def turns(slots: Any, chance: random.Random) -> None:
        while True:
            # Few numbers, so that processes ask for the same ticket at the same time.
            org = f"org-{int(chance.random() ** 2 * ORGS)}"
            ticket = str(chance.randrange(1000))
            with suppress(SlotLostError):
                try:
                    async with slots.hold(request(org, ticket, 20)) as slot:
                        ear.send(f"+ {pid} {org} {ticket}".encode())
                        try:
                            await asyncio.sleep(chance.random() * 0.002)
                            slot.outcome = Outcome(OutcomeKind.OK)
                        finally:
                            ear.send(f"- {pid} {org} {ticket}".encode())
                except NoSlotError:
                    ear.send(f"t {pid}".encode())
                    await asyncio.sleep(0.001)
                except FairlaneError:
                    await asyncio.sleep(0.05)

    async with process(url, **OPTIONS) as slots:
        await asyncio.gather(*(turns(slots, random.Random(pid * 1000 + n)) for n in range(TASKS)))


async def spawn(url: str, path: str) -> asyncio.subprocess.Process:
    plan = json.dumps([url, path])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.slots_provider", plan, cwd=ROOT
    )


async def count(grants: int, *, processes: int = 4, kill_every_s: float = 6.0) -> Counted:
    """Run until `grants` calls were counted; every `kill_every_s` one process is killed and replaced."""
    counted, chance = Counted(), random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "provider")
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.bind(path)
        ear.setblocking(False)
        loop = asyncio.get_running_loop()

        def hear() -> None:
            with suppress(BlockingIOError):
                while True:
                    counted.hear(ear.recv(200).decode())

        loop.add_reader(ear, hear)
        async with RedisServer() as redis:
            children = [await spawn(redis.url, path) for _ in range(processes)]
            began = time.monotonic()
            try:
                next_kill = began + kill_every_s
                while counted.grants < grants:
                    await asyncio.sleep(0.05)
                    if time.monotonic() >= next_kill:
                        next_kill += kill_every_s
                        victim = chance.randrange(processes)
                        await _kill(children[victim], path)
                        counted.kills += 1
                        children[victim] = await spawn(redis.url, path)
            finally:
                for child in children:
                    await _kill(child, path)
            counted.seconds = time.monotonic() - began
        loop.remove_reader(ear)
        ear.close()
    return counted


async def _kill(child: asyncio.subprocess.Process, path: str) -> None:
    child.send_signal(signal.SIGKILL)
    await child.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        await asyncio.get_running_loop().sock_connect(mouth, path)
        told = False
        while not told:
            with suppress(BlockingIOError):
                told = bool(mouth.send(f"x {child.pid}".encode()))
            await asyncio.sleep(0.001)


if __name__ == "__main__":
    uvloop.run(caller(*json.loads(sys.argv[1])))
